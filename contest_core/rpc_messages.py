"""Reading JSON-RPC 2.0 messages: bytes in; requests, batches or what is wrong with them out.

Used by `contest_core.rpc` only. Nothing here waits, sends or knows the API; every message yields something to
answer with, whatever bytes it has.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from contest_core.errors import ContestError, InvalidMessage, InvalidParameters, TooLarge
from contest_core.verbs import VERBS

NULL: Final = b"null"
"""The id of an answer to what has no id that could be told."""

ID_BEGINS: Final = b'"-0123456789n'
"""With what JSON that may be an id begins: a string, a number or null."""


class Request(Struct):
    """A request as the specification wants it; `id` is kept as it was written, empty in a notification."""

    jsonrpc: Literal["2.0"]
    method: str
    params: dict[str, Any] | list[Any] | None = None
    id: Raw = Raw()


class _Loose(Struct):
    """Any JSON object, to say what in it is no request."""

    jsonrpc: Raw = Raw()
    method: Raw = Raw()
    params: Raw = Raw()
    id: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()


class Malformed(Struct):
    """What is no request; the id is empty where nothing is answered: to a notification, or to a response."""

    error: ContestError
    id: bytes = NULL


class Batch:
    """The answers of one batch of `count` requests, in the order of these.

    `missing` says how many are still to come, `size` how many bytes there are.
    """

    def __init__(self, count: int) -> None:
        self.missing = count
        self.size = 0
        self.answers: list[bytes | None] = [None] * count
        """By position; None for a notification, and for what is still to come."""

    def put(self, position: int, answer: bytes | None) -> None:
        """The answer to the request at that position; None for a notification."""
        self.missing -= 1
        if answer is not None:
            self.answers[position] = answer
            self.size += len(answer) + 1

    def encode(self) -> bytes:
        """The message that carries them."""
        return b"[%b]" % b",".join(answer for answer in self.answers if answer is not None)


_request_decoder = msgspec.json.Decoder(Request)
_loose_decoder = msgspec.json.Decoder(_Loose)
_batch_decoder = msgspec.json.Decoder(list[Raw])


def parse(message: bytes, max_batch: int) -> Request | Malformed | list[Raw]:
    """What a message is; a list has the members of a batch, each for `parse_member`."""
    try:
        # msgspec does not look at the encoding of what it skips, and an id is copied into the answer.
        if not message.isascii():
            message.decode()
        return _request_decoder.decode(message)
    except msgspec.ValidationError as error:
        return _parse_other(message, max_batch, error)
    except RecursionError:
        return _too_deep()
    # UnicodeDecodeError and msgspec's DecodeError are both this.
    except ValueError as error:
        return Malformed(InvalidMessage(reason=f"it is not JSON: {error}", parse=True))


def _parse_other(message: bytes, max_batch: int, why: msgspec.ValidationError) -> Malformed | list[Raw]:
    """What is JSON (perhaps) but no single request: a batch, or something invalid."""
    try:
        if not message.lstrip().startswith(b"["):
            return _diagnose(message, why)
        members = _batch_decoder.decode(message)
    except RecursionError:
        return _too_deep()
    except msgspec.DecodeError as error:
        return Malformed(InvalidMessage(reason=f"it is not JSON: {error}", parse=True))
    if not members:
        return Malformed(InvalidMessage(reason="the batch is empty"))
    if len(members) > max_batch:
        return Malformed(
            TooLarge(
                what="the batch", size=len(members), limit=max_batch, unit="requests", setting="max_batch"
            )
        )
    return members


def parse_member(member: Raw) -> Request | Malformed:
    """What a member of a batch is."""
    try:
        return _request_decoder.decode(member)
    except RecursionError:
        return _too_deep()
    except msgspec.DecodeError as error:
        return _diagnose(bytes(member), error)


def _diagnose(message: bytes, why: msgspec.DecodeError) -> Malformed:
    """Why this is no request, with its id where that can be told. Raises `DecodeError` for what is no JSON."""
    if not message.lstrip().startswith(b"{"):
        msgspec.json.decode(message, type=Raw)
        return Malformed(InvalidMessage(reason="a request is a JSON object"))
    loose = _loose_decoder.decode(message)
    identity = bytes(loose.id)
    known = identity if identity and identity[0] in ID_BEGINS else NULL
    params = bytes(loose.params)[:1]
    if _is_response(loose):
        return Malformed(InvalidMessage(reason="it is a response, and nothing was asked"), b"")
    if bytes(loose.jsonrpc) != b'"2.0"':
        reason = 'jsonrpc must be the string "2.0"'
    elif bytes(loose.method)[:1] != b'"':
        reason = "method must be a string"
    elif params and params not in b"{[n":
        reason = "params must be an object"
    else:
        return Malformed(
            InvalidParameters(reason=f"params cannot be read: {why}"), known if identity else b""
        )
    return Malformed(InvalidMessage(reason=reason), known)


def _is_response(loose: _Loose) -> bool:
    """Whether this is a response, which only requests get: two servers would else answer each other for ever."""
    if bytes(loose.jsonrpc) != b'"2.0"' or bytes(loose.method):
        return False
    identity = bytes(loose.id)
    one_of_two = bool(bytes(loose.result)) != bool(bytes(loose.error))
    return one_of_two and bool(identity) and identity[0] in ID_BEGINS


def _too_deep() -> Malformed:
    return Malformed(InvalidMessage(reason="it is nested too deeply", parse=True))


def is_quick(request: Request | Malformed) -> bool:
    """Whether its answer needs nobody else, so that a task of its own would be a waste."""
    if isinstance(request, Malformed):
        return True
    verb = VERBS.get(request.method)
    return verb is None or verb.event is None


def parameters(request: Request) -> dict[str, Any]:
    """The parameters by name. Raises `InvalidParameters` for parameters by position, which no verb has."""
    params = request.params
    if not params:
        return {}
    if type(params) is dict:
        return params
    verb = VERBS.get(request.method)
    if verb is None:
        return {}
    names = ", ".join(parameter.name for parameter in verb.parameters) or "requestor"
    reason = f"parameters are by name: params must be an object ({names}), not an array"
    raise InvalidParameters(reason=reason, verb=verb.name.capitalize())
