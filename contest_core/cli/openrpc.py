"""`contest openrpc`: the contract of JSON-RPC, for programs that generate clients, tests or documentation."""

from __future__ import annotations

import click

from contest_core.cli.group import OWN, output_option


@click.command(short_help=OWN["openrpc"].summary)
@output_option()
def openrpc(output: str | None) -> None:
    """Print the OpenRPC document of JSON-RPC, on lines and on websocket.

    It has every verb with its parameters, answers and errors, for programs that generate clients, tests or
    documentation. It needs no server, and is of one that offers everything; a running one answers the method
    `rpc.discover` with what its own job manager offers:

    \b
      contest openrpc --output openrpc.json
      echo '{"jsonrpc": "2.0", "id": 1, "method": "rpc.discover"}' | contest serve -c stdio.yaml

    See https://open-rpc.org. For HTTP there is `contest openapi`.
    """
    from contest_core.api import ALL
    from contest_core.cli.files import give
    from contest_core.openrpc import document

    give(document(ALL), output, "the OpenRPC document of JSON-RPC")
