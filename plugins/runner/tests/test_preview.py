"""`validate` with `plan`: what a job would do, and what each target would be given."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from contest_core import JobQuery, Secret, encode
from contest_runner import preview
from contest_runner.context import StepContext
from contest_runner.parts import AcquireContext, NoSettings, ReleaseContext, TargetManager
from contest_runner.preview import MAX_TARGETS
from contest_runner.step import Expanded, Step
from contest_runner.target import Target
from contest_runner.testing import Json, Lab, Serving, job_of, one_test, simple, step


async def planned(serving: Serving, job: object) -> Json:
    answer = json.loads(encode(await serving.api.validate(serving.caller, json.dumps(job), plan=True)))
    assert answer["Error"] is None
    plan: Json = answer["Data"]["Plan"]
    return plan


async def test_each_target_has_what_its_templates_come_to(lab: Lab) -> None:
    show = step("cmd", "show", executable="/bin/echo", args=["-n", "{{ ToUpper .ID }}"], emit_stdout=["true"])
    test = one_test(
        show,
        targets=["a", {"ID": "b", "FQDN": "b.lab"}],
        RetryParameters={"NumRetries": 2, "RetryInterval": "5s"},
        CleanupFetcherName="literal",
        CleanupFetcherFetchParameters={"Steps": [step("sleep", "calm", duration="1s")]},
        CleanupTimeout="1m",
    )
    off = one_test(show, name="off", Disabled=True)
    job = job_of(test, off, Runs=3, RunInterval="90s", Tags=["x"])
    async with lab.server() as serving:
        plan = await planned(serving, job)
        assert (await serving.api.list(serving.caller, JobQuery())).result().job_ids == []
    assert {key: plan[key] for key in ("Name", "Tags", "Runs", "RunInterval", "SkippedTests")} == {
        "Name": "job",
        "Tags": ["x"],
        "Runs": 3,
        "RunInterval": "1m30s",
        "SkippedTests": ["off"],
    }
    assert plan["RunReporters"] == [{"Name": "noop"}]
    (test,) = plan["Tests"]
    assert test["TargetManager"] == {"Name": "TargetList"}
    assert (test["Retries"], test["RetryInterval"], test["CleanupTimeout"]) == (2, "5s", "1m0s")
    assert test["Targets"] == [{"ID": "a"}, {"ID": "b", "FQDN": "b.lab"}]
    (first,) = test["Steps"]
    assert first == {
        "Label": "show",
        "Name": "cmd",
        "Parameters": {"executable": "/bin/echo", "emit_stdout": True},
        "Templates": {"args": ["-n", "{{ ToUpper .ID }}"]},
        "Targets": [
            {"ID": "a", "Parameters": {"args": ["-n", "A"]}},
            {"ID": "b", "Parameters": {"args": ["-n", "B"]}},
        ],
    }
    assert test["CleanupSteps"] == [{"Label": "calm", "Name": "sleep", "Parameters": {"duration": "1s"}}]


async def test_what_reads_a_variable_waits_for_it_and_what_would_fail_says_why(lab: Lab) -> None:
    job = simple(
        step("variables", "vars", image="x"),
        step("cmd", "flash", executable="/bin/true", args=['{{ StringVar "vars.image" }}'], dir="/{{ .ID }}"),
        step("echo", text="{{ index .FQDN 0 }}"),
        step("echo", "broken", text="{{ .Nope }}"),
        targets=["bare", {"ID": "named", "FQDN": "n.lab"}],
    )
    async with lab.server() as serving:
        _, flash, echo, broken = (await planned(serving, job))["Tests"][0]["Steps"]
    assert flash["Targets"][0] == {"ID": "bare", "Parameters": {"dir": "/bare"}, "WaitsFor": ["vars.image"]}
    bare, named = echo["Targets"]
    assert "out of range" in bare["Error"]
    assert named["Parameters"] == {"text": "110"}
    assert "Nope" in broken["Targets"][0]["Error"]


async def test_what_comes_to_nothing_is_shown_empty(lab: Lab) -> None:
    where = step("cmd", "where", executable="/bin/true", dir="{{ .FQDN }}")
    async with lab.server() as serving:
        (shown,) = (await planned(serving, simple(where, step("echo", text="{{ .FQDN }}"))))["Tests"]
    optional, required = (step["Targets"][0] for step in shown["Steps"])
    assert optional["Parameters"] == {"dir": ""}
    assert "Error" not in optional
    assert required["Parameters"] == {"text": ""}


async def test_where_the_descriptor_is_refused_there_is_no_plan(lab: Lab) -> None:
    async with lab.server() as serving:
        data = (await serving.api.validate(serving.caller, '{"Version": "1.0"}', plan=True)).result()
        assert data.plan is None
        assert data.findings
        whole = (
            await serving.api.validate(serving.caller, json.dumps(simple(step("echo", text="x"))))
        ).result()
        assert whole.plan is None


async def test_a_plan_of_many_targets_has_bounds(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_SECONDS", 60)
    steps = [step("echo", f"say{number}", text="{{ .ID }}") for number in range(300)]
    async with lab.server() as serving:
        (test,) = (await planned(serving, simple(*steps, targets=[f"t{n}" for n in range(5000)])))["Tests"]
    assert test["TargetCount"] == 5000
    assert len(test["Targets"]) == MAX_TARGETS
    shown = [len(step.get("Targets", ())) for step in test["Steps"]]
    assert (shown[0], sum(shown)) == (MAX_TARGETS, 10_000)


async def test_a_plan_of_large_values_has_bounds(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_SECONDS", 60)
    steps = [step("echo", f"say{number}", text='{{ printf "%500000d" 7 }}{{ .ID }}') for number in range(10)]
    async with lab.server() as serving:
        plan = await planned(serving, simple(*steps, targets=[f"t{n}" for n in range(50)]))
    assert 16 * 1024 * 1024 < len(json.dumps(plan)) < 18 * 1024 * 1024


async def test_a_plan_of_slow_templates_has_bounds_and_holds_nobody_up(lab: Lab) -> None:
    doubling = "".join(
        f'{{{{define "t{n}"}}}}{{{{template "t{n + 1}"}}}}{{{{template "t{n + 1}"}}}}{{{{end}}}}'
        for n in range(40)
    )
    slow = step("echo", text=doubling + '{{define "t40"}}{{end}}{{template "t0"}}')
    answers = 0
    async with lab.server() as serving, asyncio.TaskGroup() as group:
        asked = group.create_task(planned(serving, simple(slow, targets=[f"t{n}" for n in range(100)])))
        while not asked.done():
            await serving.api.list(serving.caller, JobQuery())
            answers += 1
    (test,) = (await asked)["Tests"]
    assert test["TargetCount"] == 100
    assert 1 <= len(test["Steps"][0]["Targets"]) < 100
    assert answers > 10


class Login(Struct, frozen=True):
    user: str
    password: Secret
    otp: Expanded[Secret]


class LoginStep(Step[Login]):
    """Takes two secrets."""

    Parameters: ClassVar[type[Struct]] = Login
    display_name: ClassVar[str] = "Login"

    async def run(self, target: Target, parameters: Login, context: StepContext) -> None:
        pass


class Given(Struct, frozen=True):
    token: Secret


class Hidden(TargetManager[Given, Given]):
    """Names no targets before it acquires."""

    Settings: ClassVar[type[Struct]] = NoSettings
    AcquireParameters: ClassVar[type[Struct]] = Given
    ReleaseParameters: ClassVar[type[Struct]] = Given

    async def acquire(self, parameters: Given, context: AcquireContext) -> Sequence[Target]:
        return [Target(id="t")]

    async def release(self, targets: Sequence[Target], parameters: Given, context: ReleaseContext) -> None:
        pass


class Failing(Hidden):
    """Its code for naming them is broken."""

    async def candidates(self, parameters: Given) -> Sequence[Target] | None:
        raise ZeroDivisionError("on purpose")


def password(name: str) -> Secret:
    return Secret(f"open-{name}")


async def test_a_plan_shows_no_secrets(lab: Lab) -> None:
    lab.add("target_managers", "hidden", Hidden)
    lab.add("template_functions", "password", password)
    lab.step("login", LoginStep)
    told: dict[str, Any] = {
        "TargetManagerAcquireParameters": {"token": "s3cret"},
        "TargetManagerReleaseParameters": {"token": "s3cret"},
    }
    enter = step("login", user="u", password="s3cret", otp="{{ .ID }}s3cret")
    say = step("echo", text="{{ password .ID }}")
    async with lab.server() as serving:
        hidden = await planned(serving, job_of(one_test(enter, TargetManagerName="hidden", **told)))
        shown = await planned(serving, simple(enter, say))
    assert "Targets" not in hidden["Tests"][0]
    assert "s3cret" not in json.dumps([hidden, shown])
    assert "open-" not in json.dumps(shown)
    assert hidden["Tests"][0]["TargetManager"]["Parameters"] == {"token": "******"}
    assert shown["Tests"][0]["Steps"][0]["Parameters"] == {"user": "u", "password": "******"}
    assert shown["Tests"][0]["Steps"][1]["Targets"][0]["Parameters"] == {"text": "******"}


class Exiting(Hidden):
    """It exits."""

    async def candidates(self, parameters: Given) -> Sequence[Target] | None:
        sys.exit("on purpose")


class Odd(Hidden):
    """It names what is no target."""

    async def candidates(self, parameters: Given) -> Sequence[Target] | None:
        return ["t1"]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("code", "says"), [(Exiting, "SystemExit: on purpose"), (Odd, "something else than targets")]
)
async def test_a_target_manager_that_exits_or_errs_spoils_its_own_part_only(
    lab: Lab, code: type[Hidden], says: str
) -> None:
    lab.add("target_managers", "broken", code)
    told: dict[str, Any] = {
        "TargetManagerAcquireParameters": {"token": "x"},
        "TargetManagerReleaseParameters": {"token": "x"},
    }
    job = job_of(one_test(step("echo", text="{{ .ID }}"), TargetManagerName="broken", **told))
    async with lab.server() as serving:
        (test,) = (await planned(serving, job))["Tests"]
    assert says in test["TargetsError"]


async def test_a_target_manager_that_cannot_say_spoils_its_own_part_only(lab: Lab, tmp_path: Any) -> None:
    lab.add("target_managers", "failing", Failing)
    told: dict[str, Any] = {
        "TargetManagerAcquireParameters": {"token": "x"},
        "TargetManagerReleaseParameters": {"token": "x"},
    }
    pool = {"TargetManagerAcquireParameters": {"FileURI": str(tmp_path / "none.csv")}}
    say = step("echo", text="{{ .ID }}")
    job = job_of(
        one_test(say, TargetManagerName="failing", **told),
        one_test(say, name="pool", TargetManagerName="CSVFileTargetManager", **pool),
    )
    async with lab.server() as serving:
        failing, csv = (await planned(serving, job))["Tests"]
    assert "on purpose" in failing["TargetsError"]
    assert "none.csv" in csv["TargetsError"]
    assert csv["Steps"] == [{"Label": "echo", "Name": "echo", "Templates": {"text": ["{{ .ID }}"]}}]


async def test_a_pool_is_what_the_file_lists(lab: Lab, tmp_path: Any) -> None:
    (tmp_path / "pool.csv").write_text("a1,a1.lab,,\nb1,b1.lab,,\na2,a2.lab,,\n")
    given = {"FileURI": str(tmp_path / "pool.csv"), "HostPrefixes": ["a"]}
    test = one_test(
        step("echo", text="{{ .FQDN }}"),
        TargetManagerName="CSVFileTargetManager",
        TargetManagerAcquireParameters=given,
    )
    async with lab.server() as serving:
        (shown,) = (await planned(serving, job_of(test)))["Tests"]
    assert [target["ID"] for target in shown["Targets"]] == ["a1", "a2"]
