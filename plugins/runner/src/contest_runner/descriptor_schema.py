"""JSON Schema of a job descriptor, with the parameters of every part that is installed; `contest schema` prints it.

For editors, which complete and check a job file with it. It has one spelling of every key and name, the one that users
know; the descriptor's reader takes others, too, and knows what a schema cannot say (a duplicate label, a template that
does not parse): that is `contest validate`'s to tell. In one thing the schema is stricter: an object or a list where a
text is wanted is nearly always `{{ .ID }}` without quotes in YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Struct, UnsetType

from contest_core import ByteSize, Duration, Registry, Secret
from contest_core.config_schema import field_docs, struct_schema
from contest_core.settings import schema_hook
from contest_runner.binding import ParameterField, parameter_fields
from contest_runner.catalog import Catalog
from contest_runner.descriptor.job import MAX_JOB_NAME_BYTES, TAG
from contest_runner.descriptor.steps import MAX_LABEL_BYTES
from contest_runner.descriptor.test import MAX_TEST_NAME_BYTES
from contest_runner.descriptor_fields import (
    JobFields,
    ReporterFields,
    ReportingFields,
    RetryFields,
    StepFields,
    TestFields,
)
from contest_runner.faults import describe
from contest_runner.step import OnInterrupt

Schema = dict[str, Any]

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""What editors know best."""

_MAX_UINT32: Final = 2**32 - 1

_NEEDED: Final[Schema] = {
    "TestName": {"minLength": 1, "maxLength": MAX_TEST_NAME_BYTES},
    "Steps": {"minItems": 1, "type": "array"},
}
"""What a fetcher is told that has it from nowhere else."""

_STEPS: Final = "Steps"
"""The parameter of a fetcher that has the steps themselves, where it may be anything."""

DESCRIPTIONS: Final[dict[type[Struct], dict[str, str]]] = {
    JobFields: {
        "JobName": "The name of the job, at most 64 bytes.",
        "Version": 'The version of the descriptor: "1.0", in quotes in YAML, where 1.0 alone is a number.',
        "Tags": "To find jobs by: letters, digits, _ and -.",
        "Runs": "How often all tests are run; 0, or absent, is without end.",
        "RunInterval": "A pause from the end of a run to the start of the next: 1h30m, 3s, 100ms.",
        "TestDescriptors": "The tests, one after the other.",
        "Reporting": "The reporters: at least one.",
        "TargetManagerAcquireTimeout": "How long acquiring targets may take, waiting for held ones included; 5m.",
        "TargetManagerReleaseTimeout": "How long giving the targets back may take; 5m.",
    },
    TestFields: {
        "Disabled": "Checked like any other and left out; the status lists it under SkippedTests.",
        "RetryParameters": "How often a test is repeated that some target has failed.",
        "TargetManagerName": "What finds the targets.",
        "TargetManagerAcquireParameters": "Which targets: parameters of the target manager.",
        "TargetManagerReleaseParameters": "Parameters of the target manager for giving them back; often {}.",
        "TestFetcherName": "What finds the steps.",
        "TestFetcherFetchParameters": "The name of the test, and its steps or where they are.",
        "CleanupFetcherName": "What finds the steps that are run at the end of the test in any case.",
        "CleanupFetcherFetchParameters": "Those steps, or where they are.",
        "CleanupTimeout": "How long the cleanup steps may take together; without limit, while the job goes on.",
    },
    RetryFields: {
        "NumRetries": "How often the test is repeated at most.",
        "RetryInterval": "A pause before it is repeated.",
    },
    StepFields: {
        "name": "What is done.",
        "label": "Names the step in this test: a letter, then letters, digits and underscores, at most 32 bytes.",
        "parameters": "Each a list of values; one that wants a single value takes the first.",
        "VariablesMapping": "ConTest's; read, and without effect, as there.",
        "OnInterrupt": "What becomes of a target that is inside when the server is killed; else as the step says.",
    },
    ReportingFields: {
        "RunReporters": "Asked after each run.",
        "FinalReporters": "Asked after the last run.",
    },
    ReporterFields: {"Name": "Who reports.", "Parameters": "Parameters of the reporter."},
}
"""What each key is, for the person at the editor; a test holds it to the fields."""


