"""The file of a listening unix socket: made for its owner alone, and removed at the end."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def listening_socket(path: str) -> Iterator[socket.socket]:
    """A socket that is bound to the path, for its owner only; nobody can connect before it listens.

    What a killed server has left there is replaced. Raises `OSError`, also where another server listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        _remove_stale(path)
        sock.bind(path)
        own = os.stat(path)
        try:
            os.chmod(path, 0o600)
            yield sock
        finally:
            with suppress(FileNotFoundError):
                # Another server may have its own there by now.
                if os.path.samestat(own, os.stat(path)):
                    os.unlink(path)


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "it is there, and no socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise OSError(errno.EADDRINUSE, "another program listens there", path)
