"""What this distribution adds to Contest: the listener `http`, and the client for `http://` and `https://`."""

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_listeners(registry: Registry) -> None:
    """Adds the listener."""
    registry.add("http", "contest_http.listener:HttpListener", summary="HTTP, as ConTest speaks it.")


@hookimpl
def contest_register_clients(registry: Registry) -> None:
    """Adds the client."""
    registry.add("http", "contest_http.client:HttpClient", summary="HTTP, to ours or to a ConTest server.")
    registry.add("https", "contest_http.client:HttpClient", summary="The same over TLS.")
