"""What went wrong with a process, in the words of Go's os/exec, which ConTest's users know and match."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence

_GO_SIGNALS: dict[int, str] = {
    signal.SIGHUP: "hangup",
    signal.SIGINT: "interrupt",
    signal.SIGQUIT: "quit",
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGKILL: "killed",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGUSR2: "user defined signal 2",
    signal.SIGPIPE: "broken pipe",
    signal.SIGALRM: "alarm clock",
    signal.SIGTERM: "terminated",
    signal.SIGXCPU: "CPU time limit exceeded",
    signal.SIGXFSZ: "file size limit exceeded",
    signal.SIGVTALRM: "virtual timer expired",
    signal.SIGPROF: "profiling timer expired",
    signal.SIGSYS: "bad system call",
}


class SpawnError(Exception):
    """A process could not be started; nothing of it runs. The message is for whoever wrote the command."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        """As Go says it: `fork/exec /bin/x: no such file or directory`."""


def describe_exit(returncode: int) -> str:
    """What Go's ProcessState says of an exit: `exit status 3`, `signal: killed`.

    `returncode` is `Process.wait`'s: the exit status, or the negative number of the signal.
    """
    if returncode >= 0:
        return f"exit status {returncode}"
    number = -returncode
    return f"signal: {_GO_SIGNALS.get(number, f'signal {number}')}"


def spawn_error(argv: Sequence[str], cwd: str | None, error: OSError | ValueError) -> SpawnError:
    """Translate what `subprocess.Popen` raised, here and nowhere else."""
    if isinstance(error, ValueError):  # a NUL, a lone surrogate, a name of a variable with an equals sign
        return SpawnError(f"fork/exec {argv[0]}: invalid argument ({error})")
    if cwd is not None and error.filename == cwd:
        return SpawnError(f"chdir {cwd}: {_go_errno(error)}")
    if isinstance(error, FileNotFoundError) and "/" not in argv[0]:
        return SpawnError(f'exec: "{argv[0]}": executable file not found in $PATH')
    return SpawnError(f"fork/exec {argv[0]}: {_go_errno(error)}")


def _go_errno(error: OSError) -> str:
    text = os.strerror(error.errno or errno.EINVAL)
    return text[:1].lower() + text[1:]
