"""Secrets: a parameter that is one is shown in no status, event, log or error, whatever a step does with it."""

from __future__ import annotations

import json
import logging
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core import Output, Secret, StartKeyConflict
from contest_runner.step import Expanded, Step, TargetFailed
from contest_runner.testing import Lab, simple, step

WORD = "hunter2-of-"


class Password(Struct, frozen=True, kw_only=True):
    """A password, plain or made for each target."""

    password: Expanded[Secret]
    more: list[Expanded[Secret]] = []


class Talks(Step[Password]):
    """Says its secret wherever it can."""

    Parameters = Password
    display_name = "Talks"
    events: ClassVar = {"Said": dict}

    async def run(self, target: Any, parameters: Password, context: Any) -> None:
        word = parameters.password.reveal()
        context.log.warning("the word is %s", word)
        context.log.error(f"it is {word}")
        await context.emit("Said", {"key": [1, {word: f"<{word}>"}], "secret": parameters.password})
        await context.set_variable("word", word)
        if target.id == "t1":
            raise TargetFailed(f"no {word}", output=Output(stdout=f"out {word}", stderr=f"err {word}"))
        if target.id == "t2":
            raise RuntimeError(f"no {word} {parameters.more[0].reveal()}")


@pytest.mark.parametrize("password", [WORD + "{{ .ID }}", WORD + "all"])
async def test_a_secret_parameter_is_nowhere_to_be_read(
    lab: Lab, caplog: pytest.LogCaptureFixture, password: str
) -> None:
    caplog.set_level(logging.DEBUG)
    lab.step("talks", Talks)
    async with lab.server() as serving:
        descriptor = simple(
            step("talks", password=password, more=[WORD + "more"]), targets=("t1", "t2", "t3")
        )
        status = await serving.run(descriptor)
        said = (
            json.dumps(status) + "".join(row.payload or "" for row in await serving.events(1)) + caplog.text
        )
        assert WORD not in said
        assert said.count(Secret.MASK) > 10
        assert "no ******" in said
        assert "the word is ******" in caplog.text


async def test_a_missing_or_wrong_secret_is_told_without_it(lab: Lab) -> None:
    lab.step("talks", Talks)
    reading = await lab.read(simple(step("talks", more=["{{ ", WORD])))
    assert WORD not in repr(reading.findings)
    assert reading.plan is None


async def test_a_conflict_of_start_keys_tells_no_secret(lab: Lab) -> None:
    lab.step("talks", Talks)
    async with lab.server() as serving:
        await serving.start(simple(step("talks", password=WORD + "one")), start_key="k")
        with pytest.raises(StartKeyConflict) as caught:
            await serving.start(simple(step("talks", password=WORD + "two")), start_key="k")
        assert WORD not in str(caught.value)
        assert Secret.MASK in str(caught.value)


class Numbers(Struct, frozen=True, kw_only=True):
    """Parameters that may be templates."""

    number: Expanded[int]
    words: list[Expanded[str]]


class Emits(Step[Numbers]):
    """Says what it was given."""

    Parameters = Numbers
    display_name = "Emits"
    events: ClassVar = {"Given": dict}

    async def run(self, target: Any, parameters: Numbers, context: Any) -> None:
        await context.emit("Given", {"number": parameters.number, "words": parameters.words})


async def test_a_template_of_constants_is_expanded_too(lab: Lab) -> None:
    lab.step("emits", Emits)
    async with lab.server() as serving:
        job_id = await serving.start(
            simple(step("emits", number="{{ 90 }}", words=["{{ `a` }}b", "c", "{{/**/}}"]))
        )
        assert (await serving.ended(job_id))["Verdict"] == "passed"
        (given,) = [row for row in await serving.events(job_id) if row.name == "Given"]
    assert json.loads(given.payload) == {"number": 90, "words": ["ab", "c", ""]}
