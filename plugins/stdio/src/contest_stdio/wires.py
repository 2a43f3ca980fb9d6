"""Descriptors that never block: where a read or a write would, it raises `BlockingIOError`.

Used by `streams`. Whether a descriptor blocks is a property of the open file, which a pipe's other users share (the
shell, `tee`, the stderr of `2>&1`), so it is never changed here. There are three other ways, and a fourth case:

- a pipe or a terminal is opened anew where the system can (Linux, through /proc): that file is ours alone;
- a socket takes the wish with each call;
- of any other it is asked first whether it is ready; then a read does not block, nor does a write of `PIPE_BUF`
  bytes (POSIX);
- of files and the null device no loop can tell whether they are ready: they are for a thread.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from typing import Final, Protocol

CHUNK: Final = 64 * 1024
"""How much is read at once, in bytes."""


class Wire(Protocol):
    """A descriptor that is read or written. Raises `OSError`; `BlockingIOError` where it is not ready."""

    descriptor: int
    """What an event loop waits for."""
    waited_for: bool
    """Whether an event loop can; else reading and writing may take the time of a disk, and want a thread."""
    tells_of_readers: bool
    """Whether a poll for reading of the end that is written tells that the last reader has gone."""

    def read(self) -> bytes:
        """What there is, at most a chunk; nothing at the end."""

    def write(self, data: memoryview) -> int:
        """Writes a beginning of the data and gives its length. Raises `BrokenPipeError` where nobody reads."""

    def close(self) -> None:
        """Closes what was opened here; the descriptor that it was made of stays open."""


def open_wire(descriptor: int, flags: int) -> Wire:
    """A wire over a descriptor that was opened for reading (`O_RDONLY`) or for writing (`O_WRONLY`)."""
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(kind):
        return _Socket(descriptor)
    if not _can_be_polled(descriptor):
        return _File(descriptor)
    if stat.S_ISFIFO(kind) or os.isatty(descriptor):
        try:
            return _Anew(descriptor, flags)
        except OSError:  # no /proc, or the pipe belongs to another user
            return _Shared(descriptor)
    return _Shared(descriptor)


def _can_be_polled(descriptor: int) -> bool:
    try:
        with select.epoll(1) as poll:
            poll.register(descriptor, 0)
    except PermissionError:
        return False
    return True


class _Descriptor:
    waited_for = True
    tells_of_readers = False

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._terminal = os.isatty(descriptor)

    def read(self) -> bytes:
        try:
            return self._read()
        except ConnectionResetError:
            return b""
        except OSError as error:
            if error.errno == errno.EIO and self._terminal:  # it was hung up
                return b""
            raise

    def write(self, data: memoryview) -> int:
        try:
            return self._write(data)
        except OSError as error:
            if error.errno == errno.EIO and self._terminal:
                raise BrokenPipeError(errno.EPIPE, "the terminal was hung up") from error
            raise

    def close(self) -> None:
        pass

    def _read(self) -> bytes:
        return os.read(self.descriptor, CHUNK)

    def _write(self, data: memoryview) -> int:
        return os.write(self.descriptor, data)


class _File(_Descriptor):
    waited_for = False


class _Anew(_Descriptor):
    def __init__(self, descriptor: int, flags: int) -> None:
        flags |= os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        super().__init__(os.open(f"/proc/self/fd/{descriptor}", flags))
        self.tells_of_readers = not self._terminal

    def close(self) -> None:
        os.close(self.descriptor)


class _Socket(_Descriptor):
    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> bytes:
        return self._socket.recv(CHUNK, socket.MSG_DONTWAIT)

    def _write(self, data: memoryview) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT)


class _Shared(_Descriptor):
    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._readable = select.poll()
        self._readable.register(descriptor, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)

    def _read(self) -> bytes:
        if not self._readable.poll(0):
            raise BlockingIOError
        return os.read(self.descriptor, CHUNK)

    def _write(self, data: memoryview) -> int:
        if not self._writable.poll(0):
            raise BlockingIOError
        return os.write(self.descriptor, data[: select.PIPE_BUF])
