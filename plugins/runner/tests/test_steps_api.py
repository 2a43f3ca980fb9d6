"""What a step's context offers: variables, saved states, processes, in the loop and in threads."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from msgspec import Struct

from contest_runner.step import OnInterrupt, Step, ThreadStep
from contest_runner.testing import Lab, eventually, last_statuses, simple, step


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters."""


class Sets(Step[Nothing]):
    """Sets variables."""

    Parameters = Nothing
    display_name = "Sets"

    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        await context.set_variable("name", f"<{target.id}>")
        await context.set_variable("name", f"[{target.id}]")
        await context.set_variable("number", 7)
        for bad in ("", "1a", "a-b", "é"):
            try:
                await context.set_variable(bad, 1)
            except ValueError:
                continue
            raise AssertionError(bad)


class Thread(ThreadStep[Nothing]):
    """Uses all that a thread's context has."""

    Parameters = Nothing
    display_name = "Thread"
    events: ClassVar = {"Hello": dict}
    on_interrupt = OnInterrupt.RESUME
    threads: ClassVar[set[str]] = set()

    def run(self, target: Any, parameters: Any, context: Any) -> None:
        self.threads.add(threading.current_thread().name)
        assert context.info.step == "thread"
        assert context.info.job_id == 1
        assert context.lock_token > 0
        assert context.variables["sets"]["name"] == f'"[{target.id}]"'.encode()
        assert context.saved is None
        assert not context.stopping.wait(0.001)
        context.stopping.check()
        context.log.info("from a thread")
        context.emit("Hello", {"from": target.id})
        context.set_variable("mine", target.id)
        context.save({"x": 1})
        try:
            context.emit("Unknown")
        except ValueError:
            return
        raise AssertionError


async def test_variables_go_to_later_steps_of_the_same_target(lab: Lab) -> None:
    lab.step("sets", Sets)
    lab.step("thread", Thread)
    async with lab.server() as serving:
        status = await serving.run(simple(step("sets"), step("thread"), targets=("a", "b")))
        assert status["Verdict"] == "passed", status
        first = status["RunStatus"]["TestStatuses"][0]["TestStepStatuses"][0]["TargetStatuses"][0]
        emitted = [event["Data"]["Payload"] for event in first["Events"]]
        target = first["Target"]["ID"]
        assert emitted == [
            {"Name": "name", "Value": f'"<{target}>"'},
            {"Name": "name", "Value": f'"[{target}]"'},
            {"Name": "number", "Value": "7"},
        ]
        found = last_statuses(status)["a"]
        assert [event["Data"]["EventName"] for event in found["Events"]] == ["Hello", "VariableEmitted"]
        assert not any(name.startswith("asyncio") for name in Thread.threads)


async def test_many_jobs_leave_no_task_behind_and_the_server_no_thread(lab: Lab) -> None:
    import asyncio
    import gc

    async with lab.server() as serving:
        await serving.run(simple(step("cmd", executable="true"), targets=("a", "b")))
        before = len(asyncio.all_tasks())
        jobs = [
            await serving.start(
                simple(step("cmd", executable="true"), step("echo", text="x"), targets=(f"t{n}",))
            )
            for n in range(40)
        ]
        for job in jobs:
            assert (await serving.ended(job))["Verdict"] == "passed"
        assert len(asyncio.all_tasks()) <= before + 1
        assert not serving.manager._runner.jobs
        gc.collect()
        from contest_runner.job import Job

        kept = [one for one in gc.get_objects() if isinstance(one, Job) and one.store is serving.store]
        assert not kept


class Robbed(Step[Nothing]):
    """Saves something after another server has taken its job over."""

    Parameters = Nothing
    display_name = "Robbed"
    on_interrupt = OnInterrupt.RESUME
    store: ClassVar[Any] = None

    async def run(self, target: Any, parameters: Any, context: Any) -> None:
        taken = "UPDATE jobs SET lease_token = lease_token + 1"
        await self.store.write(lambda connection: connection.exec_driver_sql(taken).close())
        await context.save({"x": 1})
        raise AssertionError("saved what another server has to save")


async def test_a_step_is_not_to_blame_for_a_lease_that_is_gone(lab: Lab) -> None:
    lab.step("robbed", Robbed)
    async with lab.server() as serving:
        Robbed.store = serving.store
        job_id = await serving.start(simple(step("robbed"), targets=("a",)))
        await eventually(lambda: serving.manager.running(job_id) is None, "the end of it here")
        events = await serving.store.events(job_id=job_id, limit=100)
    assert [event.name for event in events if event.target == "a"] == ["TargetAcquired", "TargetIn"]
