"""A single process of a job, with real ones: output, exit, ending, refusals, limits."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from contest_runner.processes import JobProcesses, SpawnError, Supervisor
from contest_runner.processes import job as job_module

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
    assert await job.finish(grace=0.1) == []


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def zombies() -> list[str]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in children if not lives(int(pid))]


async def test_a_command_gives_its_output_and_its_exit_status(job: JobProcesses) -> None:
    async with await job.spawn(["sh", "-c", "echo out; echo err >&2; exit 3"]) as process:
        assert await process.wait() == 3
    assert (process.stdout.tail, process.stderr.tail) == (b"out\n", b"err\n")
    assert (process.stdout.size, process.stderr.size) == (4, 4)
    assert process.stdout.text() == "out\n"


async def test_the_end_of_a_signal_is_a_negative_number(job: JobProcesses) -> None:
    async with await job.spawn(["sh", "-c", "kill -9 $$"]) as process:
        assert await process.wait() == -signal.SIGKILL


async def test_only_the_end_of_the_output_is_kept_and_all_of_it_counted(job: JobProcesses) -> None:
    async with await job.spawn(["seq", "200000"], keep=14) as process:
        assert await process.wait() == 0
    assert process.stdout.tail == b"199999\n200000\n"
    assert process.stdout.size == sum(len(str(number)) + 1 for number in range(1, 200_001))
    assert process.stdout.whole is None


async def test_the_whole_output_is_captured_up_to_a_bound(job: JobProcesses) -> None:
    async with await job.spawn(["seq", "9"], capture=100) as process:
        await process.wait()
    assert process.stdout.whole == b"1\n2\n3\n4\n5\n6\n7\n8\n9\n"
    async with await job.spawn(["seq", "9"], capture=8, keep=2) as process:
        await process.wait()
    assert process.stdout.whole == b"1\n2\n\n[... 10 bytes left out ...]\n8\n9\n"


async def test_much_output_takes_no_memory(job: JobProcesses) -> None:
    tracemalloc.start()
    try:
        async with await job.spawn(["head", "-c", str(64 * 2**20), "/dev/zero"]) as process:
            assert await process.wait() == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert process.stdout.size == 64 * 2**20
    assert peak < 2 * 2**20


async def test_both_streams_in_one_when_merged(job: JobProcesses) -> None:
    async with await job.spawn(["sh", "-c", "echo 1; echo 2 >&2; echo 3"], merge=True) as process:
        await process.wait()
    assert process.stdout.tail == b"1\n2\n3\n"
    assert process.stderr.size == 0


async def test_the_input_is_empty_unless_given(job: JobProcesses) -> None:
    async with await job.spawn(["cat"]) as process:
        assert await process.wait() == 0
    assert process.stdout.size == 0
    text = b"x" * 1_000_000
    async with await job.spawn(["cat"], stdin=text, capture=len(text)) as process:
        await process.wait()
    assert process.stdout.whole == text


async def test_a_process_leads_a_session_and_carries_the_marker(job: JobProcesses) -> None:
    async with await job.spawn(["sleep", "60"]) as process:
        await until(lambda: b"CONTEST_MARKER=" in Path(f"/proc/{process.pid}/environ").read_bytes())
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        assert [line for line in environment if line.startswith(b"CONTEST_MARKER=store:7:")]
        assert f"HOME={os.environ.get('HOME', '')}".encode() in environment


async def test_environment_and_directory_are_given(job: JobProcesses, tmp_path: Path) -> None:
    environment = {"A": "b", "CONTEST_MARKER": "forged"}
    async with await job.spawn(["/usr/bin/env"], env=environment) as process:
        await process.wait()
    lines = sorted(process.stdout.text().splitlines())
    assert lines[0] == "A=b"
    assert lines[1].startswith("CONTEST_MARKER=store:7:")
    assert len(lines) == 2
    async with await job.spawn(["pwd"], cwd=str(tmp_path)) as process:
        await process.wait()
    assert process.stdout.text() == f"{tmp_path}\n"


async def test_no_descriptor_of_the_server_reaches_a_process(job: JobProcesses) -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    try:
        async with await job.spawn(["ls", "/proc/self/fd"]) as process:
            await process.wait()
    finally:
        os.close(read)
        os.close(write)
    assert process.stdout.text().split() == ["0", "1", "2", "3"]  # the last is the directory


@pytest.mark.parametrize(
    ("argv", "cwd", "message"),
    [
        (["/no/such/program"], None, "fork/exec /no/such/program: no such file or directory"),
        (["no-such-program"], None, 'exec: "no-such-program": executable file not found in $PATH'),
        (["/etc/passwd"], None, "fork/exec /etc/passwd: permission denied"),
        (["/"], None, "fork/exec /: permission denied"),
        (["/bin/true"], "/no/such/directory", "chdir /no/such/directory: no such file or directory"),
        (["/bin/true"], "/etc/passwd", "chdir /etc/passwd: not a directory"),
        (["/bin/true", "x" * 200_000], None, "fork/exec /bin/true: argument list too long"),
        (["/bin/true", "\0"], None, "fork/exec /bin/true: invalid argument (embedded null byte)"),
        ([], None, "exec: no command"),
    ],
)
async def test_what_cannot_be_started_is_refused_in_the_words_of_go(
    job: JobProcesses, argv: list[str], cwd: str | None, message: str
) -> None:
    with pytest.raises(SpawnError) as caught:
        await job.spawn(argv, cwd=cwd)
    assert caught.value.message == str(caught.value) == message


async def test_a_refused_command_gives_its_turn_back() -> None:
    job = Supervisor(store_id="store", log=LOG, at_once=1).job(1)
    for _ in range(3):
        with pytest.raises(SpawnError):
            await job.spawn(["/no/such/program"])
    async with asyncio.timeout(10), await job.spawn(["true"]) as process:
        assert await process.wait() == 0


async def test_something_in_the_background_does_not_hold_a_command_up(job: JobProcesses) -> None:
    begin = time.monotonic()
    async with await job.spawn(["sh", "-c", "sleep 60 & echo $!; exit 4"]) as process:
        assert await process.wait() == 4
    assert time.monotonic() - begin < 5
    assert lives(int(process.stdout.text()))


async def test_something_in_the_background_may_write_on(job: JobProcesses, tmp_path: Path) -> None:
    script = "(sleep 0.4; echo late; echo late; touch done) & exit 0"
    async with await job.spawn(["sh", "-c", script], cwd=str(tmp_path)) as process:
        assert await process.wait() == 0
    await until((tmp_path / "done").exists)
    assert process.stdout.size == 0


async def test_many_in_the_background_hold_a_bounded_number_of_pipes(
    supervisor: Supervisor, job: JobProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_held_limit", 3)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(4):
        async with await job.spawn(["sh", "-c", "sleep 60 & exit 0"]) as process:
            assert await process.wait() == 0
    assert len(os.listdir("/proc/self/fd")) == before + 3


async def test_terminating_takes_the_group_along(job: JobProcesses) -> None:
    process = await job.spawn(["sh", "-c", "sleep 60 & echo $!; wait"])
    await until(lambda: process.stdout.size > 0)
    await process.terminate()
    assert process.returncode == -signal.SIGTERM
    assert not lives(int(process.stdout.text()))
    await process.terminate()


async def test_what_ignores_the_request_is_killed_after_the_grace(job: JobProcesses) -> None:
    process = await job.spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
    await until(lambda: process.stdout.size > 0)
    begin = time.monotonic()
    await process.terminate(grace=0.3)
    assert process.returncode == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - begin < 5


async def test_a_member_of_the_group_gets_the_grace_even_if_the_leader_obeys(
    job: JobProcesses, tmp_path: Path
) -> None:
    child = "trap 'sleep 0.2; touch tidied; exit' TERM; echo ready; while :; do sleep 0.05; done"
    process = await job.spawn(["sh", "-c", f'sh -c "{child}" & wait'], cwd=str(tmp_path))
    await until(lambda: process.stdout.size > 0)
    await process.terminate()
    assert process.returncode == -signal.SIGTERM
    assert (tmp_path / "tidied").exists()


async def test_a_member_of_the_group_that_ignores_the_request_is_killed_too(job: JobProcesses) -> None:
    child = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    process = await job.spawn(["sh", "-c", f'sh -c "{child}" & echo $!; wait'])
    await until(lambda: b"ready" in process.stdout.tail)
    await process.terminate(grace=0.2)
    assert not lives(int(process.stdout.text().replace("ready", "")))


async def test_cancelling_a_wait_ends_nothing_and_leaving_the_block_does(job: JobProcesses) -> None:
    async with await job.spawn(["sleep", "60"]) as process:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.05)
        assert lives(process.pid)
    assert process.returncode == -signal.SIGTERM


async def test_a_cancelled_block_leaves_no_process(job: JobProcesses) -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def step() -> None:
        async with await job.spawn(["sleep", "60"]) as process:
            started.set_result(process.pid)
            await process.wait()

    task = asyncio.create_task(step())
    pid = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lives(pid)


async def test_cancelling_the_termination_kills_at_once(job: JobProcesses) -> None:
    process = await job.spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
    await until(lambda: process.stdout.size > 0)
    task = asyncio.create_task(process.terminate(grace=60))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        assert await process.wait() == -signal.SIGKILL


async def test_a_signal_goes_to_the_group_while_the_command_runs(job: JobProcesses) -> None:
    process = await job.spawn(
        ["sh", "-c", "trap 'echo hup; exit 5' HUP; echo ready; while :; do sleep 0.05; done"]
    )
    await until(lambda: process.stdout.size > 0)
    process.send_signal(signal.SIGHUP)
    assert await process.wait() == 5
    process.send_signal(signal.SIGHUP)


async def test_no_more_run_at_once_than_allowed() -> None:
    job = Supervisor(store_id="store", log=LOG, at_once=2).job(1)
    first, second = await job.spawn(["sleep", "60"]), await job.spawn(["sleep", "60"])
    third = asyncio.create_task(job.spawn(["true"]))
    await asyncio.sleep(0.1)
    assert not third.done()
    await first.terminate()
    async with asyncio.timeout(5):
        assert await (await third).wait() == 0
    await second.terminate()


@pytest.fixture
def few_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def all_free_files() -> Iterator[int]:
    with suppress(OSError):
        while True:
            yield os.open("/dev/null", os.O_RDONLY)


@pytest.mark.usefixtures("few_files")
async def test_a_great_many_run_within_a_small_limit_of_files() -> None:
    job = Supervisor(store_id="store", log=LOG).job(1)

    async def one() -> int:
        async with await job.spawn(["true"]) as process:
            return await process.wait()

    assert await asyncio.gather(*(one() for _ in range(300))) == [0] * 300


@pytest.mark.usefixtures("few_files")
async def test_a_command_waits_for_files_to_be_free_again(job: JobProcesses) -> None:
    taken = list(all_free_files())
    spawning = asyncio.create_task(job.spawn(["true"]))
    await asyncio.sleep(0.1)
    assert not spawning.done()
    for descriptor in taken:
        os.close(descriptor)
    assert await (await spawning).wait() == 0


async def test_a_command_is_refused_when_the_system_stays_full(
    job: JobProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(job_module, "_AGAIN_AFTER", (0.01, 0.01))
    monkeypatch.setattr(subprocess, "Popen", full)
    with pytest.raises(SpawnError, match=r"^fork/exec true: resource temporarily unavailable$"):
        await job.spawn(["true"])


async def test_neither_zombies_nor_descriptors_are_left(job: JobProcesses) -> None:
    before = sorted(os.listdir("/proc/self/fd"))

    async def one(script: str) -> None:
        async with await job.spawn(["sh", "-c", script], stdin=b"x") as process:
            await process.wait()

    scripts = ("true", "echo $$; exit 1", "sleep 60 & exit 0", "kill $$", "cat; cat >&2")
    await asyncio.gather(*(one(script) for script in scripts * 10))
    assert await job.finish(grace=1) == []
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert zombies() == []


async def test_without_a_pidfd_a_thread_waits(job: JobProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    async with await job.spawn(["sh", "-c", "echo out; exit 3"]) as process:
        assert await process.wait() == 3
    assert process.stdout.tail == b"out\n"
    async with await job.spawn(["sleep", "60"]) as process:
        pass
    assert process.returncode == -signal.SIGTERM


async def test_an_exit_status_that_somebody_else_took_is_no_success(job: JobProcesses) -> None:
    process = await job.spawn(["true"])
    os.waitpid(process.pid, 0)
    assert await process.wait() == 255


def test_it_is_the_same_on_uvloop(supervisor: Supervisor) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> None:
        job = supervisor.job(7)
        for _ in range(20):
            async with await job.spawn(["sh", "-c", "echo out; echo err >&2; exit 3"]) as process:
                assert await process.wait() == 3
            assert (process.stdout.tail, process.stderr.tail) == (b"out\n", b"err\n")
        async with await job.spawn(["head", "-c", "3000000", "/dev/zero"]) as process:
            assert await process.wait() == 0
        assert process.stdout.size == 3_000_000
        async with await job.spawn(["sh", "-c", "sleep 60 & exit 0"]) as process:
            assert await process.wait() == 0
        async with await job.spawn(["sleep", "60"]) as process:
            pass
        assert process.returncode == -signal.SIGTERM
        assert await job.finish(grace=1) == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))  # the library opens a pipe, once
    before = sorted(os.listdir("/proc/self/fd"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 20))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_package_is_not_imported_with_the_core() -> None:
    script = "import sys, contest_core; sys.exit('contest_runner' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
