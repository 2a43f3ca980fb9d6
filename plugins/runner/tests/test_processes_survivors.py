"""What a job, or a server that was killed, leaves behind, with real processes."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from contest_runner.processes import JobProcesses, Process, SpawnError, Supervisor, procfs
from contest_runner.processes import supervisor as supervisor_module
from contest_runner.processes.marker import Marker
from contest_runner.processes.orphans import UNCLAIMED, Orphans
from contest_runner.testing import Lab

LOG = logging.getLogger("test")


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(store_id="store", log=LOG)
    supervisor.become_subreaper()
    yield supervisor
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture
async def job(supervisor: Supervisor) -> AsyncIterator[JobProcesses]:
    job = supervisor.job(7)
    yield job
    await job.finish(grace=0.1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    found = procfs.stat(pid)
    return found is not None and not found.dead


async def run(job: JobProcesses, script: str) -> Process:
    async with await job.spawn(["sh", "-c", script]) as process:
        await process.wait()
    return process


def quiet(command: str) -> str:
    return f"{command} >/dev/null 2>&1 & echo $!"


DAEMONS = {
    "in the group": quiet("sleep 60"),
    "in a session of its own": quiet("setsid sleep 60"),
    "forked twice": "(setsid sh -c 'sleep 60 & echo $!; exec >/dev/null 2>&1; wait' & ); sleep 0.2",
    "in the session, its environment scrubbed": quiet("env -i sleep 60") + "; sleep 0.2",
    "asked in vain": quiet("setsid sh -c \"trap '' TERM; while :; do sleep 0.05; done\"") + "; sleep 0.2",
}


@pytest.mark.parametrize("script", DAEMONS.values(), ids=DAEMONS)
async def test_a_job_that_has_finished_leaves_no_process(
    supervisor: Supervisor, job: JobProcesses, script: str
) -> None:
    process = await run(job, script)
    pid = int(process.stdout.text())
    assert lives(pid)
    assert pid in [survivor.pid for survivor in supervisor.survivors(7)]
    async with asyncio.timeout(10):
        assert await job.finish(grace=0.3) == []
    assert procfs.stat(pid) is None
    assert supervisor.survivors(7) == []


async def test_a_survivor_says_what_it_is(supervisor: Supervisor, job: JobProcesses) -> None:
    await run(job, "setsid sleep 61 & exit 0")
    await until(lambda: [one.command for one in supervisor.survivors(7)] == ["sleep 61"])
    (survivor,) = supervisor.survivors(7)
    assert survivor.job_id == 7
    assert lives(survivor.pid)


async def test_a_process_that_no_block_owned_is_ended_with_its_job(job: JobProcesses) -> None:
    process = await job.spawn(["sh", "-c", "sleep 60 & wait"])
    assert await job.finish(grace=1) == []
    assert process.returncode == -signal.SIGTERM


async def test_a_job_ends_its_own_processes_only(supervisor: Supervisor, job: JobProcesses) -> None:
    other = supervisor.job(8)
    await run(job, "setsid sleep 60 & sleep 60 & exit 0")
    daemon = int((await run(other, quiet("setsid sleep 60"))).stdout.text())
    process = await other.spawn(["sleep", "60"])
    assert await job.finish(grace=1) == []
    assert lives(daemon)
    assert lives(process.pid)
    assert {survivor.pid for survivor in supervisor.survivors(8)} == {daemon, process.pid}
    assert await other.finish(grace=1) == []


async def test_nothing_can_be_started_after_a_job_has_finished(supervisor: Supervisor) -> None:
    job = supervisor.job(9)
    assert await job.finish(grace=1) == []
    with pytest.raises(SpawnError, match="job 9 has ended"):
        await job.spawn(["true"])
    assert supervisor.job(9) is not job


async def test_a_descendant_is_found_through_its_parents_whatever_it_hides(
    supervisor: Supervisor, job: JobProcesses
) -> None:
    await job.spawn(["sh", "-c", "env -i setsid -w sleep 62; exit"])
    await until(lambda: "sleep 62" in [one.command for one in supervisor.survivors(7)])
    pids = [survivor.pid for survivor in supervisor.survivors(7)]
    assert await job.finish(grace=1) == []
    assert not any(lives(pid) for pid in pids)


async def test_what_will_not_die_is_named_and_can_be_asked_again(
    supervisor: Supervisor,
    job: JobProcesses,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pid = int((await run(job, quiet("setsid sleep 60"))).stdout.text())
    with monkeypatch.context() as patch:
        patch.setattr(supervisor_module, "KILL_PATIENCE", 0.1)
        patch.setattr(Orphans, "signal", lambda *_: None)
        (left,) = await job.finish(grace=0.1)
    assert left.pid == pid
    assert f"process {pid} of job 7 would not die" in caplog.text
    assert await supervisor.job(7).finish(grace=1) == []
    assert not lives(pid)


async def test_orphans_that_end_by_themselves_are_buried(supervisor: Supervisor, job: JobProcesses) -> None:
    await run(job, "sleep 0.5 & setsid sleep 0.5 & (sleep 0.1 &) ; exit 0")
    assert procfs.children_of_main_thread(os.getpid()) != []
    await until(lambda: procfs.children_of_main_thread(os.getpid()) == [])


@pytest.mark.parametrize("own_session", [True, False])
async def test_the_child_of_a_library_is_left_to_it(supervisor: Supervisor, own_session: bool) -> None:
    popen = subprocess.Popen(["sh", "-c", "exit 7"], start_new_session=own_session)
    await until(lambda: not lives(popen.pid))
    assert await supervisor.reap_strays() == 0
    assert popen.wait() == 7


async def test_an_orphan_of_a_library_is_buried(supervisor: Supervisor) -> None:
    argv = ["sh", "-c", "sleep 0.2 & echo $!"]
    with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        pid = int(await asyncio.to_thread(popen.stdout.readline))
    await until(lambda: not lives(pid))
    assert procfs.stat(pid) is not None
    assert await supervisor.reap_strays() == 1


async def test_a_child_that_shows_no_marker_is_looked_at_again(supervisor: Supervisor) -> None:
    orphans = Orphans(Marker("store"), lambda: 0)
    with subprocess.Popen(["cat"], start_new_session=True, stdin=subprocess.PIPE):
        orphans.look()
        assert orphans.restless
    orphans.look()
    assert not orphans.restless


async def test_a_child_that_nobody_asks_for_is_buried_in_the_end(supervisor: Supervisor) -> None:
    now = 0.0
    orphans = Orphans(Marker("store"), lambda: now)
    popen = subprocess.Popen(["true"], start_new_session=True)
    await until(lambda: not lives(popen.pid))
    assert orphans.look() == 0
    now = UNCLAIMED - 1
    assert orphans.look() == 0
    now = UNCLAIMED
    assert orphans.look() == 1
    popen.wait()


async def test_without_adopting_a_daemon_is_found_by_its_marker() -> None:
    supervisor = Supervisor(store_id="store", log=LOG)
    job = supervisor.job(7)
    pid = int((await run(job, quiet("setsid sleep 60"))).stdout.text())
    assert await job.finish(grace=1) == []
    assert not lives(pid)


async def test_without_proc_the_groups_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "AVAILABLE", False)
    supervisor = Supervisor(store_id="store", log=LOG)
    job, other = supervisor.job(7), supervisor.job(8)
    background = int((await run(job, quiet("sleep 60"))).stdout.text())
    process = await job.spawn(["sleep", "60"])
    untouched = await other.spawn(["sleep", "60"])
    assert await job.finish(grace=1) == []
    await until(lambda: not lives(background))
    assert process.returncode == -signal.SIGTERM
    assert lives(untouched.pid)
    assert await other.finish(grace=1) == []


SERVER = """
import asyncio, logging, sys
from contest_runner.processes import Supervisor

