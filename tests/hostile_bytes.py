"""Bytes that are nearly right: what hypothesis makes of valid requests, answers and files; for tests of every parser.

Bytes at random hardly get past the first character. Here something valid is cut into tokens, and some of them are
replaced, doubled, dropped or moved, mostly by what is a parser's nightmare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[A-Za-z0-9_.+-]+|[ \t]+|\r\n|.', re.DOTALL)

OF_JSON = [
    *b"null true -0 0 -1 1 2147483648 9223372036854775807 9223372036854775808 1e5 1e400 -1e-400".split(b" "),
    *b'0.1 NaN Infinity [] {} "" [[]] {"":""} [1,"a",null] {"a":1,"a":2} "1" "-1" "true"'.split(b" "),
    *b'"\xff\xfe" "\\ud800" "\\udfff\\ud800" "\\u0000" "\\x" "\n'.split(b" "),
    *b"' // , : [ ] { }".split(b" "),
    b"9" * 400,
    b"0." + b"3" * 400,
    b"[" * 3000,
    b'{"a":' * 3000,
    b"[" * 400 + b"]" * 400,
    b'{"a":' * 400 + b"1" + b"}" * 400,
    b'"' + b"x" * 70_000 + b'"',
    b"\xef\xbb\xbf",
    b"\x00",
    b"\x1b[2J",
]
"""What may stand in JSON, or in its place."""

OF_HTTP = [
    *b"0 -1 +3 0x3 3,3 99999999999999999999 chunked gzip identity 100-continue".split(b" "),
    *b"Content-Length Transfer-Encoding Host Expect Upgrade GET POST PRI CONNECT *".split(b" "),
    *b"HTTP/1.0 HTTP/2.0 HTTP/9.9 http://x/version % %zz %00 %ff%fe & = + ; ? # // ..".split(b" "),
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\x00", b"\xff", b" ", b"\t"),
    b"a" * 40_000,
    b"Y: z\r\n" * 200,
]
"""What may stand in the head of a request, or in a form."""


@st.composite
def mangled(
    draw: st.DrawFn, valid: Sequence[bytes], tokens: Sequence[bytes] = OF_JSON, most: int = 4
) -> bytes:
    """One of the valid texts, after a few changes; seldom after none."""
    pieces = TOKENS.findall(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(pieces)))
        change = draw(st.sampled_from(["replace", "insert", "drop", "double", "move", "cut", "bytes"]))
        if change == "replace":
            pieces[place : place + 1] = [draw(st.sampled_from(tokens))]
        elif change == "insert":
            pieces.insert(place, draw(st.sampled_from(tokens)))
        elif change == "drop":
            del pieces[place : place + draw(st.integers(1, 6))]
        elif change == "double":
            length = draw(st.integers(1, 12))
            pieces[place:place] = pieces[place : place + length]
        elif change == "move":
            pieces.insert(draw(st.integers(0, len(pieces))), pieces[place] if place < len(pieces) else b",")
        elif change == "cut":
            del pieces[place:]
        else:
            pieces.insert(place, draw(st.binary(max_size=8)))
    return b"".join(pieces)


def explore(
    strategy: st.SearchStrategy[Any], examine: Callable[[Any], None], *, examples: int, share: int = 0
) -> None:
    """Runs an examination over examples: of share 0 other ones every time, of any other the same."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(example: Any) -> None:
        examine(example)

    (seed(share)(run) if share else run)()


# --- requests


