"""JSON Schema of settings, with the docstrings of their fields; `contest config schema` is `schema()`.

Called by the program, by whoever writes documentation, and by the runner for the parameters of steps. msgspec
keeps no docstrings of fields and cannot write defaults of custom types, so both are put in here.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from contest_core import settings
from contest_core.config_model import ListenerKeys, PluginsSettings, Registries, RegistryLike, ServerSettings
from contest_core.config_resolve import load_class

SchemaHook = Callable[[type], dict[str, Any]]
EncHook = Callable[[Any], Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_BUILT_IN_FACTORIES: Final = (list, dict, set, tuple, frozenset)


def schema(registries: Registries) -> dict[str, Any]:
    """The JSON Schema of a whole configuration, with the settings of all that is installed.

    A part that cannot be imported may hold anything, and its description says why.
    """
    definitions: dict[str, Any] = {}
    listeners = _parts(registries.listeners, "listener", definitions, common=ListenerKeys)
    managers = _parts(registries.job_managers, "job_manager", definitions)
    authenticators = _parts(registries.authenticators, "authenticator", definitions)
    properties = {
        "server": _struct(ServerSettings, "server", definitions),
        "listeners": {"type": "array", "minItems": 1, "items": listeners},
        "job_manager": managers,
        "authentication": {"type": "array", "items": authenticators},
        "plugins": _struct(PluginsSettings, "plugins", definitions),
    }
    return {
        "$schema": _DIALECT,
        "title": "The configuration of a Contest server",
        "type": "object",
        "properties": properties,
        "required": ["listeners", "job_manager"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _parts(
    registry: RegistryLike,
    what: str,
    definitions: dict[str, Any],
    *,
    common: type[msgspec.Struct] | None = None,
) -> dict[str, Any]:
    """One `kind: settings`, of all kinds in a registry."""
    kinds = []
    for kind in registry.names():
        made_by, failure = load_class(registry, kind)
        if failure is not None:
            own: dict[str, Any] = {"description": f"cannot be loaded: {failure}"}
        else:
            own = _struct(made_by.Settings, f"{what}.{kind}", definitions)
        if common is not None and failure is None:
            shared = _struct(common, what, definitions)
            own["properties"] = {**own["properties"], **shared["properties"]}
        kinds.append(
            {"type": "object", "properties": {kind: own}, "required": [kind], "additionalProperties": False}
        )
    return {"oneOf": kinds} if kinds else {"not": {}, "description": f"no {what} is installed"}


def _struct(kind: type[msgspec.Struct], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a settings struct; what it refers to is added to the definitions under the prefix."""
    made = struct_schema(kind, ref_template=f"#/$defs/{prefix}.{{name}}")
    definitions |= {f"{prefix}.{name}": each for name, each in made.pop("$defs", {}).items()}
    if not made["required"]:
        # `- stdio:` with nothing below it is an empty mapping.
        made["type"] = ["object", "null"]
    return made | {"additionalProperties": False}


def struct_schema(
    kind: type[msgspec.Struct],
    *,
    schema_hook: SchemaHook = settings.schema_hook,
    enc_hook: EncHook = settings.enc_hook,
    ref_template: str = "#/$defs/{name}",
) -> dict[str, Any]:
    """The JSON Schema of a struct, its fields described by the strings below them.

    What it is made of stands in `$defs`. `schema_hook` and `enc_hook` are msgspec's, for custom types.
    """
    copies = _Copies()
    root = copies.of(kind)
    _, components = msgspec.json.schema_components(
        (root,), schema_hook=schema_hook, ref_template=ref_template
    )
    for original, copy in copies.made.items():
        _describe(components[copy.__name__], original, enc_hook)
    made: dict[str, Any] = components.pop(root.__name__)
    made.pop("title", None)
    return made | ({"$defs": components} if components else {})


def _describe(component: dict[str, Any], kind: type[msgspec.Struct], enc_hook: EncHook) -> None:
    """Puts the docstrings and the defaults of the fields into a struct's schema."""
    documented = field_docs(kind)
    for field in msgspec.structs.fields(kind):
        own = component["properties"][field.encode_name]
        if field.name in documented:
            own["description"] = documented[field.name]
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory in _BUILT_IN_FACTORIES:
            default = field.default_factory()
        if default is not msgspec.NODEFAULT and default is not msgspec.UNSET:
            own["default"] = msgspec.json.decode(msgspec.json.encode(default, enc_hook=enc_hook))


class _Copies:
    """Copies of structs without their defaults, which msgspec could not write into a schema."""

    def __init__(self) -> None:
        self.made: dict[type[msgspec.Struct], type[msgspec.Struct]] = {}

    def of(self, kind: Any) -> Any:
        """The type with every struct in it replaced by its copy."""
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            config = kind.__struct_config__
            return kind if config.array_like or config.tag is not None else self._copy(kind)
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is None or origin is Literal:
            return kind
        if origin is Annotated:
            return Annotated[(self.of(arguments[0]), *arguments[1:])]
        replaced = tuple(self.of(argument) for argument in arguments)
        return Union[replaced] if origin is types.UnionType else origin[replaced]  # noqa: UP007 - made at run time

    def _copy(self, kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
        if kind not in self.made:
            fields: list[Any] = []
            for field in msgspec.structs.fields(kind):
                options: dict[str, Any] = {} if field.required else {"default_factory": _no_default}
                copied = msgspec.field(name=field.encode_name, **options)
                fields.append((field.name, self.of(field.type), copied))
            self.made[kind] = msgspec.defstruct(
                self._name(kind),
                fields,
                kw_only=True,
                forbid_unknown_fields=kind.__struct_config__.forbid_unknown_fields,
                namespace={"__doc__": kind.__doc__} if kind.__doc__ else None,
            )
        return self.made[kind]

    def _name(self, kind: type) -> str:
        name = re.sub(r"\W", "_", kind.__name__)
        taken = {copy.__name__ for copy in self.made.values()}
        return next(each for each in (name, *(f"{name}_{n}" for n in range(2, 10_000))) if each not in taken)


def _no_default() -> None:
    """Stands for any default in a copy, which is never instantiated."""


def field_docs(struct_class: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring of each field, the string below it, by the field's name in Python; inherited ones too.

    Read from the source, since nothing keeps them; without a source there are none. Each is one paragraph.
    """
    found: dict[str, str] = {}
    for base in reversed(struct_class.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            found |= _own_docs(base)
    return found


def _own_docs(kind: type) -> Mapping[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(kind))
        tree = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[field.target.id] = " ".join(below.value.value.split())
    return found