async def main():
    supervisor = Supervisor(store_id=sys.argv[1], log=logging.getLogger())
    supervisor.become_subreaper()
    job = supervisor.job(3)
    for script in ("exec sleep 60", "setsid sleep 60 & exec sleep 60", "setsid sleep 60 & exit 0", "sleep 60 & exit 0"):
        await job.spawn(["sh", "-c", script])
    while [one.command for one in supervisor.survivors(3)] != ["sleep 60"] * 5:
        await asyncio.sleep(0.01)
    print(*(one.pid for one in supervisor.survivors(3)), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def store_id() -> Iterator[str]:
    store_id = uuid.uuid4().hex
    yield store_id
    for survivor in Supervisor(store_id=store_id, log=LOG).survivors():
        os.kill(survivor.pid, signal.SIGKILL)


@pytest.fixture
def server(store_id: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", SERVER, store_id]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as popen:
        yield popen
        popen.kill()


async def test_what_a_killed_server_left_is_found_and_ended_by_the_next(
    store_id: str, server: subprocess.Popen[str]
) -> None:
    assert server.stdout is not None
    pids = [int(pid) for pid in (await asyncio.to_thread(server.stdout.readline)).split()]
    assert len(pids) == 5
    next_server = Supervisor(store_id=store_id, log=LOG)
    assert next_server.survivors() == []  # what a living server has started is its own
    server.kill()
    server.wait()
    survivors = next_server.survivors()
    assert {(survivor.pid, survivor.job_id) for survivor in survivors} == {(pid, 3) for pid in pids}
    assert Supervisor(store_id="another", log=LOG).survivors() == []
    async with asyncio.timeout(10):
        assert await next_server.kill_survivors(None, grace=1) == []
    assert not any(lives(pid) for pid in pids)


async def test_the_marks_of_an_outer_server_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEST_MARKER", "outer:3:1.2 store:1:5.6")
    job = Supervisor(store_id="store", log=LOG).job(4)
    async with await job.spawn(["sh", "-c", "echo $CONTEST_MARKER"]) as process:
        await process.wait()
    outer, own = process.stdout.text().split()
    assert outer == "outer:3:1.2"
    assert own.startswith("store:4:")


def test_a_store_whose_name_would_spoil_the_marker_is_refused() -> None:
    with pytest.raises(ValueError, match="a store's identity"):
        Supervisor(store_id="a:b", log=LOG)


def test_a_disregard_of_dead_children_is_undone(supervisor: Supervisor) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        supervisor.become_subreaper()
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_where_orphans_cannot_be_adopted_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with caplog.at_level(logging.INFO):
        Supervisor(store_id="store", log=LOG).become_subreaper()
    assert "not on Linux" in caplog.text


async def test_a_program_that_goes_on_adopts_no_more_when_its_last_job_manager_has_ended(lab: Lab) -> None:
    def adopts() -> bool:
        value = ctypes.c_int()
        ctypes.CDLL(None).prctl(37, ctypes.byref(value), 0, 0, 0)
        return bool(value.value)

    gc.collect()  # supervisors of other tests
    async with lab.server():
        assert adopts()
    assert not adopts()