def job(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A small job of one test."""
    test = {
        "TargetManagerName": "TargetList",
        "TargetManagerAcquireParameters": {"Targets": [{"ID": "a", "FQDN": "a.lab"}, {"ID": "b"}]},
        "TargetManagerReleaseParameters": {},
        "TestFetcherName": "literal",
        "TestFetcherFetchParameters": {"TestName": "test", "Steps": steps},
    }
    report = {"Name": "TargetSuccess", "Parameters": {"SuccessExpression": ">50%"}}
    whole = {"JobName": "job", "Version": "1.0", "Runs": 1, "RunInterval": "1ms", "Tags": ["x"]}
    return {**whole, "TestDescriptors": [test], "Reporting": {"RunReporters": [report]}, **more}


ECHO = {"name": "echo", "label": "say", "parameters": {"text": ['{{ .ID }} {{ StringVar "a.b" }}']}}
SLEEP = {"name": "sleep", "label": "rest", "parameters": {"duration": ["1ms"]}}
DESCRIPTOR = json.dumps(job(ECHO, SLEEP)).encode()


def questions(cursor: str, page: str) -> list[tuple[str, dict[str, Any]]]:
    """Verbs with parameters, of which each is right; no job is started, as a changed one might never end."""
    me = {"requestor": "me"}
    return [
        ("version", {}),
        ("version", {"apiVersion": 5}),
        ("list", me),
        ("list", {**me, "states": ["JobStateCompleted"], "tags": "x,y", "limit": 2, "cursor": page}),
        ("list", {**me, "since": "2026-01-02T03:04:05Z", "until": "2036-01-02T03:04:05.678+02:00", "name": "job"}),
        ("status", {**me, "jobID": 1, "run": 1, "test": "test", "target": "a", "events": True}),
        ("status", {**me, "jobID": "1"}),
        ("stop", {**me, "jobID": 1}),
        ("retry", {**me, "jobID": 99, "failedOnly": True}),
        ("locks", me),
        ("validate", {**me, "jobDesc": job(ECHO, SLEEP), "plan": True}),
        ("validate", {**me, "jobDesc": DESCRIPTOR.decode()}),
    ] + [
        (verb, {**me, "jobID": 1, "since": cursor}) for verb in ("watch", "status")
    ]  # fmt: skip


def rpc_messages(cursor: str, page: str) -> list[bytes]:
    """JSON-RPC requests, notifications and batches."""
    asked = [
        {"jsonrpc": "2.0", "id": number, "method": verb, "params": parameters}
        for number, (verb, parameters) in enumerate(questions(cursor, page))
    ]
    more = [
        {"jsonrpc": "2.0", "id": "x", "method": "unwatch", "params": {"subscription": 1}},
        {"jsonrpc": "2.0", "id": None, "method": "rpc.discover"},
        {"jsonrpc": "2.0", "method": "list", "params": {"requestor": "me"}},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
    ]
    return [json.dumps(each).encode() for each in (*asked, *more, asked[:3], [*asked[3:5], *more, 7])]


def form(parameters: dict[str, Any]) -> bytes:
    """The parameters as ConTest's client sends them."""
    from urllib.parse import urlencode

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return json.dumps(value)
        return ",".join(value) if isinstance(value, list) else str(value)

    return urlencode({name: text(value) for name, value in parameters.items()}).encode()


def http_request(verb: str, kind: bytes, body: bytes, *more: bytes, method: bytes = b"POST") -> bytes:
    """A request as a decent client sends it."""
    lines = [
        method + b" /" + verb.encode() + b" HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: " + kind,
        b"Content-Length: %d" % len(body),
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


FORM, JSON = b"application/x-www-form-urlencoded", b"application/json"


def multipart(parameters: dict[str, Any]) -> bytes:
    """A form in parts, with the boundary `cut`."""
    parts = [
        b'--cut\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (name.encode(), (json.dumps(value) if isinstance(value, dict) else str(value)).encode())
        for name, value in parameters.items()
    ]
    return b"".join(parts) + b"--cut--\r\n"


def http_requests(cursor: str, page: str) -> list[bytes]:
    """Every verb in the three kinds of body, and what is got."""
    found = []
    for verb, parameters in questions(cursor, page):
        found += [
            http_request(verb, FORM, form(parameters)),
            http_request(verb, JSON, json.dumps(parameters).encode()),
            http_request(verb, b"multipart/form-data; boundary=cut", multipart(parameters)),
        ]
    chunks = b"5\r\nreque\r\n7;x=y\r\nstor=me\r\n0\r\nTrailer: z\r\n\r\n"
    found.append(
        http_request("list", FORM, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + chunks
    )
    for path in ("healthz", "readyz", "metrics", "openapi.json", "nothing", "events?since=x"):
        found.append(http_request(path, FORM, b"", method=b"GET"))
    found.append(http_request("version", FORM, b"", b"Expect: 100-continue", b"Origin: http://localhost"))
    return found


HIDDEN = http_request("list", FORM, b"requestor=smuggler")

_FRAMINGS = (
    # In none of these may the body be taken for a second request: they are refused, or it is a body.
    b"Content-Length: %(size)d",
    b"Content-Length: %(size)d\r\nContent-Length: %(size)d",
    b"Content-Length: %(size)d\r\nContent-Length: 0",
    b"Content-Length: 0\r\nContent-Length: %(size)d",
    b"Content-Length: 0, %(size)d",
    b"Content-Length: +0",
    b"Content-Length: -0",
    b"Content-Length: 0x0",
    b"Content-Length: 0 0",
    b"Content-Length:\x0b0",
    b"Content-Length : 0",
    b" Content-Length: 0",
    b"Content-Length: \r\n 0",
    b"Content-Length: 0\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0",
    b"Content-Length: 0\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chun\x00ked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\nContent-Length: 0",
    b"Content-Length: %(size)d\r\nUpgrade: websocket\r\nConnection: Upgrade",
    b"Content-Length: %(size)d\r\nExpect: 100-continue",
)
_CHUNKINGS = (
    b"%(size)x\r\n%(body)b\r\n0\r\n\r\n",
    b"0x%(size)x\r\n%(body)b\r\n0\r\n\r\n",
    b"%(size)x \r\n%(body)b\r\n0\r\n\r\n",
    b"%(size)x;\x0b\r\n%(body)b\r\n0\r\n\r\n",
    b"%(size)x\n%(body)b\n0\n\n",
    b"-1\r\n%(body)b\r\n0\r\n\r\n",
    b"ffffffffffffffff%(size)x\r\n%(body)b\r\n0\r\n\r\n",
    b"%(body)b",
)


def smuggled() -> st.SearchStrategy[bytes]:
    """A request that hides another in its body, framed so that two readers could disagree about where it ends."""

    def made(framing: bytes, chunking: bytes, before: bytes) -> bytes:
        facts = {b"size": len(HIDDEN), b"body": HIDDEN}
        head = b"POST /version HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + FORM + b"\r\n"
        body = chunking % facts if b"ransfer-" in framing else HIDDEN
        return before + head + framing % facts + b"\r\n\r\n" + body

    return st.builds(
        made, st.sampled_from(_FRAMINGS), st.sampled_from(_CHUNKINGS), st.sampled_from([b"", HEALTH])
    )


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


# --- websocket

OPENING = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@st.composite
def frames(draw: st.DrawFn, messages: st.SearchStrategy[bytes], *, masked: bool) -> bytes:
    """One frame, or a message in fragments; some lie about their length, their mask or their kind."""
    payload = draw(messages)
    if draw(st.booleans()):
        return frame(1, payload, masked=masked)
    opcode = draw(st.sampled_from([0, 1, 2, 8, 9, 10, 1, 1, 3, 7, 11, 15]))
    if opcode >= 8:
        payload = draw(
            st.sampled_from([b"", b"\x03\xe8", b"\x03", b"\x03\xe8\xff", b"\xff\xff", payload[:140]])
        )
    fragments = draw(st.sampled_from([1, 1, 2, 5]))
    step = max(1, -(-len(payload) // fragments))
    cut = [payload[start : start + step] for start in range(0, len(payload), step)] or [b""]
    return b"".join(
        frame(
            opcode if not number else draw(st.sampled_from([0, 0, 0, 1])),
            part,
            masked=masked if draw(st.integers(0, 9)) else not masked,
            fin=number == len(cut) - 1 if draw(st.integers(0, 9)) else draw(st.booleans()),
            rsv=draw(st.sampled_from([0, 0, 0, 0, 4, 7])),
            told=draw(st.sampled_from([0, 0, 0, 0, 1, -1, 1 << 20, 1 << 40, 1 << 63, (1 << 64) - 1])),
            width=draw(st.sampled_from([0, 0, 0, 2, 8])),
            mask=draw(st.sampled_from([b"\0\0\0\0", b"\x01\x80\xff\x7f"])),
        )
        for number, part in enumerate(cut)
    )


def frame(
    opcode: int,
    payload: bytes,
    *,
    masked: bool = True,
    fin: bool = True,
    rsv: int = 0,
    told: int = 0,
    width: int = 0,
    mask: bytes = b"\x01\x80\xff\x7f",
) -> bytes:
    """A frame that says to be `told` bytes longer than it is, in a field of `width` bytes, where that is not 0."""
    size = max(0, len(payload) + told) & ((1 << 64) - 1)
    least = 0 if size < 126 else 2 if size < 1 << 16 else 8
    width = max(width, least)
    head = bytes([opcode | rsv << 4 | fin << 7])
    bit = masked << 7
    head += (
        bytes([bit | size])
        if not width
        else bytes([bit | (126 if width == 2 else 127)]) + size.to_bytes(width)
    )
    if masked:
        repeated = mask * (len(payload) // 4 + 1)
        payload = mask + bytes(a ^ b for a, b in zip(payload, repeated, strict=False))
    return head + payload


# --- answers

_TIMES = {"StartTime": "2026-11-26T04:35:13.958491Z", "EndTime": None}
_STEP = {"JobID": 1, "RunID": 1, "TestName": "test", "TestStepName": "Echo", "TestStepLabel": "say"}
_AT = {**_STEP, "Target": {"ID": "a", "FQDN": "a.lab"}, "InTime": _TIMES["StartTime"], "OutTime": None}
_TEST = {
    "JobID": 1,
    "RunID": 1,
    "TestName": "test",
    "TestStepStatuses": [{**_STEP, "Events": None, "TargetStatuses": [_AT]}],
    "TargetStatuses": [{**_AT, "Error": "no", "Events": [], "Blame": "test"}],
}
_RUN = {"JobID": 1, "RunID": 1, "StartTime": _TIMES["StartTime"], "TestStatuses": [_TEST]}
_REPORT = {
    "JobID": 1,
    "RunID": 1,
    "ReporterName": "x",
    "ReportTime": "2026-11-26T04:35:13Z",
    "Success": True,
    "Data": [1],
}
_STATUS = {
    "Name": "job",
    "State": "JobStateCompleted",
    "StateErrMsg": "",
    **_TIMES,
    "RunStatus": _RUN,
    "RunStatuses": [_RUN],
    "JobReport": {"JobID": 1, "RunReports": [[_REPORT]], "FinalReports": None},
    "Verdict": "passed",
}
_ENTRY = {
    "JobID": 3,
    "Name": "job",
    "State": "JobStateCompleted",
    "Verdict": "failed",
    "Flaky": False,
    "Requestor": "me",
    "Principal": None,
    "Tags": ["x"],
    **_TIMES,
}
_OFFERS = ["list", "status", "status.events", "status.target", "validate", "watch", "start.start_key"]


def envelopes() -> list[dict[str, Any]]:
    """What a server answers to the verbs, as HTTP has it."""

    def answer(kind: str, data: Any, **more: Any) -> dict[str, Any]:
        return {"ServerID": "lab", "Type": f"ResponseType{kind}", "Data": data, "Error": None, **more}

    finding = {"Severity": "error", "Code": "x", "Path": "/JobName", "Message": "no", "Nearest": "JobName"}
    return [
        answer("Version", {"Version": 5, "Capabilities": _OFFERS}),
        answer("Status", {"Status": _STATUS}),
        answer("Status", {"Status": None}, Error="no such job", Code="unknown_job"),
        answer("List", {"JobIDs": [3], "Jobs": [_ENTRY], "Cursor": "1.a.b.jobs.3"}),
        answer("Start", {"JobID": 0, "Findings": [finding]}, Error="no", Code="invalid_descriptor"),
        answer("Validate", {"Findings": [finding]}),
        {"Msg": "come back later", "Code": "too_many_requests"},
    ]


EVENTS = [
    {
        "SequenceID": number,
        "EmitTime": "2026-11-26T04:35:13.970943Z",
        "Header": {
            "JobID": 1,
            "RunID": run,
            "TestName": test,
            "TestAttempt": run and 0,
            "TestStepLabel": None,
        },
        "Data": {"Target": test and {"ID": "a"}, "EventName": name, "Payload": {"RunID": 1}},
        "Cursor": f"1.a.b.1.{number}",
    }
    for number, (run, test, name) in enumerate(
        [(None, None, "JobStateStarted"), (1, "test", "TargetIn"), (None, None, "JobStateCompleted")], 1
    )
]
ITEMS = [{"Event": event} for event in EVENTS] + [{"Gap": {"Missed": 7, "Cursor": "1.a.b.1.9"}}]


def http_answers() -> list[bytes]:
    """The envelopes as HTTP carries them, and what else may come: chunks, a redirect, a page."""
    found = []
    for envelope in envelopes():
        body = json.dumps(envelope).encode()
        head = b"HTTP/1.1 %d OK\r\nServer: x\r\nContent-Type: application/json\r\n" % (
            429 if "Msg" in envelope else 200
        )
        found += [
            head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
            head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
            head + b"Connection: close\r\n\r\n" + body,
        ]
    found.append(
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    )
    found.append(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08<html>"
    )
    return found


def event_streams() -> list[bytes]:
    """Watches over HTTP."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
    items = b"".join(
        b"id: x.%d\ndata: %b\n\n" % (number, json.dumps(item).encode()) for number, item in enumerate(ITEMS)
    )
    ended = b'event: watchEnded\ndata: {"Cursor":"1.a.b.1.9","Error":"it ends","Code":"interrupted"}\n\n'
    begun = b"retry: 10\n: hello\nid: 1.a.b.1.0\n\n"
    return [head + begun + items + ended, head + begun.replace(b"\n", b"\r\n") + items, head + items + ended]


def rpc_answers() -> list[bytes]:
    """Answers and notifications, with the numbers that a client's first requests have."""
    found: list[Any] = []
    for number in (1, 2, 3):
        found += [{"jsonrpc": "2.0", "id": number, "result": envelope} for envelope in envelopes()]
        found.append(
            {
                "jsonrpc": "2.0",
                "id": number,
                "result": {"ServerID": "lab", "Data": {"Subscription": 1, "Cursor": "1.a.b.1.0"}},
            }
        )
        data = {
            "Code": "unknown_job",
            "ServerID": "lab",
            "Type": "ResponseTypeStatus",
            "Data": {"Status": None},
        }
        found.append(
            {"jsonrpc": "2.0", "id": number, "error": {"code": -32011, "message": "no", "data": data}}
        )
    found.append({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "what?"}})
    for item in ITEMS:
        found.append({"jsonrpc": "2.0", "method": "event", "params": {"Subscription": 1, **item}})
    found.append(
        {
            "jsonrpc": "2.0",
            "method": "watchEnded",
            "params": {"Subscription": 1, "Cursor": "x", "Error": "no", "Code": "y"},
        }
    )
    return [json.dumps(message).encode() for message in found]
