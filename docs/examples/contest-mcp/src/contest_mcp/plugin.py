"""What this distribution contributes to Contest."""

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_listeners(registry: Registry) -> None:
    """The listener `mcp`."""
    registry.add(
        "mcp", "contest_mcp.listener:McpListener", summary="Tools for MCP hosts, on stdin and stdout."
    )
