"""What this distribution contributes to Contest."""

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_listeners(registry: Registry) -> None:
    """The listener `spool`."""
    registry.add("spool", "contest_spool.listener:SpoolListener", summary="Takes requests from a directory.")
