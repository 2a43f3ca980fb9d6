"""Puts a report into a file, whole or not at all: whoever reads the file meanwhile sees the old one or the new one."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress


def write_report(path: str, pieces: Iterable[str]) -> str:
    """Writes a file and the folders that it needs, and puts it in place at once; gives its absolute path.

    It is readable as the process' umask says. It blocks. Raises `OSError`: what was there before is there then; what is
    no regular file (a folder, a device) is never replaced.
    """
    path = os.path.abspath(path)
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "this is no regular file", path)
    # What a link names is written, and the link stays.
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    os.makedirs(folder, exist_ok=True)
    # Beside the file, since only within one file system a file can be put in place at once.
    beside = os.path.join(folder, f".contest-report-{secrets.token_hex(8)}")
    try:
        with open(beside, "x", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, real)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    return path
