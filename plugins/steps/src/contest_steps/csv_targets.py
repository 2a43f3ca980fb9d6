"""The target manager `CSVFileTargetManager`, as in ConTest: takes targets from a pool that a file on the server lists.

A line is `ID,FQDN,IPv4,IPv6`, without a header. The file is read whenever targets are acquired. Where ConTest gives up
when too few are free, this waits for them, as long as the job says.
"""

from __future__ import annotations

import asyncio
import csv
import io
import random
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Struct, field

from contest_core import ByteSize
from contest_core.wire_names import wire_name
from contest_runner.parts import AcquireContext, AcquireFailed, ReleaseContext, TargetManager
from contest_runner.target import Target
from contest_steps.addresses import canonical, canonical_ipv4
from contest_steps.files import Unreadable, in_thread, read_file
from contest_steps.locations import locate

LIMIT: Final = ByteSize("16MiB")
"""Of a file."""

_COLUMNS: Final = "ID,FQDN,IPv4,IPv6"

Count = Annotated[int, Meta(ge=0, lt=2**32)]


class CSVFileAcquireParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of `CSVFileTargetManager`."""

    file_uri: str = field(name="FileURI")
    """The file, a path or a URI with `file`; relative to the directory that the server runs in."""
    min_number_devices: Count = 0
    """So many are waited for; one at least."""
    max_number_devices: Count | None = None
    """So many are taken at most; as many as are free where it is not given."""
    host_prefixes: list[str] = []
    """Only hosts whose FQDN begins with one of these, if there are any."""
    shuffle: bool = False
    """Whether they are taken in random order, not in that of the file."""

    def __post_init__(self) -> None:
        locate(self.file_uri, ("file",))
        if not all(map(str.strip, self.host_prefixes)):
            raise ValueError("a host prefix is blank")
        if self.max_number_devices == 0:
            raise ValueError("MaxNumberDevices is 0: leave it out to take as many as are free")
        if self.max_number_devices is not None and self.max_number_devices < self.min_number_devices:
            least, most = self.min_number_devices, self.max_number_devices
            raise ValueError(f"MinNumberDevices ({least}) is more than MaxNumberDevices ({most})")


class CSVFileReleaseParameters(Struct, frozen=True, kw_only=True):
    """Nothing: there is nothing to release."""


class CsvTargets(TargetManager[CSVFileAcquireParameters, CSVFileReleaseParameters]):
    """Takes targets from a pool that a file lists."""

    AcquireParameters: ClassVar[type[Struct]] = CSVFileAcquireParameters
    ReleaseParameters: ClassVar[type[Struct]] = CSVFileReleaseParameters
    narrows: ClassVar[bool] = True

    async def acquire(
        self, parameters: CSVFileAcquireParameters, context: AcquireContext
    ) -> Sequence[Target]:
        """Reads the file and locks as many of its targets as there may be, waiting for as many as there must."""
        path = _path(parameters)
        if context.only is not None:
            meant = _those(await _hosts(path), context.only, path)
            await context.locker.acquire(meant, deadline=context.deadline)
            return meant
        pool = await self.candidates(parameters)
        least = max(1, parameters.min_number_devices)
        if len(pool) < least:
            raise AcquireFailed(f"not enough hosts found in CSV file '{path}', want {least}, got {len(pool)}")
        if parameters.shuffle:
            random.shuffle(pool)
        most = len(pool) if parameters.max_number_devices is None else parameters.max_number_devices
        taken = {target.id for target in await _take(pool, least, min(most, len(pool)), context)}
        return [host for host in pool if host.id in taken]

    async def candidates(self, parameters: CSVFileAcquireParameters) -> list[Target]:
        """The hosts in the file that match."""
        return [host for host in await _hosts(_path(parameters)) if _matches(host, parameters.host_prefixes)]

    async def release(
        self, targets: Sequence[Target], parameters: CSVFileReleaseParameters, context: ReleaseContext
    ) -> None:
        """Has nothing to do."""


def _path(parameters: CSVFileAcquireParameters) -> str:
    return locate(parameters.file_uri, ("file",)).path


async def _hosts(path: str) -> list[Target]:
    try:
        return await in_thread(lambda: read_hosts(path))
    except (Unreadable, ValueError) as error:
        raise AcquireFailed(str(error)) from None


def _those(hosts: Sequence[Target], only: frozenset[str], path: str) -> list[Target]:
    """The hosts that a retry is narrowed to. Raises `AcquireFailed` where the file has one no more."""
    missing = only.difference(host.id for host in hosts)
    if missing:
        raise AcquireFailed(
            f"CSV file '{path}' has no target {min(missing)!r} any more, which is to be retried"
        )
    return [host for host in hosts if host.id in only]


async def _take(pool: Sequence[Target], least: int, most: int, context: AcquireContext) -> list[Target]:
    """Waits for so many, and takes as many more as are free then.

    While it waits it holds none: two jobs that each held a part of what the other wants would wait for ever.
    """
    if most > least and (all_of_them := await _free(pool, most, context)):
        return all_of_them
    taken = list(await context.locker.acquire(pool, count=least, deadline=context.deadline))
    step = wanted = most - least
    while step and wanted:
        had = {target.id for target in taken}
        more = await _free([host for host in pool if host.id not in had], min(step, wanted), context)
        taken += more
        wanted -= len(more)
        # What was not to be had at once is not to be had twice over: half as many may be.
        step = min(step // 2, wanted)
    return taken


async def _free(pool: Sequence[Target], count: int, context: AcquireContext) -> list[Target]:
    """So many, if they are free now, else none."""
    try:
        return list(
            await context.locker.acquire(pool, count=count, deadline=asyncio.get_running_loop().time())
        )
    except AcquireFailed:
        return []


def _matches(host: Target, prefixes: Sequence[str]) -> bool:
    if not prefixes:
        return True
    label = host.fqdn.partition(".")[0]
    return bool(label) and label.startswith(tuple(map(str.strip, prefixes)))


def read_hosts(path: str) -> list[Target]:
    """The hosts of a file, in its order. Blocks. Raises `Unreadable`, and `ValueError` with the line that is wrong."""
    try:
        text = read_file(path, LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"CSV file '{path}' is not UTF-8") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    hosts: dict[str, Target] = {}
    try:
        for row in rows:
            if row:
                host = _host([value.strip() for value in row])
                if hosts.setdefault(host.id, host) != host:
                    raise ValueError(f"there is another target {host.id!r} before")
    except (csv.Error, ValueError) as error:
        raise ValueError(f"CSV file '{path}', line {rows.line_num}: {error}") from None
    return list(hosts.values())


def _host(row: list[str]) -> Target:
    if len(row) != 4:
        raise ValueError(f"has {len(row)} fields, needs 4: {_COLUMNS}")
    if not row[0]:
        raise ValueError("invalid empty string for host ID")
    ipv4, ipv6 = _address("IPv4", row[2], canonical_ipv4), _address("IPv6", row[3], canonical)
    return Target(id=row[0], fqdn=row[1], primary_ipv4=ipv4, primary_ipv6=ipv6)


def _address(family: str, text: str, read: Callable[[str], str]) -> str | None:
    try:
        return read(text) if text else None
    except ValueError:
        raise ValueError(f"invalid non-empty {family} address {text[:60]!r}") from None
