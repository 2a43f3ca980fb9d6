"""From a request's body to the parameters of a verb: a form in either encoding, or a JSON object.

Called by the application; knows neither verbs nor sockets. The forms are read as ConTest's listener reads them: the
first value of a name counts. Where ConTest silently drops what is malformed, this refuses and says why.
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Mapping
from typing import Final

import msgspec

from contest_core.errors import InvalidMessage, TooLarge
from contest_core.verbs import Form

MAX_FIELDS: Final = 1000
"""Fields of one form."""

MAX_PART_HEADER: Final = 8192
"""Bytes of headers of one part of a multipart form."""

URLENCODED: Final = b"application/x-www-form-urlencoded"

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BOUNDARY: Final = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
# With \ as an escape, as curl has it; where no name comes of that, as itself, as browsers have it.
_NAME: Final = re.compile(rb'[;\s]name=(?:"((?:[^"\\]|\\.)*)"|"([^"]*)"|([^\s;"]+))', re.IGNORECASE)
_PLAIN: Final = (b"7bit", b"8bit", b"binary")


def read_parameters(content_type: bytes | None, body: bytes | bytearray) -> Mapping[str, object]:
    """The parameters in a body. Raises `InvalidMessage`, and `TooLarge` where there are too many."""
    if content_type == URLENCODED:
        return parse_form(body)
    if not body:
        return Form()
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    if kind == URLENCODED:
        return parse_form(body)
    if kind == b"multipart/form-data":
        return parse_multipart(content_type or b"", body)
    if kind == b"application/json":
        return parse_object(body)
    shown = repr(kind[:60].decode("latin-1")) if kind else "without a content type"
    raise InvalidMessage(
        reason=f"a body {shown} is not read; there are {URLENCODED.decode()}, multipart/form-data, application/json"
    )


def parse_form(body: bytes | bytearray) -> Form:
    """A form as browsers, curl and ConTest's client send it."""
    form = Form()
    if b"%" in body and (bad := _BAD_ESCAPE.search(body)):
        raise InvalidMessage(reason=f"the form has a % that is no escape, at byte {bad.start()}")
    pairs = body.split(b"&", MAX_FIELDS)
    if len(pairs) > MAX_FIELDS:
        raise TooLarge(what="the form", limit=MAX_FIELDS, unit="fields")
    try:
        for pair in pairs:
            if pair:
                name, _, value = pair.partition(b"=")
                form.setdefault(_decode(name), _decode(value))
    except UnicodeDecodeError:
        raise InvalidMessage(reason="the form is not UTF-8") from None
    return form


def _decode(text: bytes | bytearray) -> str:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    if b"%" in text:
        # Quoted-printable has the same escapes behind another sign, and its decoder is in C: a descriptor of 16 MiB
        # takes 0.1 s this way and 2 s by urllib's. Every % is a whole escape here, see above.
        text = a2b_qp(text.replace(b"=", b"=3D").replace(b"%", b"="))
    return str(text, "utf-8")


def parse_multipart(content_type: bytes, body: bytes | bytearray) -> Form:
    """A form as RFC 7578 has it; a file's content is the value of its field."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidMessage(reason="the multipart form does not say its boundary")
    boundary = re.escape(found[1] or found[2])
    form = Form()
    start: int | None = None
    whole = b"\r\n" + body
    for count, delimiter in enumerate(
        re.finditer(rb"\r\n--" + boundary + rb"(--)?[ \t]{0,64}(?=\r\n|\Z)", whole)
    ):
        if count > MAX_FIELDS:
            raise TooLarge(what="the form", limit=MAX_FIELDS, unit="fields")
        if start is not None:
            name, value = _part(whole, start, delimiter.start())
            form.setdefault(name, value)
        if delimiter[1]:
            return form
        start = delimiter.end() + 2
    raise InvalidMessage(reason="the multipart form ends in the middle")


def _part(whole: bytes, start: int, end: int) -> tuple[str, str]:
    # Of an empty value, the blank line may end with the delimiter's own line end.
    split = whole.find(b"\r\n\r\n", start - 2, min(end + 2, start + MAX_PART_HEADER))
    if split < 0:
        raise InvalidMessage(reason="a part of the multipart form has no end of its headers")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in whole[start:split].split(b"\r\n"))
    }
    disposition = headers.get(b"content-disposition", b"")
    found = _NAME.search(disposition)
    if found is None or not disposition.lower().startswith(b"form-data"):
        raise InvalidMessage(reason="a part of the multipart form has no name")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN:
        raise InvalidMessage(reason="a part of the multipart form is encoded; send it as it is")
    name = found[3] or found[2] or re.sub(rb"\\(.)", rb"\1", found[1] or b"")
    try:
        return str(name, "utf-8"), str(whole[split + 4 : end], "utf-8")
    except UnicodeDecodeError:
        raise InvalidMessage(reason="a part of the multipart form is not UTF-8") from None


def parse_object(body: bytes | bytearray) -> dict[str, object]:
    """A JSON object."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(reason=f"the body is no JSON: {error}", parse=True) from None
    if not isinstance(found, dict):
        raise InvalidMessage(reason=f"the body is no JSON object but a {type(found).__name__}")
    return found
