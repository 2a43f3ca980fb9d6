"""What a template function gives as a secret reaches the step, and nobody who reads."""

from __future__ import annotations

import json

from contest_core import Secret
from contest_runner.testing import Lab, last_statuses, simple, step


def password(name: str) -> Secret:
    return Secret(f"open-{name}")


def nothing(name: str) -> Secret:
    return Secret("")


SAYS = ["-c", 'printf "%s" "$0"; test "$0" != "" && exit 3', "{{password .ID}}"]


async def test_a_secret_of_a_function_is_given_to_the_step_and_masked_everywhere(lab: Lab) -> None:
    lab.add("template_functions", "password", password)
    job = simple(step("cmd", "show", executable="/bin/sh", args=SAYS, emit_stdout=[True]), targets=["a", "b"])
    async with lab.server() as serving:
        job_id = await serving.start(job)
        status = await serving.ended(job_id)
        text = json.dumps(status) + "".join(str(row.payload) for row in await serving.events(job_id))
    assert '"Msg": "******"' in text
    assert last_statuses(status)["a"]["Output"]["StdoutSize"] == len("open-a")
    assert "open-" not in text


async def test_an_empty_secret_masks_nothing(lab: Lab) -> None:
    lab.add("template_functions", "nothing", nothing)
    job = simple(step("cmd", "show", executable="/bin/echo", args=["[{{nothing .ID}}]"], emit_stdout=[True]))
    async with lab.server() as serving:
        job_id = await serving.start(job)
        await serving.ended(job_id)
        assert any(
            "[]" in str(row.payload) for row in await serving.events(job_id) if row.name == "CmdStdout"
        )


async def test_a_secret_of_one_job_is_nothing_to_another(lab: Lab) -> None:
    lab.add("template_functions", "password", password)
    async with lab.server() as serving:
        await serving.run(simple(step("echo", text="{{password .ID}}")))
        shown = simple(step("cmd", executable="/bin/echo", args=["open-t1"], emit_stdout=[True]))
        job_id = await serving.start(shown)
        await serving.ended(job_id)
        assert any(
            "open-t1" in str(row.payload) for row in await serving.events(job_id) if row.name == "CmdStdout"
        )
