"""What is read at once is read as the walk reads it, and nothing that the walk has something to say about."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw, Struct, UnsetType

from contest_core import ByteSize, Duration, Secret
from contest_core.plugins import load_plugins
from contest_runner.catalog import Catalog
from contest_runner.descriptor import Reading, read_descriptor, reading
from contest_runner.exact import Inexact, exactly
from contest_runner.parts import FetchedTest, Fetcher
from contest_runner.testing import simple, step
from contest_runner.walk import Walk

LOG = logging.LoggerAdapter(logging.getLogger("test"), {})


class Colour(StrEnum):
    RED = "red"


class Inner(Struct, kw_only=True):
    size: int = 0
    label: str | None = None


class Checked(Struct, kw_only=True):
    level: int

    def __post_init__(self) -> None:
        if self.level > 3:
            raise ValueError("too high")


class Chain(Struct, kw_only=True):
    next: Chain | None = None


class Everything(Struct, kw_only=True, rename="pascal"):
    text: str = ""
    whole: int = 0
    part: float = 0.5
    flag: bool = False
    perhaps: int | None = 7
    secret: Secret | None = None
    wait: Duration = Duration(0)
    room: ByteSize | None = None
    colour: Colour = Colour.RED
    word: Literal["a", "b"] = "a"
    anything: Any | UnsetType = UNSET
    inner: Inner = msgspec.field(default_factory=Inner)
    inners: list[Inner] = []
    some: Sequence[int] = ()
    pair: tuple[str, ...] = ()
    table: dict[str, list[Any]] = {}
    map: Mapping[str, Inner] = {}
    holes: dict[str, str | None] = {}
    gaps: list[Inner | None] = []
    checked: Checked | None = None
    chain: Chain | None = None


LEAVES = st.sampled_from(
    [None, True, 0, 1, -1, 4, 2**63, 2**70, 1.0, 1.5, 1e30, "", "a", "red", "3s", "1KB", "x\0", "é"]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["size", "Size", "label", "level", "next", "k", "a/b~"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
KEYS = [field.encode_name for field in msgspec.structs.fields(Everything)]


def walked(value: Any, kind: Any) -> tuple[Any, list[Any]]:
    walk = Walk()
    return walk.read(value, kind, ""), walk.findings


@given(st.dictionaries(st.sampled_from([*KEYS, "whole", "other"]), VALUES, max_size=3))
def test_what_is_read_at_once_the_walk_reads_alike(document: dict[str, Any]) -> None:
    try:
        read = exactly(document, Everything)
    except Inexact:
        return
    slow, findings = walked(document, Everything)
    assert read == slow
    assert not findings


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"Text": "x", "Whole": 3},
        {"Inner": {"size": 1}},
        {"Inners": [{"label": "x"}] * 30, "Flag": True},
        {"Holes": {"a": None, "b": "x"}},
    ],
)
def test_what_is_spelt_exactly_is_read_at_once(document: dict[str, Any]) -> None:
    class Plain(Struct, kw_only=True, rename="pascal"):
        text: str = ""
        whole: int = 0
        flag: bool = False
        inner: Inner = msgspec.field(default_factory=Inner)
        inners: list[Inner] = []
        holes: dict[str, str | None] = {}

    assert exactly(document, Plain) == walked(document, Plain)[0]


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"SIZE": 1}, Inner),
        ({"size": 1, "more": 2}, Inner),
        ({"label": None}, Inner),
        ({"level": 4}, Checked),
        ({"size": "1"}, Inner),
        ([], Inner),
        ({"next": {}}, Chain),
        ({"x": 1}, Raw),
        ({"Wait": 0}, Everything),
        ([{"size": 1}, {"Size": 1}], list[Inner]),
    ],
    ids=str,
)
def test_what_is_spelt_otherwise_or_wrong_is_left_to_the_walk(document: Any, kind: Any) -> None:
    with pytest.raises(Inexact):
        exactly(document, kind)


def spellings() -> dict[str, Any]:
    job: Any = simple(step("echo", "first", text="x"), step("echo", "second", text="{{ .ID }}"))
    other = json.loads(json.dumps(job).replace('"JobName"', '"jobname"'))
    return {
        "exact": job,
        "folded": other,
        "with an unknown key": {**job, "Colour": "red"},
        "with a warning": simple(step("echo", text="{{ nonsense")),
        "twice": {**job, "JOBNAME": "second"},
    }


async def of(text: str, catalog: Catalog) -> Reading:
    return await read_descriptor(text, catalog, log=LOG)


@pytest.mark.parametrize("spelling", spellings())
async def test_a_descriptor_read_at_once_gives_the_plan_of_the_walk(
    spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(load_plugins())
    text = json.dumps(spellings()[spelling])
    quick = await of(text, catalog)

    async def never(*_: object) -> None:
        return None

    monkeypatch.setattr(reading._Attempts, "exactly", never)
    slow = await of(text, catalog)
    assert slow.plan is not None
    assert (quick.plan, quick.findings) == (slow.plan, slow.findings)
    assert [len(test.steps) for test in quick.bound] == [len(test.steps) for test in slow.plan.tests]


class Nothing(Struct, kw_only=True):
    pass


async def test_a_fetcher_is_asked_once_however_often_its_descriptor_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    class Counting(Fetcher[Nothing]):
        Parameters: ClassVar[type[Struct]] = Nothing

        async def fetch(self, parameters: Nothing, context: object) -> FetchedTest:
            asked.append(1)
            return FetchedTest(name="counted", steps=[step("echo", text="{{ nonsense")], path="")

    catalog = Catalog(load_plugins())
    monkeypatch.setattr(catalog, "fetcher", lambda name: Counting)
    job: Any = {**simple(), "JOBNAME": "twice"}
    job["TestDescriptors"][0]["TestFetcherFetchParameters"] = {}
    read = await of(json.dumps(job), catalog)
    assert read.plan is not None
    assert read.findings
    assert len(asked) == 1
