"""Who writes to descriptor 1: each test is a process, since it is about the descriptors of one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SECONDS = 40


def run(code: str, *, redirections: str = "") -> tuple[str, str]:
    """Stdout and stderr of a Python process that runs this, with stdin, stdout or stderr as the shell makes it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    prelude = "import os, sys\nfrom contest_core.standard_streams import "
    prelude += "end_process_with_program, let_go_of_stdout, stdout_diverted\n"
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", prelude + code],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return done.stdout, done.stderr


def test_whatever_is_written_goes_to_stderr_and_the_owner_alone_to_stdout() -> None:
    out, err = run(
        "early = sys.stdout\n"
        "print('before')\n"
        "with stdout_diverted() as stdout:\n"
        "    print('printed'); early.write('kept\\n'); os.write(1, b'written\\n'); os.system('echo child')\n"
        "    os.write(stdout, b'owner\\n')\n"
        "print('after')\n"
    )
    assert out.splitlines() == ["before", "owner", "after"]
    assert sorted(err.splitlines()) == ["child", "kept", "printed", "written"]


def test_within_another_one_nothing_changes_and_stdout_is_back_only_at_the_outer_end() -> None:
    out, err = run(
        "with stdout_diverted() as outer:\n"
        "    with stdout_diverted() as inner:\n"
        "        assert inner == outer\n"
        "    os.write(1, b'between\\n'); print('between'); sys.stdout.flush()\n"
        "os.write(1, b'back\\n')\n"
    )
    assert (out, err) == ("back\n", "between\nbetween\n")


def test_stdout_that_was_let_go_is_closed_and_never_comes_back() -> None:
    out, err = run(
        "print('early')\n"
        "with stdout_diverted() as stdout:\n"
        "    os.write(stdout, b'owner\\n')\n"
        "    let_go_of_stdout()\n"
        "    os.write(stdout, b'late\\n')\n"
        "    assert os.get_inheritable(stdout) is False\n"
        "    # The reader sees the end: no descriptor of this process is its pipe any more.\n"
        "    here = [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2, stdout)]\n"
        "    assert here[1] == here[2] and here[3] == os.devnull\n"
        "os.write(1, b'written\\n'); print('printed')\n"
        "with stdout_diverted() as stdout:\n"
        "    os.write(stdout, b'again\\n')\n"
    )
    assert out == "early\nowner\n"
    assert sorted(err.split()) == ["again", "printed", "written"]


def test_stdout_is_back_after_an_error_and_can_be_diverted_again() -> None:
    out, _ = run(
        "for word in (b'one\\n', b'two\\n'):\n"
        "    try:\n"
        "        with stdout_diverted(): raise KeyError\n"
        "    except KeyError:\n"
        "        os.write(1, word)\n"
    )
    assert out == "one\ntwo\n"


def test_no_child_inherits_the_private_descriptor() -> None:
    out, _ = run("with stdout_diverted() as stdout: print(os.get_inheritable(stdout), stdout > 2)\n")
    assert out == ""
    _, err = run("with stdout_diverted() as stdout: print(os.get_inheritable(stdout), stdout > 2)\n")
    assert err == "False True\n"


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_a_copy_never_takes_the_place_of_a_closed_standard_descriptor(closed: str) -> None:
    out, _ = run(
        "with stdout_diverted() as stdout:\n"
        "    os.write(1, b'lost or on stderr\\n')\n"
        "    os.write(stdout, b'%d' % (stdout > 2))\n",
        redirections=closed,
    )
    assert out == "1"


def test_a_stdout_that_was_closed_is_the_null_device_and_what_took_its_place_is_not_touched() -> None:
    _, err = run(
        "other = os.open(os.devnull, os.O_RDONLY)\n"
        "assert other == 1\n"
        "before = os.fstat(1)\n"
        "with stdout_diverted() as stdout:\n"
        "    os.write(stdout, b'nowhere')\n"
        "    print('printed')\n"
        "    assert os.path.sameopenfile(1, other)\n"
        "assert os.fstat(1) == before and sys.stdout is None\n",
        redirections=">&-",
    )
    assert err == "printed\n"


def test_to_the_end_of_the_program_it_stays_diverted_also_for_exit_handlers() -> None:
    command = (
        "import atexit\n"
        "atexit.register(lambda: (print('handler'), os.write(1, b'written\\n')))\n"
        "with stdout_diverted(to_the_end=True) as stdout: os.write(stdout, b'owner\\n')\n"
        "print('after')\n"
    )
    out, err = run(f"end_process_with_program()\n{command}")
    assert out == "owner\n"
    assert sorted(err.splitlines()) == ["after", "handler", "written"]
    out, err = run(command)
    assert sorted(out.splitlines()) == ["after", "handler", "owner", "written"]
    assert err == ""