def descriptor_schema(catalog: Catalog) -> Schema:
    """The schema. A part that cannot be loaded or described may have any parameters; the description says why."""
    return _Maker(catalog).job()


def known_fields(kind: type[Struct]) -> list[msgspec.structs.FieldInfo]:
    """The fields that a descriptor may have: not those that mean something and nothing yet."""
    parameters = [key for key in DESCRIPTIONS[kind] if key.endswith("arameters")]
    return [
        field
        for field in msgspec.structs.fields(kind)
        if UnsetType not in get_args(field.type) or field.encode_name in parameters
    ]


class _Maker:
    """One schema in the making."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._definitions: Schema = {}

    def job(self) -> Schema:
        tags = {"type": "array", "items": {"type": "string", "pattern": f"^(?!_){TAG}$"}, "uniqueItems": True}
        whole = self._object(
            JobFields,
            {
                "JobName": {"type": "string", "minLength": 1, "maxLength": MAX_JOB_NAME_BYTES},
                "Version": {"type": "string", "enum": ["1.0"]},
                "Tags": tags,
                "Runs": {"type": "integer", "minimum": 0, "maximum": _MAX_UINT32},
                "TestDescriptors": {"type": "array", "minItems": 1, "items": self._test()},
                "Reporting": self._reporting(),
            },
            required=("JobName", "TestDescriptors", "Reporting"),
        )
        head = {"$schema": _DIALECT, "title": "A job of Contest"}
        return {**head, **whole, "$defs": self._definitions}

    # --- what stands in it

    def _test(self) -> Schema:
        catalog = self._catalog
        managers, fetchers = catalog.target_managers, catalog.fetchers
        test = self._object(
            TestFields,
            {
                "RetryParameters": self._retry(),
                "TargetManagerName": _names(managers),
                "TestFetcherName": _names(fetchers),
                "CleanupFetcherName": {"anyOf": [_names(fetchers), {"enum": ["", None]}]},
            },
            required=(
                "TargetManagerName",
                "TargetManagerAcquireParameters",
                "TargetManagerReleaseParameters",
                "TestFetcherName",
                "TestFetcherFetchParameters",
            ),
        )
        acquire = self._parts(managers, "acquire", lambda part: part.AcquireParameters)
        release = self._parts(managers, "release", lambda part: part.ReleaseParameters)
        fetch = self._parts(fetchers, "fetch", lambda part: part.Parameters)
        self._definitions["steps"] = {"type": ["array", "null"], "items": self._step()}
        test["allOf"] = [
            *_given("TargetManagerName", "TargetManagerAcquireParameters", acquire),
            *_given("TargetManagerName", "TargetManagerReleaseParameters", release),
            *_given("TestFetcherName", "TestFetcherFetchParameters", self._of_test(fetch)),
            *_given("CleanupFetcherName", "CleanupFetcherFetchParameters", fetch, list(fetch)),
        ]
        return self._defined("test", test)

    def _of_test(self, fetch: dict[str, Schema]) -> dict[str, Schema]:
        """The parameters of fetchers for the steps of a test: where it has no name, or no steps, it is refused."""
        found = {}
        for name, reference in fetch.items():
            has = self._definitions[f"fetch.{name}"].get("properties", {})
            needs = {
                key: need
                for key, need in _NEEDED.items()
                if not has.get(key, {"default": True}).get("default")
            }
            more = {"type": "object", "properties": needs, "required": list(needs)}
            found[name] = {"allOf": [reference, more]} if needs else reference
        return found

    def _retry(self) -> Schema:
        many = {"type": "integer", "minimum": 0, "maximum": _MAX_UINT32}
        retry = self._object(RetryFields, {"NumRetries": many})
        return self._defined("retry", {**retry, "type": ["object", "null"]})

    def _step(self) -> Schema:
        steps = self._catalog.steps
        step = self._object(
            StepFields,
            {
                "name": _names(steps),
                "label": {
                    "type": "string",
                    "pattern": "^[A-Za-z][A-Za-z0-9_]*$",
                    "maxLength": MAX_LABEL_BYTES,
                },
                "parameters": {"type": "object", "additionalProperties": {"type": "array"}},
                "OnInterrupt": {
                    "type": ["string", "null"],
                    "enum": [*(str(each) for each in OnInterrupt), None],
                },
            },
            required=("name", "label"),
        )
        parameters: dict[str, Schema] = {}
        needing: list[str] = []
        for entry in steps:
            made = self._step_parameters(entry.name)
            needing += [entry.name] if made.get("required") else []
            parameters[entry.name] = self._defined(f"step.{entry.name}", made)
        step["allOf"] = _given("name", "parameters", parameters, needing)
        return self._defined("step", step)

    def _reporting(self) -> Schema:
        lists = {
            "RunReporters": self._reporters("run", lambda part: part.RunParameters),
            "FinalReporters": self._reporters("final", lambda part: part.FinalParameters),
        }
        return self._defined("reporting", {**self._object(ReportingFields, lists), "minProperties": 1})

    def _reporters(self, when: str, parameters: Callable[[Any], Any]) -> Schema:
        reporters = self._catalog.reporters
        reporter = self._object(ReporterFields, {"Name": _names(reporters)}, required=("Name",))
        parts = self._parts(reporters, f"{when}-report", parameters)
        needing = [name for name in parts if self._definitions[f"{when}-report.{name}"].get("required")]
        reporter["allOf"] = _given("Name", "Parameters", parts, needing)
        return {"type": "array", "items": self._defined(f"{when}-reporter", reporter)}

    # --- the parameters of parts

    def _parts(self, registry: Registry, role: str, parameters: Callable[[Any], Any]) -> dict[str, Schema]:
        """The parameter objects of all parts of a kind, by name."""
        found = {}
        for entry in registry:
            where = f"{role}.{entry.name}"
            made = _described(partial(self._part, registry, entry.name, parameters, where))
            found[entry.name] = self._defined(where, made)
        return found

    def _part(self, registry: Registry, name: str, parameters: Callable[[Any], Any], prefix: str) -> Schema:
        """The parameter object of a part that is no step."""
        kind = parameters(registry.load(name))
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            return {}
        made = struct_schema(kind, ref_template=f"#/$defs/{prefix}.{{name}}")
        for name, each in made.pop("$defs", {}).items():
            self._definitions[f"{prefix}.{name}"] = _closed(_nulls(each))
        steps = made["properties"].get(_STEPS)
        if steps is not None and not {"type", "anyOf", "$ref"} & set(steps):
            made["properties"][_STEPS] = {"$ref": "#/$defs/steps"}
        if not made.get("required"):
            # With nothing behind it, a key of YAML is null, and is taken for an empty object.
            made["type"] = ["object", "null"]
        return _closed(_nulls(made))

    def _step_parameters(self, name: str) -> Schema:
        return _described(lambda: parameters_schema(self._catalog.step(name).Parameters))

    # --- objects

    def _object(self, kind: type[Struct], more: Schema, *, required: Sequence[str] = ()) -> Schema:
        """The object of a descriptor's own fields; `more` has what their types do not say."""
        made = struct_schema(kind)["properties"]
        properties = {}
        for field in known_fields(kind):
            key = field.encode_name
            own = more.get(key) or {
                word: value for word, value in made[key].items() if word not in ("title", "default")
            }
            if key not in required and isinstance(own.get("type"), str) and field.type is not Duration:
                own = {**own, "type": [own["type"], "null"]} if "enum" not in own else own
            about = DESCRIPTIONS[kind].get(key)
            if about is not None:
                # Beside a reference nothing else is read.
                own = {"description": about, **({"allOf": [own]} if "$ref" in own else own)}
            properties[key] = own
        made_object: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        return made_object | ({"required": list(required)} if required else {})

    def _defined(self, name: str, schema: Schema) -> Schema:
        self._definitions[name] = schema
        return {"$ref": f"#/$defs/{name}"}


