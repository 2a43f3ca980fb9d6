"""The version of the core that runs, and whether it meets a requirement.

The pyproject's version and this one are held together by tests/test_workspace.py.
"""

from __future__ import annotations

from typing import Final

CORE_VERSION: Final = "0.1.0"


def satisfies(version: str, specifiers: str) -> bool:
    """Whether a version meets a requirement such as `>=0.1,<0.2` (PEP 440).

    The two forms that nearly every plugin writes are decided here, since `packaging` costs a tenth of the
    time that `contest --help` may take; everything else is left to it.
    """
    clauses = [clause.strip() for clause in specifiers.split(",") if clause.strip()]
    decided = [_simple(version, clause) for clause in clauses]
    if None not in decided:
        return all(decided)
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifiers).contains(version, prereleases=True)


def _simple(version: str, clause: str) -> bool | None:
    for operator in (">=", "<"):
        bound = clause.removeprefix(operator)
        if bound != clause and _plain(bound) and _plain(version):
            have, want = _padded(version, bound)
            return have >= want if operator == ">=" else have < want
    return None


def _plain(text: str) -> bool:
    return all(part.isascii() and part.isdigit() for part in text.strip().split("."))


def _padded(*versions: str) -> list[list[int]]:
    split = [[int(part) for part in version.strip().split(".")] for version in versions]
    longest = max(map(len, split))
    return [parts + [0] * (longest - len(parts)) for parts in split]
