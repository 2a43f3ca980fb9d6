"""What this distribution adds to Contest: the listener `websocket`, and the client for `ws://` and `wss://`."""

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_listeners(registry: Registry) -> None:
    """Adds the listener."""
    registry.add(
        "websocket", "contest_websocket.listener:WebsocketListener", summary="JSON-RPC 2.0 on websocket."
    )


@hookimpl
def contest_register_clients(registry: Registry) -> None:
    """Adds the client."""
    registry.add("ws", "contest_websocket.client:WebsocketClient", summary="JSON-RPC 2.0 on websocket.")
    registry.add("wss", "contest_websocket.client:WebsocketClient", summary="The same over TLS.")
