"""What the class of a part has to declare: a third-party class that is wrong is named, with what it lacks.

Asked by the descriptor's reader before it uses a part (contracts of parts: `contest_runner.step`,
`contest_runner.parts`). It calls nothing of the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import Struct

from contest_runner.parts import Fetcher, Reporter, TargetManager
from contest_runner.step import AllTargetsStep, Step, ThreadStep


class _Shape(NamedTuple):
    bases: tuple[type, ...]
    structs: tuple[str, ...]
    others: Mapping[str, type]


_SHAPES: Final[Mapping[str, _Shape]] = {
    "step": _Shape((Step, ThreadStep, AllTargetsStep), ("Parameters",), {"display_name": str}),
    "target manager": _Shape((TargetManager,), ("AcquireParameters", "ReleaseParameters"), {}),
    "fetcher": _Shape((Fetcher,), ("Parameters",), {}),
    "reporter": _Shape((Reporter,), ("RunParameters", "FinalParameters"), {"judges": bool}),
}


@lru_cache(maxsize=512)
def what_is_wrong(kind: str, part: object) -> str | None:
    """Why the object cannot be a part of this kind, and what its author is to declare; None where it can."""
    shape = _SHAPES[kind]
    wanted = " or ".join(base.__name__ for base in shape.bases)
    if not isinstance(part, type):
        return f"{part!r:.100} is no class; register a class that derives from {wanted}"
    name = f"class {part.__module__}.{part.__qualname__}"
    if not issubclass(part, shape.bases):
        return f"{name} does not derive from {wanted}"
    for attribute in shape.structs:
        found = getattr(part, attribute, None)
        # A step's fields are bound one by one; of another part's parameters the walk reads any type.
        if found is None or (kind == "step" and not _is_struct(found)):
            what = f"declares no {attribute!r}" if found is None else f"has a {attribute!r} that is none"
            return f"{name} {what}: declare a frozen msgspec.Struct, `{attribute} = ...`"
    for attribute, of in shape.others.items():
        if not isinstance(getattr(part, attribute, None), of):
            return f"{name} declares no {attribute!r}: declare a {of.__name__}, `{attribute} = ...`"
    if missing := sorted(getattr(part, "__abstractmethods__", ())):
        return f"{name} does not define {', '.join(missing)}"
    return None


def _is_struct(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Struct)
