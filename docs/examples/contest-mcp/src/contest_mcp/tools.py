"""The tools: one for each verb that the server offers. Knows the types of MCP, and no streams."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext

from contest_core import (
    API,
    VERBS,
    Caller,
    ContestError,
    InternalError,
    ResponseType,
    UnknownVerb,
    Verb,
    encode,
)

Log = logging.LoggerAdapter[logging.Logger]


class Tools:
    """What a host is offered, and what becomes of a call."""

    def __init__(self, api: API, caller: Callable[[], Caller], log: Log) -> None:
        self._api = api
        self._caller = caller
        self._log = log

    async def list(
        self, context: ServerRequestContext[Any], parameters: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """All at once: there are not many."""
        return types.ListToolsResult(
            tools=[self._tool(verb) for verb in VERBS.values() if self._offers(verb)]
        )

    async def call(
        self, context: ServerRequestContext[Any], parameters: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """The object that HTTP has. Where there is an error, it is one of the tool: the model reads it."""
        answer = json.loads(await self._answer(parameters.name, parameters.arguments or {}))
        return types.CallToolResult(
            content=[types.TextContent(text=json.dumps(answer, ensure_ascii=False))],
            structured_content=answer,
            is_error=bool(answer.get("Error") or "Msg" in answer),
        )

    async def _answer(self, verb: str, arguments: dict[str, object]) -> bytes:
        caller: Caller | None = None
        try:
            if verb not in VERBS or not self._offers(VERBS[verb]):
                raise UnknownVerb(verb=verb)
            caller = self._caller()
            return encode(await self._api.call(caller, verb, arguments))
        except ContestError as error:
            return encode(error)
        # The one boundary of a request: whatever else is raised is a fault of the server.
        except Exception:
            request_id = caller.request_id if caller is not None else "-"
            self._log.exception("request %s (%s) failed", request_id, verb)
            return encode(InternalError(request_id=request_id))

    def _offers(self, verb: Verb) -> bool:
        # A tool answers once: it is no place for a watch.
        if verb.response is ResponseType.WATCH:
            return False
        return verb.event is None or verb.name in self._offered()

    def _offered(self) -> frozenset[str]:
        return frozenset(self._api.version().data.capabilities or ())

    def _tool(self, verb: Verb) -> types.Tool:
        offered = self._offered()
        parameters = [
            each for each in verb.parameters if each.capability is None or each.capability in offered
        ]
        return types.Tool(
            name=verb.name,
            description=verb.summary,
            input_schema={
                "type": "object",
                "properties": {
                    each.name: {**(each.json or each.text), "description": each.help} for each in parameters
                },
                "required": [each.name for each in parameters if each.required],
                "additionalProperties": False,
            },
            annotations=types.ToolAnnotations(
                read_only_hint=verb.reads, destructive_hint=verb.name == "stop", open_world_hint=False
            ),
        )
