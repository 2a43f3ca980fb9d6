"""The hook implementations of contest-stdio."""

from __future__ import annotations

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_listeners(registry: Registry) -> None:
    """The listener `stdio`."""
    registry.add(
        "stdio",
        "contest_stdio.listener:StdioListener",
        summary="JSON-RPC 2.0 as JSON lines on stdin and stdout.",
    )


@hookimpl
def contest_register_clients(registry: Registry) -> None:
    """The client for addresses `stdio:COMMAND`."""
    registry.add(
        "stdio", "contest_stdio.client:StdioClient", summary="Spawns a command that serves JSON lines."
    )