def _described(make: Callable[[], Schema]) -> Schema:
    try:
        return make()
    # The boundary to a part's code: one that is broken spoils the schema of no other.
    except Exception as error:
        return {"description": f"cannot be described: {describe(error)}"}


def _names(registry: Registry) -> Schema:
    """The name of a part, each with its summary, which editors show."""
    entries = list(registry)
    return {
        "type": "string",
        "enum": [entry.name for entry in entries],
        "enumDescriptions": [entry.summary for entry in entries],
    }


def _given(name: str, key: str, schemas: dict[str, Schema], needing: Sequence[str] = ()) -> list[Schema]:
    """For each part of that name: what stands under the key; those that need it, need it to be there."""
    return [
        {
            "if": {"properties": {name: {"const": part}}, "required": [name]},
            "then": {"properties": {key: schema}, **({"required": [key]} if part in needing else {})},
        }
        for part, schema in schemas.items()
    ]


def _nulls(schema: Schema) -> Schema:
    """With null for every member that may be left out, as the reader takes it; of durations it does not."""
    required = schema.get("required", ())
    for key, each in schema.get("properties", {}).items():
        if key not in required and isinstance(each.get("type"), str) and not {"enum", "pattern"} & set(each):
            each["type"] = [each["type"], "null"]
    return schema


