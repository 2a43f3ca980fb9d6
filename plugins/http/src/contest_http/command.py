"""`contest openapi`: the contract of HTTP, for programs that generate clients, tests or documentation."""

from __future__ import annotations

import click

from contest_core.cli.group import output_option


@click.command(short_help="Print the OpenAPI document of HTTP.")
@output_option()
def openapi(output: str | None) -> None:
    """Print the OpenAPI document of HTTP.

    It has every verb with its parameters, answers and errors, for programs that generate clients, tests or
    documentation. It needs no server, and is of one that offers everything; a running one serves what its own job
    manager offers:

    \b
      contest openapi --output openapi.json
      curl http://localhost:8080/openapi.json

    See https://www.openapis.org. For JSON-RPC there is `contest openrpc`.
    """
    from contest_core.api import ALL
    from contest_core.cli.files import give
    from contest_http.openapi import document

    give(document(ALL, authenticated=None), output, "the OpenAPI document of HTTP")
