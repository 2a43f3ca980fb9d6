"""The documents for machines are valid, whole and true: OpenAPI for HTTP, OpenRPC for JSON-RPC.

One server answers many questions on both wires; each answer is held to what its document says of it, strictly: here
a key that the document does not have is an error.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import httpx2
import jsonschema
import pytest
import websockets
from openapi_spec_validator import OpenAPIV31SpecValidator

from contest_core import CORE_VERSION, ERRORS, VERBS, ServerOptions, open_server
from contest_core.api import ALL
from contest_core.openrpc import document as openrpc_document
from contest_http.listener import HttpListener
from contest_http.openapi import document as openapi_document
from contest_runner.manager import LocalJobManager
from contest_runner.settings import LocalSettings
from contest_websocket.listener import WebsocketListener

_spec = importlib.util.spec_from_file_location("questions", Path(__file__).parent / "questions.py")
assert _spec is not None
assert _spec.loader is not None
usual = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(usual)

Document: TypeAlias = dict[str, Any]

META_SCHEMA = json.loads((Path(__file__).parent / "data" / "openrpc" / "meta-schema.json").read_text())
META_SCHEMA["definitions"]["JSONSchema"] = jsonschema.Draft7Validator.META_SCHEMA
META_SCHEMA["definitions"]["referenceObject"]["properties"]["$ref"] = {"type": "string"}

COMMON = {"requestor", "apiVersion"}
PATIENCE = 30


def waits() -> str:
    """A job for the target that `LASTS` holds: while it waits, its status says for what."""
    return str(usual.job("waits", usual.ECHO, targets=("c",)))


def rich(folder: Path) -> str:
    """A job with nearly all that a status and a plan can have."""
    steps = [
        {"name": "variables", "label": "set", "parameters": {"word": ["x"]}},
        # The first attempt fails on b, the second on nobody: what was saved is flaky.
        usual.cmd(f"echo {{{{.ID}}}}; echo no >&2; test {{{{.ID}}}} = a || ! mkdir {folder}/b 2>/dev/null"),
        {"name": "echo", "label": "say", "parameters": {"text": ['{{ .FQDN }} {{ StringVar "set.word" }}']}},
    ]
    whole = json.loads(usual.job("rich", *steps))
    (test,) = whole["TestDescriptors"]
    targets = [
        {"ID": "a", "FQDN": "a.lab", "PrimaryIPv4": "127.0.0.1", "TMS": {"rack": 1}},
        {"ID": "b", "PrimaryIPv6": "::1"},
    ]
    cleanup = {"TestName": "clean", "Steps": [usual.ECHO]}
    test |= {
        "CleanupFetcherName": "literal",
        "CleanupFetcherFetchParameters": cleanup,
        "CleanupTimeout": "1m",
    }
    test |= {"RetryParameters": {"NumRetries": 1, "RetryInterval": "1ms"}}
    test["TargetManagerAcquireParameters"] = {"Targets": targets}
    off = {**test, "Disabled": True}
    off["TestFetcherFetchParameters"] = {**test["TestFetcherFetchParameters"], "TestName": "off"}
    whole["Reporting"]["FinalReporters"] = [{"Name": "noop"}]
    more = {"Runs": 2, "RunInterval": "1ms", "Tags": ["x"], "Surplus": 1}
    return json.dumps({**whole, **more, "TestDescriptors": [test, off]})


FAULTY = {"name": "echo", "label": "faulty", "parameters": {"text": ["{{ index .FQDN 9 }}"]}}


def lost() -> str:
    """A job whose targets are in a file that is not there."""
    whole = json.loads(usual.job("lost", usual.ECHO))
    (test,) = whole["TestDescriptors"]
    test["TargetManagerName"] = "CSVFileTargetManager"
    test["TargetManagerAcquireParameters"] = {"FileURI": "/no/such/file.csv", "MinNumberDevices": 1}
    return json.dumps(whole)


def questions(folder: Path) -> list[tuple[str, dict[str, str]]]:
    """All questions in their order."""
    job = rich(folder)
    return [
        *usual.QUESTIONS,
        ("validate", {"jobDesc": job, "plan": "true"}),
        ("validate", {"jobDesc": usual.job("x", FAULTY), "plan": "true"}),
        ("validate", {"jobDesc": lost(), "plan": "true"}),
        ("validate", {"jobDesc": usual.job("x", {"name": "ecko", "label": "a b"})}),
        ("start", {"jobDesc": job}),
        ("wait", {"jobID": "7"}),
        ("status", {"jobID": "7"}),
        ("start", {"jobDesc": usual.LASTS}),
        ("locks", {}),
        ("start", {"jobDesc": waits()}),
        ("until waiting", {"jobID": "9"}),
        ("stop", {"jobID": "8"}),
        ("stop", {"jobID": "9"}),
        ("start", {"jobDesc": lost()}),
        ("wait", {"jobID": "10"}),
        ("list", {"limit": "1"}),
    ]


class Exchange(NamedTuple):
    """A question over HTTP, and its answer."""

    path: str
    asked: dict[str, Any]
    status: int
    kind: str
    text: str


class Seen(NamedTuple):
    """What one server said."""

    openapi: Document
    openrpc: Document
    http: list[Exchange]
    rpc: list[tuple[str, Document]]
    notifications: list[Document]


# --- asking


class Asker:
    """Asks over HTTP and on a websocket, and keeps what came."""

    def __init__(self, client: httpx2.AsyncClient, socket: websockets.ClientConnection) -> None:
        self.client = client
        self.socket = socket
        self.http: list[Exchange] = []
        self.rpc: list[tuple[str, Document]] = []
        self.notifications: list[Document] = []

    async def over_http(self, verb: str, given: dict[str, Any], how: str) -> Any:
        reply = await self.client.post(f"/{verb}", **{how: given})
        self.http.append(
            Exchange(f"/{verb}", given, reply.status_code, reply.headers["content-type"], reply.text)
        )
        return reply.json()

    async def over_rpc(self, method: str, params: dict[str, Any]) -> Document:
        await self.socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        while "id" not in (message := json.loads(await self.socket.recv())):
            self.notifications.append(message)
        self.rpc.append((method, message))
        return message

    async def ask(self, verb: str, given: dict[str, Any]) -> None:
        asked = given if verb == "version" else {"requestor": "me", **given}
        if verb in ("wait", "until waiting"):
            await self._until(asked, verb)
            return
        await self.over_http(verb, asked, "data")
        # What was done by the form is not done again.
        if verb not in VERBS or VERBS[verb].reads:
            await self.over_http(verb, asked, "json")
            await self.over_rpc(verb, asked)

    async def _until(self, asked: dict[str, Any], what: str) -> None:
        while True:
            answer = await self.over_http("status", asked, "json")
            status = answer["Data"]["Status"]
            if "Waiting" in status if what != "wait" else status["State"] not in usual.BUSY:
                break
            await asyncio.sleep(0.02)
        await self.over_rpc("status", asked)

    async def watch(self) -> None:
        asked = {"requestor": "me", "jobID": 7}
        for path, given in (
            ("/events", asked),
            ("/events", {**asked, "jobID": 99}),
            ("/events", {"jobID": 1}),
        ):
            reply = await self.client.get(path, params=given)
            kind = reply.headers["content-type"]
            self.http.append(Exchange(path, given, reply.status_code, kind, reply.text))
        await self.over_rpc("watch", asked)
        while not self.notifications or self.notifications[-1]["method"] != "watchEnded":
            self.notifications.append(json.loads(await self.socket.recv()))
        for method in ("watch", "unwatch"):
            await self.over_rpc(method, {**asked, "jobID": 99})
        await self.over_rpc("watch", {"requestor": "me"})
        await self.over_rpc("unwatch", {"subscription": 3})

    async def look(self) -> None:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            reply = await self.client.get(path)
            self.http.append(Exchange(path, {}, reply.status_code, reply.headers["content-type"], reply.text))


async def ask_all(folder: Path) -> Seen:
    manager = LocalJobManager(LocalSettings(store="sqlite:///contest.db"))
    listeners = {
        "http": HttpListener(HttpListener.Settings(port=0)),
        "websocket": WebsocketListener(WebsocketListener.Settings(port=0, concurrency=1)),
    }
    options = ServerOptions(directory=folder, server_id="lab-1")
    async with (
        open_server(manager, listeners=listeners, options=options) as server,
        asyncio.timeout(PATIENCE),
    ):
        (base,), (address,) = server.addresses["http"], server.addresses["websocket"]
        async with (
            httpx2.AsyncClient(base_url=base, timeout=PATIENCE) as client,
            websockets.connect(address, max_size=None, proxy=None) as socket,
        ):
            asker = Asker(client, socket)
            for verb, given in questions(folder):
                await asker.ask(verb, given)
            await asker.watch()
            await asker.look()
            openrpc = (await asker.over_rpc("rpc.discover", {}))["result"]
            openapi = json.loads(asker.http[-1].text)
            asker.rpc.pop()
    return Seen(openapi, openrpc, asker.http, asker.rpc, asker.notifications)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return asyncio.run(ask_all(tmp_path_factory.mktemp("server")))


# --- the documents are valid


def test_the_served_openapi_document_is_valid(seen: Seen) -> None:
    OpenAPIV31SpecValidator(seen.openapi).validate()


@pytest.mark.parametrize(
    "capabilities", [frozenset[str](), frozenset({"list"}), ALL], ids=["none", "one", "all"]
)
@pytest.mark.parametrize("authenticated", [False, True])
def test_whatever_a_server_offers_its_documents_are_valid(
    capabilities: frozenset[str], authenticated: bool
) -> None:
    OpenAPIV31SpecValidator(plain(openapi_document(capabilities, authenticated=authenticated))).validate()
    check_openrpc(plain(openrpc_document(capabilities)))


def test_the_served_openrpc_document_is_valid(seen: Seen) -> None:
    check_openrpc(seen.openrpc)


def check_openrpc(document: Document) -> None:
    """Raises what is wrong with it; notifications are held to what OpenRPC says of methods."""
    jsonschema.Draft7Validator(META_SCHEMA).validate(document)
    method = {**META_SCHEMA, "$ref": "#/definitions/methodObject"}
    for each in document.get("x-notifications", ()):
        jsonschema.Draft7Validator(method).validate(each)
    names = [each["name"] for each in document["methods"]]
    assert len(set(names)) == len(names)
    for each in references(document):
        assert found(document, each)


def plain(document: Document) -> Document:
    """As it comes over a wire."""
    decoded: Document = json.loads(json.dumps(document))
    return decoded


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def found(document: Document, reference: str) -> Any:
    """What a reference is to."""
    here: Any = document
    for part in reference.removeprefix("#/").split("/"):
        here = here[part]
    return here


# --- they have what the tables have


def test_every_verb_and_parameter_is_in_the_openapi_document(seen: Seen) -> None:
    for verb in VERBS.values():
        if verb.name == "watch":
            operation = seen.openapi["paths"]["/events"]["get"]
            names = {each["name"] for each in operation["parameters"] if each.get("in") == "query"}
            assert names == {each.name for each in verb.parameters} | {"requestor", "apiVersion"}
            continue
        operation = seen.openapi["paths"][f"/{verb.name}"]["post"]
        assert operation["operationId"] == verb.name
        for content in operation["requestBody"]["content"].values():
            schema = content["schema"]
            assert schema["properties"].keys() == {each.name for each in verb.parameters} | COMMON
            needed = {each.name for each in verb.parameters if each.required}
            assert set(schema.get("required", ())) == needed | (
                {"requestor"} if verb.needs_requestor else set()
            )


def test_every_verb_and_parameter_is_in_the_openrpc_document(seen: Seen) -> None:
    methods = {method["name"]: method for method in seen.openrpc["methods"]}
    assert methods.keys() == {*VERBS, "unwatch"}
    for verb in VERBS.values():
        method = methods[verb.name]
        needed = {each.name for each in verb.parameters if each.required}
        params = {each["name"]: each["required"] for each in method["params"]}
        assert params.keys() == {each.name for each in verb.parameters} | COMMON
        assert {name for name, required in params.items() if required} == needed | (
            {"requestor"} if verb.needs_requestor else set()
        )
        assert method["paramStructure"] == "by-name"


def test_every_error_is_in_both_documents(seen: Seen) -> None:
    numbers = {error["code"] for error in seen.openrpc["components"]["errors"].values()}
    assert numbers == {row.rpc for row in ERRORS.values() if row.http is not None} | {-32700}
    for code, row in ERRORS.items():
        if row.http not in (None, 200) and code != "unknown_verb":
            for path in seen.openapi["paths"].values():
                if "post" in path:
                    response = path["post"]["responses"][str(row.http)]
                    assert code in found(seen.openapi, response["$ref"])["x-codes"]


def test_what_the_job_manager_does_not_offer_is_not_there() -> None:
    capabilities = frozenset({"start", "status", "status.run"})
    openapi = openapi_document(capabilities, authenticated=False)
    assert [path for path in openapi["paths"] if path.strip("/") in VERBS] == [
        "/start",
        "/status",
        "/version",
    ]
    assert "/events" not in openapi["paths"]
    form = openapi["paths"]["/status"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert form["properties"].keys() == {"jobID", "run"} | COMMON
    openrpc = openrpc_document(capabilities)
    assert [method["name"] for method in openrpc["methods"]] == ["start", "status", "version"]
    assert "x-notifications" not in openrpc
    assert "JobEntry" not in openapi["components"]["schemas"]


def test_the_documents_say_which_version_serves_them(seen: Seen) -> None:
    assert seen.openapi["info"]["version"] == seen.openrpc["info"]["version"] == CORE_VERSION


def test_fields_are_described_in_the_words_of_the_wire(seen: Seen) -> None:
    text = json.dumps([seen.openapi, seen.openrpc])
    assert "None" not in text
    status = seen.openrpc["components"]["schemas"]["JobStatus"]["properties"]
    assert status["Verdict"]["description"].startswith("One of `passed`, `failed`, `error`, `cancelled`")
    assert status["StartTime"]["format"] == "date-time"


# --- they are true


def test_every_answer_over_http_is_as_the_document_has_it(seen: Seen) -> None:
    strict = closed(seen.openapi)
    for exchange in seen.http:
        kind = exchange.kind.partition(";")[0]
        if exchange.path not in strict["paths"]:
            assert exchange.path.strip("/") not in VERBS
            check(strict, {"$ref": "#/components/schemas/Unread"}, json.loads(exchange.text), exchange)
            continue
        (operation,) = strict["paths"][exchange.path].values()
        response = operation["responses"][str(exchange.status)]
        response = found(strict, response["$ref"]) if "$ref" in response else response
        if kind == "text/event-stream":
            check_stream(strict, exchange)
            continue
        answer = json.loads(exchange.text)
        if "openapi" not in answer:
            check(strict, response["content"][kind]["schema"], answer, exchange)
        if "x-codes" in response:
            assert answer["Code"] in response["x-codes"]
        elif answer.get("Error"):
            schema = response["content"][kind]["schema"]
            schema = found(strict, schema["$ref"]) if "$ref" in schema else schema
            assert answer["Code"] in schema["properties"]["Code"]["x-extensible-enum"], exchange


def check_stream(document: Document, exchange: Exchange) -> None:
    """Each message of a stream, in the two ways in which it is described."""
    schema = document["paths"]["/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    blocks = [each for each in exchange.text.split("\n\n") if each]
    messages = [dict(line.split(": ", 1) for line in each.splitlines()) for each in blocks]
    assert messages[0].keys() == {"id"}
    for message in messages[1:]:
        ended = message.get("event") == "watchEnded"
        assert ended == (message is messages[-1])
        check(document, schema, {"id": "", "event": "message", **message} if not ended else message, message)
        of_data = {"$ref": f"#/components/schemas/{'WatchEnded' if ended else 'EventMessage'}"}
        check(document, of_data, json.loads(message["data"]), message)


def test_every_answer_on_json_rpc_is_as_the_document_has_it(seen: Seen) -> None:
    strict = closed(seen.openrpc)
    methods = {method["name"]: method for method in strict["methods"]}
    for name, message in seen.rpc:
        if "result" in message:
            check(strict, methods[name]["result"]["schema"], message["result"], name)
            continue
        check(strict, {"$ref": "#/components/schemas/ErrorData"}, message["error"]["data"], message)
        if name not in methods:
            assert message["error"]["code"] == -32601
            continue
        code = message["error"]["data"]["Code"]
        assert {"$ref": f"#/components/errors/{code}"} in methods[name]["errors"], message
        assert strict["components"]["errors"][code]["code"] == message["error"]["code"]


def test_every_notification_is_as_the_document_has_it(seen: Seen) -> None:
    strict = closed(seen.openrpc)
    kinds = {each["name"]: each for each in strict["x-notifications"]}
    assert {message["method"] for message in seen.notifications} == set(kinds)
    for message in seen.notifications:
        params = {each["name"]: each for each in kinds[message["method"]]["params"]}
        assert message["params"].keys() <= params.keys()
        assert message["params"].keys() >= {name for name, each in params.items() if each["required"]}
        for name, value in message["params"].items():
            check(strict, params[name]["schema"], value, message)


RARE = {
    "Gap": {"Missed", "Cursor"},
    "WatchEnded": {"Error", "Code"},
    "LocksResponse": {"Code"},
    "ValidateResponse": {"Code"},
}
"""What no answer here has: events that were pruned, a watch that a fault ended, refusals of other job managers."""


def test_the_answers_had_all_that_the_document_has_but_what_is_rare(seen: Seen) -> None:
    had: dict[str, set[str]] = {}
    schemas = seen.openapi["components"]["schemas"]
    for exchange in seen.http:
        verb = exchange.path.strip("/")
        if exchange.path == "/events" and exchange.kind == "text/event-stream":
            *messages, last = re.findall("^data: (.*)", exchange.text, re.MULTILINE)
            for message in messages:
                gather(schemas, {"$ref": "#/components/schemas/EventMessage"}, json.loads(message), had)
            gather(schemas, {"$ref": "#/components/schemas/WatchEnded"}, json.loads(last), had)
        elif exchange.status != 200:
            gather(schemas, {"$ref": "#/components/schemas/Unread"}, json.loads(exchange.text), had)
        elif verb in VERBS:
            answer = {"$ref": f"#/components/schemas/{verb.capitalize()}Response"}
            gather(schemas, answer, json.loads(exchange.text), had)
    missing = {name: set(schemas[name].get("properties", ())) - had.get(name, set()) for name in schemas}
    assert {name: keys for name, keys in missing.items() if keys} == RARE


def gather(schemas: Document, schema: Document, value: Any, had: dict[str, set[str]]) -> None:
    """Which keys of which schema a value has."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if isinstance(value, dict):
            had.setdefault(name, set()).update(value)
            schema = schemas[name]
    for way in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        gather(schemas, way, value, had)
    if isinstance(value, dict):
        for key, each in schema.get("properties", {}).items():
            if key in value:
                gather(schemas, each, value[key], had)
    if isinstance(value, list) and "items" in schema:
        for each in value:
            gather(schemas, schema["items"], each, had)


def closed(document: Document) -> Document:
    """The document with objects that may have nothing beside what is described."""

    def close(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("properties"), dict) and "type" in value:
                value.setdefault("additionalProperties", False)
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                close(each)

    copied = copy.deepcopy(document)
    close(copied)
    return copied


def check(document: Document, schema: Document, value: Any, about: Any) -> None:
    """Raises where the value is not as the schema, which refers to the document's components, has it."""
    whole = {"components": {"schemas": document["components"]["schemas"]}, "allOf": [schema]}
    for error in jsonschema.Draft202012Validator(whole).iter_errors(value):
        best = jsonschema.exceptions.best_match([error])
        raise AssertionError(f"{about}: {best.json_path}: {best.message[:2000]}")
