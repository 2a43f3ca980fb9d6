"""Compares descriptors as parsed JSON with sorted keys: whether two starts with one start key mean the same job.

Used by the job manager. What differs is told without secrets, and briefly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from difflib import unified_diff
from itertools import takewhile
from typing import Final

import msgspec

from contest_core import Secret

_COMPARED: Final = 500
"""Lines, from the first difference on: looking for the shortest difference of many takes very long."""


def digest_of(descriptor: str) -> str:
    """The same for descriptors that are equal."""
    return hashlib.sha256(_canonical(descriptor)).hexdigest()


def difference_of(theirs: str, ours: str, secrets: Collection[str]) -> str:
    """The first lines in which they differ."""
    before, after = _from_difference_on(*(_lines(text) for text in (theirs, ours)))
    changes = [
        _masked(line.strip(), secrets)[:120]
        for line in unified_diff(before, after, lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    return "; ".join(changes[:4]) + (" ..." if len(changes) > 4 else "")


def _canonical(descriptor: str) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(descriptor), order="deterministic")


def _lines(text: str) -> list[str]:
    return msgspec.json.format(_canonical(text), indent=1).decode().splitlines()


def _from_difference_on(theirs: Sequence[str], ours: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(theirs, ours, strict=False)))
    return theirs[same : same + _COMPARED], ours[same : same + _COMPARED]


def _masked(line: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        line = line.replace(json.dumps(secret)[1:-1], Secret.MASK).replace(secret, Secret.MASK)
    return line
