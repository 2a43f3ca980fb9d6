"""What is answered to verbs, to other methods and to the paths beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from contest_core.events import EventListMsg, EventStartMsg
from contest_core.status import JobState

EXCHANGES = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "exchanges.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange["case"])
async def test_a_recorded_exchange_is_answered_as_contest_does(serve: Any, exchange: dict[str, Any]) -> None:
    asked, recorded = exchange["request"], exchange["response"]
    async with serve() as running:
        wire = await running.connect()
        form = urlencode(asked["form"] or {})
        host, kind = "Host: localhost", "Content-Type: application/x-www-form-urlencoded"
        wire.send(
            f"{asked['method']} {asked['path']} HTTP/1.1\r\n{host}\r\n{kind}\r\n"
            f"Content-Length: {len(form)}\r\n\r\n{form}".encode()
        )
        reply = await wire.reply()
    assert reply.status == recorded["status"]
    if "text" in recorded:
        assert reply.body.decode() == recorded["text"]
        return
    assert recorded["json"].keys() <= reply.json.keys()
    assert bool(reply.json.get("Error")) == bool(recorded["json"].get("Error"))
    for name in ("Type", "Data"):
        if name in recorded["json"]:
            mine = reply.json[name]
            assert (
                mine if name == "Type" else {key: mine[key] for key in recorded["json"][name]}
            ) == recorded["json"][name]


@pytest.mark.parametrize(
    ("verb", "form", "kind", "data"),
    [
        ("start", {"jobDesc": "{}"}, "ResponseTypeStart", {"JobID": 1}),
        ("stop", {"jobID": "1"}, "ResponseTypeStop", {}),
        ("retry", {"jobID": "1"}, "ResponseTypeRetry", {"JobID": 1, "NewJobID": 2}),
        ("list", {}, "ResponseTypeList", {"JobIDs": []}),
        ("validate", {"jobDesc": "{}"}, "ResponseTypeValidate", {"Findings": []}),
        ("locks", {}, "ResponseTypeLocks", {"Locks": []}),
        ("status", {"jobID": "1"}, "ResponseTypeStatus", {"Status": None, "Filler": ""}),
    ],
)
async def test_a_verb_is_answered_with_its_envelope(
    serve: Any, verb: str, form: dict[str, str], kind: str, data: dict[str, Any]
) -> None:
    async with serve() as running:
        reply = await running.post(f"/{verb}", urlencode({"requestor": "me", **form}))
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {"ServerID": "lab-1", "Type": kind, "Data": data, "Error": None}


async def test_version_lists_the_capabilities(serve: Any) -> None:
    async with serve() as running:
        reply = await running.post("/version")
    assert reply.json["Data"]["Version"] == 5
    assert "start.strict" in reply.json["Data"]["Capabilities"]


async def test_a_refusal_of_the_job_manager_is_200_with_error_and_code(serve: Any) -> None:
    async with serve() as running:
        reply = await running.post("/status", "requestor=me&jobID=99")
    assert reply.status == 200
    assert reply.json == {
        "ServerID": "lab-1",
        "Type": "ResponseTypeStatus",
        "Data": {"Status": None},
        "Error": "there is no job 99",
        "Code": "unknown_job",
    }


async def test_a_json_object_is_taken_for_a_form(serve: Any) -> None:
    body = json.dumps({"requestor": "me", "jobDesc": {"JobName": "x"}, "strict": True})
    async with serve() as running:
        reply = await running.post("/start", body, content_type="application/json; charset=utf-8")
        message, caller = running.manager.asked[0]
    assert reply.json["Data"]["JobID"] == 1
    assert isinstance(message, EventStartMsg)
    assert (json.loads(message.job_descriptor), message.strict) == ({"JobName": "x"}, True)
    assert caller.requestor == "me"


async def test_a_multipart_form_is_taken(serve: Any) -> None:
    body = (
        '--b\r\nContent-Disposition: form-data; name="requestor"\r\n\r\nme\r\n'
        '--b\r\nContent-Disposition: form-data; name="jobDesc"; filename="job.json"\r\n'
        "Content-Type: application/json\r\n\r\n{}\r\n--b--\r\n"
    )
    async with serve() as running:
        reply = await running.post("/start", body, content_type="multipart/form-data; boundary=b")
    assert (reply.status, reply.json["Data"]) == (200, {"JobID": 1})


async def test_states_and_tags_arrive_as_a_query(serve: Any) -> None:
    async with serve() as running:
        await running.post("/list", "requestor=me&states=JobStateCompleted,JobStateFailed&tags=a,b")
        message, _ = running.manager.asked[0]
    assert isinstance(message, EventListMsg)
    assert message.query.states == (JobState.COMPLETED, JobState.FAILED)
    assert message.query.tags == ("a", "b")


@pytest.mark.parametrize("path", ["//version", "/version?requestor=me&jobID=x", "/%76ersion"])
async def test_paths_that_mean_a_verb(serve: Any, path: str) -> None:
    async with serve() as running:
        assert (await running.post(path)).status == 200


@pytest.mark.parametrize("path", ["/version/", "/start/now", "/Version", "/", "/versio"])
async def test_paths_that_mean_none_are_unknown_verbs(serve: Any, path: str) -> None:
    async with serve() as running:
        reply = await running.post(path)
    assert (reply.status, reply.code) == (400, "unknown_verb")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "FOO", "post"])
@pytest.mark.parametrize("path", ["/status", "/", "/nothing"])
async def test_other_methods_get_the_words_of_contest(serve: Any, method: str, path: str) -> None:
    async with serve() as running:
        reply = await running.post(path, method=method)
    assert (reply.status, reply.body) == (400, b"Only POST requests are supported")
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.headers["allow"] == "POST"


async def test_head_is_answered_without_a_body_and_the_connection_goes_on(
    serve: Any, http_request: Callable[..., bytes]
) -> None:
    async with serve() as running:
        wire = await running.connect()
        wire.send(http_request("/healthz", method="HEAD"))
        assert (await wire.reply(head_only=True)).status == 200
        assert (await wire.ask(http_request("/version"))).status == 200


async def test_health_and_readiness(serve: Any) -> None:
    async with serve() as running:
        assert (await running.post("/healthz", method="GET")).status == 200
        assert (await running.post("/readyz", method="GET")).json == {"Status": "ready"}
        running.server._manager_side.degraded("the disk is full")
        reply = await running.post("/readyz", method="GET")
        assert (await running.post("/healthz", method="GET")).status == 200
    assert (reply.status, reply.json) == (503, {"Msg": "the disk is full", "Code": "unavailable"})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/events", "/openapi.json", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "TRACE", "OPTIONS"])
async def test_paths_of_get_say_that_they_are(serve: Any, method: str, path: str) -> None:
    async with serve() as running:
        reply = await running.post(path, method=method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert reply.json == {"Msg": f"{path} is for GET", "Code": "invalid_message"}


async def test_the_contract_is_served_and_says_what_is_offered(serve: Any) -> None:
    async with serve() as running:
        reply = await running.post("/openapi.json", method="GET")
        running.server.api.offer(frozenset({"list"}))
        later = await running.post("/openapi.json", method="GET")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json["openapi"].startswith("3.1")
    assert "/start" in reply.json["paths"]
    assert "security" not in reply.json
    assert "/start" not in later.json["paths"]


async def test_the_contract_says_that_a_token_is_needed_and_is_shown_without(serve: Any) -> None:
    async with serve(token=True) as running:
        reply = await running.post("/openapi.json", method="GET")
    assert reply.status == 200
    assert reply.json["security"] == [{"token": []}]


async def test_paths_of_later_versions_say_what_there_is(serve: Any) -> None:
    async with serve() as running:
        reply = await running.post("/metrics", method="GET")
    assert (reply.status, reply.code) == (404, "unsupported")
    assert "/readyz" in reply.json["Msg"]


async def test_a_fault_is_logged_and_named_but_not_shown(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as running:
        reply = await running.post("/start", "requestor=me&jobDesc=fault", x_request_id="abc-1")
    assert (reply.status, reply.code, reply.headers["x-request-id"]) == (500, "internal", "abc-1")
    assert "abc-1" in reply.json["Msg"]
    assert "secret" not in reply.body.decode()
    assert "a secret of the inside" in caplog.text


async def test_a_fault_in_this_listener_is_answered_too(
    serve: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as running:
        monkeypatch.setattr("contest_http.app.read_parameters", lambda *arguments: 1 // 0)
        reply = await running.post("/version")
    assert (reply.status, reply.code) == (500, "internal")
    assert "ZeroDivisionError" in caplog.text


async def test_what_the_caller_says_of_itself_arrives(serve: Any) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with serve() as running:
        reply = await running.post(
            "/list", "requestor=me", x_request_id="r/1", traceparent=trace, prefer="respond-async, wait=2"
        )
        _, caller = running.manager.asked[0]
    assert (caller.request_id, caller.traceparent, caller.timeout) == ("r/1", trace, 2.0)
    assert caller.listener == "http"
    assert caller.peer.startswith("127.0.0.1:")
    assert reply.headers["x-request-id"] == "r/1"


@pytest.mark.parametrize("given", ["x" * 129, "a b", "caf\xe9"])
async def test_a_request_id_that_is_none_is_replaced(serve: Any, given: str) -> None:
    async with serve() as running:
        reply = await running.post(
            "/list", "requestor=me", x_request_id=given, traceparent=given, prefer=given
        )
        _, caller = running.manager.asked[0]
    assert given not in (caller.request_id, reply.headers["x-request-id"])
    assert (caller.traceparent, caller.timeout) == (None, None)


async def test_a_token_proves_who_it_is(serve: Any) -> None:
    async with serve(token=True) as running:
        await running.post("/list", "requestor=me", authorization="bearer right")
        _, caller = running.manager.asked[0]
    assert caller.principal.name == "ada"


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic cmlnaHQ="}]
)
async def test_without_the_token_nothing_is_asked(serve: Any, headers: dict[str, str]) -> None:
    async with serve(token=True) as running:
        reply = await running.post("/list", "requestor=me", **headers)
        assert running.manager.asked == []
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert reply.headers["www-authenticate"] == "Bearer"


async def test_a_server_that_ends_says_when_to_come_back(serve: Any) -> None:
    async with serve() as running:
        running.server.api.refuse("list")
        reply = await running.post("/list", "requestor=me")
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "shutting_down", "1")


async def test_a_timeout_is_504(serve: Any) -> None:
    async with serve(event_timeout=0.05) as running:
        reply = await running.post("/status", "requestor=me&jobID=7")
    assert (reply.status, reply.code) == (504, "timeout")


async def test_a_watch_by_post_is_refused_and_told_where_it_is(serve: Any) -> None:
    async with serve() as running:
        reply = await running.post("/watch", "requestor=me")
    assert (reply.status, reply.code) == (200, "unsupported")
    assert (reply.json["Type"], reply.json["ServerID"]) == ("ResponseTypeWatch", "lab-1")
    assert reply.json["Error"] == "POST /watch is not offered by HTTP, which has GET /events"
