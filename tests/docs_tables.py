"""The tables of the documentation, made from the code that they describe; used by `test_docs.py`.

A table stands below a comment `<!-- table: NAME -->`. `UPDATE_DOCS=1 pytest tests/test_docs.py` writes them anew.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from contest_core.config import ListenerKeys
from contest_core.config_schema import schema, struct_schema
from contest_core.errors import ERRORS, ContestError, Refusal, RequestError, ServerError
from contest_core.plugins import load_plugins
from contest_core.testing import ClientSuite, JobManagerSuite, ListenerSuite
from contest_core.verbs import VERBS
from contest_runner.testing import FetcherSuite, ReporterSuite, StepSuite, StoreSuite, TargetManagerSuite
from contest_steps import (
    cmd,
    csv_targets,
    echo,
    example,
    gathercmd,
    literal,
    randecho,
    report_file,
    sleep,
    target_success,
    uri,
    waitport,
)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def settings(own: Mapping[str, Any], *, but: Iterable[str] = ()) -> list[str]:
    """The keys of a struct, from its JSON Schema."""
    return table(
        ("key", "is", "default", "meaning"),
        [
            (f"`{key}`", kind(each), default(each), each.get("description", ""))
            for key, each in own["properties"].items()
            if key not in but
        ],
    )


def kind(own: Mapping[str, Any]) -> str:
    """What a value is, in a word or two."""
    if "enum" in own:
        return " or ".join(f"`{value}`" for value in own["enum"])
    if "anyOf" in own:
        kinds = [kind(each) for each in own["anyOf"] if each.get("type") != "null"]
        return "size" if kinds == ["number", "text"] else " or ".join(kinds)
    if own.get("pattern", "").startswith("^[-+]?(0|"):
        return "duration"
    words = {"string": "text", "integer": "number", "boolean": "true or false", "array": "list"}
    if own.get("type") == "array" and "$ref" not in own.get("items", {}):
        return f"list of {kind(own.get('items', {}))}"
    return words.get(own.get("type", ""), "list" if "items" in own else "anything")


def default(own: Mapping[str, Any]) -> str:
    """What holds where a key is not given."""
    if "default" not in own:
        return "needed"
    if own["default"] in (None, [], ""):
        return "-"
    value = own["default"]
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def verbs() -> list[str]:
    """All verbs."""
    rows = [
        (f"`{verb.name}`", verb.summary, "reads" if verb.reads else "changes", parameters_of(verb.name))
        for verb in VERBS.values()
    ]
    return table(("verb", "", "", "parameters"), rows)


def parameters_of(verb: str) -> str:
    """The names of a verb's parameters, those that it needs in bold."""
    names = [f"**`{each.name}`**" if each.required else f"`{each.name}`" for each in VERBS[verb].parameters]
    return ", ".join(names) or "-"


def parameters() -> list[str]:
    """The parameters of all verbs, each once; one that means something else elsewhere, once a meaning."""
    of: dict[tuple[str, str, str], list[str]] = {}
    for verb in VERBS.values():
        for each in verb.parameters:
            capability = f"`{each.capability}`" if each.capability else ""
            of.setdefault((f"`{each.name}`", each.help, capability), []).append(f"`{verb.name}`")
    rows = [
        (name, ", ".join(names), meaning, capability) for (name, meaning, capability), names in of.items()
    ]
    return table(("parameter", "of", "meaning", "capability"), rows)


def error_codes() -> list[str]:
    """The table of errors, each with the first sentence of its class."""
    classes: dict[str, type[ContestError]] = {}
    for root in (RequestError, Refusal, ServerError):
        for each in root.__subclasses__():
            classes.setdefault(each.code, each)
    assert set(classes) == set(ERRORS)
    rows = [
        (
            f"`{code}`",
            first_sentence(classes[code]),
            row.repeat.value,
            "-" if row.http is None else str(row.http),
            str(row.rpc),
            str(row.exit),
        )
        for code, row in ERRORS.items()
    ]
    return table(("code", "meaning", "again", "HTTP", "JSON-RPC", "exit"), rows)


def first_sentence(error: type[ContestError]) -> str:
    """What an error is, without its end."""
    words = " ".join((inspect.getdoc(error) or "").split())
    for mark in (". ", "; ", ": `", " (or a count"):
        words = words.partition(mark)[0]
    return words.rstrip(".")


def promises(suite: type) -> Callable[[], list[str]]:
    """The cases of a suite, by what they are about."""

    def made() -> list[str]:
        rows = []
        for area in suite.__mro__:
            cases = [each for name, each in vars(area).items() if name.startswith("test_")]
            about = (inspect.getdoc(area) or "").partition("\n")[0].rstrip(".")
            for case in cases:
                note = " ".join((inspect.getdoc(case) or "").split())
                rows.append((about, case.__name__[5:].replace("_", " "), note))
                about = ""
        return table(("about", "promise", "that is"), rows)

    return made


def step_parameters(parameters: Any) -> Callable[[], list[str]]:
    """The parameters of a part of a job."""
    return lambda: settings(struct_schema(parameters))


def tables() -> dict[str, Callable[[], list[str]]]:
    """All of them, by name."""
    whole = schema(load_plugins())
    properties = whole["properties"]
    kinds: dict[str, Any] = {}
    for each in (*properties["listeners"]["items"]["oneOf"], *properties["job_manager"]["oneOf"]):
        kinds |= each["properties"]
    shared = struct_schema(ListenerKeys)
    common = tuple(shared["properties"])
    return {
        "verbs": verbs,
        "parameters": parameters,
        "errors": error_codes,
        "server": lambda: settings(properties["server"]),
        "plugins": lambda: settings(properties["plugins"]),
        "listener": lambda: settings(shared),
        "http": lambda: settings(kinds["http"], but=common),
        "stdio": lambda: settings(kinds["stdio"], but=common),
        "websocket": lambda: settings(kinds["websocket"], but=common),
        "local": lambda: settings(kinds["local"]),
        "relay": lambda: settings(kinds["relay"]),
        "cmd": step_parameters(cmd.CmdParameters),
        "echo": step_parameters(echo.EchoParameters),
        "sleep": step_parameters(sleep.SleepParameters),
        "gathercmd": step_parameters(gathercmd.GatherCmdParameters),
        "waitport": step_parameters(waitport.WaitPortParameters),
        "randecho": step_parameters(randecho.RandEchoParameters),
        "example": step_parameters(example.ExampleParameters),
        "CSVFileTargetManager": step_parameters(csv_targets.CSVFileAcquireParameters),
        "URI": step_parameters(uri.UriParameters),
        "literal": step_parameters(literal.LiteralParameters),
        "TargetSuccess run": step_parameters(target_success.SuccessRunParameters),
        "TargetSuccess final": step_parameters(target_success.SuccessFinalParameters),
        "report file run": step_parameters(report_file.RunFileParameters),
        "promises of a listener": promises(ListenerSuite),
        "promises of a client": promises(ClientSuite),
        "promises of a job manager": promises(JobManagerSuite),
        "promises of a step": promises(StepSuite),
        "promises of a target manager": promises(TargetManagerSuite),
        "promises of a fetcher": promises(FetcherSuite),
        "promises of a reporter": promises(ReporterSuite),
        "promises of a store": promises(StoreSuite),
        "report file final": step_parameters(report_file.FinalFileParameters),
    }