def _closed(schema: Schema) -> Schema:
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


# --- a step's parameters: lists of values, as `contest_runner.binding` takes them


def parameters_schema(kind: type[Struct]) -> Schema:
    """The JSON Schema of a step's `parameters`, from its struct."""
    fields = parameter_fields(kind)
    docs = field_docs(kind)
    properties: Schema = {}
    for field in fields:
        if field.rest:
            continue
        words = [docs.get(field.name, ""), "May be a template." if field.expanded else ""]
        about = " ".join(filter(None, words))
        least = {"minItems": 1} if field.required else {}
        properties[field.key] = {
            **({"description": about} if about else {}),
            "type": "array",
            **least,
            "items": _value(field),
        }
    rest = any(field.rest for field in fields)
    return {
        "type": "object",
        "properties": properties,
        "required": [field.key for field in fields if field.required],
        "additionalProperties": {"type": "array"} if rest else False,
    }


def _value(field: ParameterField) -> Schema:
    """One value of a parameter: of its type, or a text that says it."""
    kind = field.item
    text: Schema = {"type": "string"}
    if kind in (str, Secret):
        return {"type": ["string", "number", "boolean", "null"]}
    if kind is int:
        return {
            "anyOf": [{"type": "integer"}, text if field.expanded else {**text, "pattern": "^[+-]?[0-9]+$"}]
        }
    if kind is float:
        return {"anyOf": [{"type": "number"}, text]}
    if kind is bool:
        said = "^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)$"
        number = {"type": "integer", "minimum": 0, "maximum": 1}
        return {"anyOf": [{"type": "boolean"}, text if field.expanded else {**text, "pattern": said}, number]}
    if kind in (Duration, ByteSize):
        own = schema_hook(kind)
        return {**text, "examples": own.get("examples", [])} if field.expanded and kind is Duration else own
    if get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        made = msgspec.json.schema(kind)
        values = next(iter(made.get("$defs", {}).values()), made)["enum"]
        return {"anyOf": [{"enum": values}, text]} if field.expanded else {"enum": values}
    return {}
