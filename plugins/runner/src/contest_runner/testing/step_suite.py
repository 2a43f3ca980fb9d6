"""The suite that the author of a step subclasses: every case is a promise of the contract, in jobs on a real runner.

The smallest whole test file of a step:

    from contest_runner.testing import StepSuite

    class TestWeigh(StepSuite):
        step = Weigh
        passes = {"scale": "/dev/null"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import Struct

from contest_core import Blame, JobState, Secret, Verdict
from contest_core.job_manager import Termination
from contest_core.settings import dec_hook
from contest_core.testing import Complaints, Heard, Suite, case
from contest_runner.binding import parameter_fields, text_form
from contest_runner.descriptor_schema import parameters_schema
from contest_runner.step import BaseStep, OnInterrupt
from contest_runner.store import EventRow
from contest_runner.testing.lab import Json, Serving, last_statuses
from contest_runner.testing.part_place import refused_at, until
from contest_runner.testing.step_place import StepPlace, heartbeat

MANY = tuple(f"t{number}" for number in range(1, 26))

HELD: float = 1.0
"""Seconds for which no step may hold the event loop."""


class StepSuite(Suite):
    """Holds a step to its contract.

    What is given here are parameters as in a job; a value that is no list is made one. Where they are known only when
    a test runs, a fixture of the class (`autouse=True`) may set them on `self`.
    """

    step: ClassVar[type[BaseStep[Any]]]
    """The step."""

    passes: ClassVar[Mapping[str, Any]]
    """With these any target passes, soon."""

    fails: ClassVar[Mapping[str, Any] | None] = None
    """With these any target fails, soon."""

    blame: ClassVar[Blame] = Blame.TEST
    """Whose fault that is."""

    refused: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """By the name of a parameter, those in which this one is wrong: the job is refused."""

    lasts: ClassVar[Mapping[str, Any] | None] = None
    """With these it goes on for a minute at least, unless it is stopped. Where it says `resume`, it saves soon."""

    def place(self, directory: Path, complaints: Complaints) -> StepPlace:
        """Where a case happens."""
        return StepPlace(self.step, directory, complaints)

    # --- what it declares

    @case
    async def test_what_it_declares_is_whole(self, place: StepPlace) -> None:
        """It is made without arguments, and says what the runner asks of its class."""
        made = self.step()
        assert made.display_name, "`display_name` is what the status calls it"
        assert isinstance(made.on_interrupt, OnInterrupt), "`on_interrupt` is one of `OnInterrupt`"
        assert issubclass(made.Parameters, Struct)
        assert made.Parameters.__struct_config__.frozen, "`Parameters` is frozen: targets may share one"
        known = {field.name for field in parameter_fields(made.Parameters)}
        assert set(made.checks) <= known, f"`checks` are by field, and there are {', '.join(sorted(known))}"
        for name, kind in made.events.items():
            assert name, "an event has a name"
            assert msgspec.json.schema(kind) is not None

    @case
    async def test_its_parameters_are_described_for_editors(self, place: StepPlace) -> None:
        """`contest schema` has them all, each with the docstring below it."""
        found = parameters_schema(self.step.Parameters)
        properties = found["properties"]
        told = [
            name for name, each in properties.items() if each.get("description", "")[:6] not in ("", "May be")
        ]
        assert told == list(properties), "each parameter has a docstring below it"
        if found["additionalProperties"] is False:
            for example in self._examples():
                assert set(example) <= set(properties), f"there are {', '.join(properties) or 'none'}"

    # --- how it ends

    @case
    async def test_a_target_passes(self, place: StepPlace) -> None:
        """By returning."""
        async with place.serve() as serving:
            status = await serving.run(place.job(self.passes))
            _all_passed(status)

    @case
    async def test_a_target_fails_and_the_error_says_why(self, place: StepPlace) -> None:
        """By raising `TargetFailed`: the job goes on to its end, and nothing is a fault of the plugin."""
        if self.fails is None:
            pytest.skip("the suite has no `fails`")
        async with place.serve() as serving:
            status = await serving.run(place.job(self.fails, ("t1", "t2")))
        assert status["State"] == JobState.COMPLETED.wire_name, status["StateErrMsg"]
        for target, found in last_statuses(status).items():
            assert found["Error"].strip(), f"{target} passed, or nothing says why it failed"
            assert found["Blame"] == self.blame, (
                f"{target} is the fault of {found['Blame']}: {found['Error']}"
            )

    @case
    async def test_wrong_parameters_are_refused_when_the_job_is_handed_in(self, place: StepPlace) -> None:
        """With the place of what is wrong, and a message; nothing is run."""
        if not self.refused:
            pytest.skip("the suite has no `refused`")
        async with place.serve() as serving:
            for name, parameters in self.refused.items():
                await refused_at(serving, place.job(parameters), "parameters", name)
        assert place.notes.entered == []

    # --- what it is given

    @case
    async def test_templates_are_expanded_for_each_target(self, place: StepPlace) -> None:
        """Written as templates, parameters do the same as written out."""
        expanded = self._as_templates(self.passes)
        if expanded == self.passes:
            pytest.skip("no parameter in `passes` is `Expanded`")
        outcomes = []
        async with place.serve() as serving:
            for parameters in (self.passes, expanded):
                place.notes.entered.clear()
                job_id = await serving.start(place.job(parameters, ("t1", "t2")))
                _all_passed(await serving.ended(job_id))
                outcomes.append((place.notes.parameters(), await self._did(place, serving, job_id)))
        assert outcomes[0] == outcomes[1]

    @case
    async def test_a_second_run_goes_like_the_first(self, place: StepPlace) -> None:
        """One object serves all targets of all runs: what belongs to one of them is not kept in it."""
        async with place.serve() as serving:
            job_id = await serving.start(place.job(self.passes, ("t1", "t2"), Runs=2))
            status = await serving.ended(job_id)
            assert len(status["RunStatuses"]) == 2
            for run in status["RunStatuses"]:
                assert _errors(run) == {}, "a target failed"
            _all_passed(status)

    @case
    async def test_many_targets_side_by_side_hold_nobody_up(self, place: StepPlace) -> None:
        """All of them pass, and the event loop is free meanwhile."""
        async with place.serve() as serving:
            with heartbeat() as beats:
                status = await serving.run(place.job(self.passes, MANY))
            _all_passed(status)
            assert len(last_statuses(status)) == len(MANY)
        held = max(later - earlier for earlier, later in pairwise(beats))
        assert held < HELD, f"the event loop was held for {held:.1f} s: nobody else was served"

    # --- what it says

    @case
    async def test_its_events_are_those_it_declares(self, place: StepPlace) -> None:
        """Each with a payload of the type that it declares, or none."""
        if not self.step.events:
            pytest.skip("it declares no events")
        async with place.serve() as serving:
            for parameters in filter(None, (self.passes, self.fails)):
                job_id = await serving.start(place.job(parameters))
                await serving.ended(job_id)
                for row in await place.emitted(serving, job_id):
                    self._check_event(row)

    @case
    async def test_its_variables_are_those_it_declares(self, place: StepPlace) -> None:
        """In `outputs`: else names of variables in jobs cannot be checked."""
        made = self.step()
        made.outputs(None)
        async with place.serve() as serving:
            job_id = await serving.start(place.job(self.passes))
            await serving.ended(job_id)
            rows = await place.variables(serving, job_id)
        declared = made.outputs(place.notes.entered[0][1])
        found = {_variable(row) for row in rows}
        assert declared is None or found <= declared, (
            f"`outputs` has only {', '.join(sorted(declared)) or 'none'}"
        )

    @case
    async def test_its_secrets_are_shown_nowhere(self, place: StepPlace) -> None:
        """Not in a status, an event, or the log."""
        secrets = self._secrets(self.passes)
        if not secrets:
            pytest.skip("no parameter in `passes` is a `Secret`")
        assert all(len(secret) > 5 for secret in secrets), "give a secret that is not found by chance"
        with Heard() as heard:
            async with place.serve() as serving:
                job_id = await serving.start(place.job(self.passes))
                shown = [str(await serving.ended(job_id)), *map(str, await serving.events(job_id))]
        for secret in secrets:
            assert not [text for text in shown + heard.lines if secret in text], "a secret is shown"

    # --- being stopped

    @case
    async def test_a_stop_is_obeyed_within_the_grace(self, place: StepPlace) -> None:
        """The job is cancelled, and its targets are free."""
        lasts = self._lasts()
        async with place.serve(stop_grace="1s") as serving:
            job_id = await place.inside(serving, lasts, ("t1", "t2"))
            assert await serving.stop(job_id) is None, "it did not last"
            status = await serving.ended(job_id)
            assert status["State"] == JobState.CANCELLED.wire_name, status["StateErrMsg"]
            assert await serving.locks() == {}

    @case
    async def test_given_up_it_leaves_nothing(self, place: StepPlace) -> None:
        """No task, thread, process or file, though the server ends at once."""
        lasts = self._lasts()
        place.expect_errors()
        async with place.serve(at_exit=Termination.HURRY) as serving:
            await place.inside(serving, lasts, ("t1", "t2"))

    @case
    async def test_an_interruption_is_as_it_declares(self, place: StepPlace) -> None:
        """Killed in the midst of it, the next server fails the target, or gives it to the step again."""
        lasts, how = self._lasts(), self.step.on_interrupt
        async with place.serve() as serving:
            job_id = await place.inside(serving, lasts, ("t1",))
            if how is OnInterrupt.RESUME:
                saved = partial(serving.store.saved_states, job_id, 1)
                await until(saved, "it says `resume` and has saved something; else it only runs again")
            await place.kill(serving)
        place.notes.entered.clear()
        place.notes.found.clear()
        async with place.serve() as serving:
            if how is OnInterrupt.FAIL:
                status = await serving.ended(job_id)
                assert last_statuses(status)["t1"]["Blame"] == Blame.SERVER
                assert place.notes.entered == []
                return
            await until(lambda: place.notes.entered, "the step is given the target again")
            if how is OnInterrupt.RESUME:
                await until(lambda: place.notes.found, "it says `resume` and looks at `context.saved`")
                assert place.notes.found[0] is not None, "what it had saved is there"
            await serving.stop(job_id)
            await serving.ended(job_id)

    # --- inside

    def _lasts(self) -> Mapping[str, Any]:
        if self.lasts is None:
            pytest.skip("the suite has no `lasts`")
        return self.lasts

    def _examples(self) -> list[Mapping[str, Any]]:
        return [self.passes, *(example for example in (self.fails, self.lasts) if example is not None)]

    def _check_event(self, row: EventRow) -> None:
        assert row.name in self.step.events, f"it emitted {row.name}: {row.payload}"
        kind = self.step.events[row.name]
        if row.payload is None:
            return
        try:
            msgspec.json.decode(row.payload, type=kind, dec_hook=dec_hook)
        except msgspec.MsgspecError as error:
            raise AssertionError(f"the payload of {row.name} is no {kind.__name__}: {error}") from None

    def _as_templates(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The same, but what may be a template is one."""
        expanded = {field.key for field in parameter_fields(self.step.Parameters) if field.expanded}
        return {name: _template(value) if name in expanded else value for name, value in parameters.items()}

    def _secrets(self, parameters: Mapping[str, Any]) -> list[str]:
        secret = [field.key for field in parameter_fields(self.step.Parameters) if field.item is Secret]
        values = [parameters[name] for name in secret if name in parameters]
        return [text for value in values for text in (value if isinstance(value, list) else [value])]

    async def _did(self, place: StepPlace, serving: Serving, job_id: int) -> list[tuple[str | None, str]]:
        """What the step has said of each target: the names of events and variables."""
        emitted = [(row.target, row.name) for row in await place.emitted(serving, job_id)]
        told = [(row.target, _variable(row)) for row in await place.variables(serving, job_id)]
        return sorted(emitted + told, key=str)


def _variable(row: EventRow) -> str:
    name: str = json.loads(row.payload or "{}")["Name"]
    return name


def _template(value: Any) -> Any:
    """A template that comes to this value, for any target."""
    if isinstance(value, list):
        return [_template(each) for each in value]
    text = text_form(value)
    if "{{" in text:
        return value
    quoted = json.dumps(text)
    return f"{{{{ if .ID }}}}{{{{ {quoted} }}}}{{{{ end }}}}"


def _all_passed(status: Json) -> None:
    assert _errors(status["RunStatus"]) == {}, "a target failed"
    assert last_statuses(status), "no target came to the step"
    assert status["Verdict"] == Verdict.PASSED, status["StateErrMsg"]


def _errors(run: Json) -> dict[str | None, str]:
    """By target, why it failed."""
    found = last_statuses({"RunStatus": run})
    return {target: each["Error"] for target, each in found.items() if each["Error"]}
