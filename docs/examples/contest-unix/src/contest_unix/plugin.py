"""What this distribution contributes to Contest."""

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_listeners(registry: Registry) -> None:
    """The listener `unix`."""
    registry.add("unix", "contest_unix.listener:UnixListener", summary="JSON lines over a unix socket.")


@hookimpl
def contest_register_clients(registry: Registry) -> None:
    """The client for addresses `unix:PATH`."""
    registry.add("unix", "contest_unix.client:UnixClient", summary="JSON lines over a unix socket.")
