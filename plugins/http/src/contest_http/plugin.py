"""What this distribution adds: the listener `http`, the client for `http://` and `https://`, and `contest openapi`."""

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


@hookimpl
def contest_register_commands(registry: Registry) -> None:
    """Adds the command."""
    registry.add("openapi", "contest_http.command:openapi", summary="Print the OpenAPI document of HTTP.")
