"""The target manager `CSVFileTargetManager`: what it reads, whom it takes, and for whom it waits."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from contest_runner.testing import Lab, Serving, eventually, job_of, last_statuses, one_test, step

HOSTS = """\
1234,compute1234,172.16.5.6,

2345, storage2345.dc.example ,10.10.10.123,2001:DB8::1
"30",,,"::ffff:1.2.3.4"
40,compute40.example,,
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    file = tmp_path / "my hosts.csv"
    file.write_text(HOSTS)
    return file


def csv_job(file: object, *steps: Any, **acquire: Any) -> Any:
    changes = {
        "TargetManagerName": "csvfiletargetmanager",
        "TargetManagerAcquireParameters": {"FileURI": str(file), **acquire},
    }
    return job_of(
        one_test(*(steps or (step("echo", text="x"),)), **changes), TargetManagerAcquireTimeout="5s"
    )


async def taken(serving: Serving, job: Any) -> list[str]:
    """The targets of a job that has run, in the order of its status."""
    return [str(target) for target in last_statuses(await serving.run(job))]


async def refusal(serving: Serving, job: Any) -> str:
    """Why a job got no targets."""
    status = await serving.run(job)
    assert status["Verdict"] == "error"
    (entry,) = status["RunStatus"]["TestStatuses"][0]["TargetStatuses"]
    return str(entry["Error"])


async def test_all_that_are_free_are_taken_in_the_order_of_the_file(lab: Lab, hosts: Path) -> None:
    async with lab.server() as serving:
        status = await serving.run(csv_job(hosts))
        assert status["Verdict"] == "passed"
        assert [entry["Target"] for entry in last_statuses(status).values()] == [
            {"ID": "1234", "FQDN": "compute1234", "PrimaryIPv4": "172.16.5.6"},
            {
                "ID": "2345",
                "FQDN": "storage2345.dc.example",
                "PrimaryIPv4": "10.10.10.123",
                "PrimaryIPv6": "2001:db8::1",
            },
            {"ID": "30", "PrimaryIPv6": "1.2.3.4"},
            {"ID": "40", "FQDN": "compute40.example"},
        ]
        assert not await serving.locks()


@pytest.mark.parametrize(
    ("acquire", "found"),
    [
        ({"MaxNumberDevices": 2}, ["1234", "2345"]),
        ({"MinNumberDevices": 2, "MaxNumberDevices": 9}, ["1234", "2345", "30", "40"]),
        ({"HostPrefixes": ["compute", " comp "]}, ["1234", "40"]),
        ({"HostPrefixes": ["storage2345.dc"]}, []),
        ({"HostPrefixes": ["compute4"], "MinNumberDevices": 1}, ["40"]),
        ({"hostprefixes": [], "MaxNumberDevices": None}, ["1234", "2345", "30", "40"]),
    ],
)
async def test_prefixes_and_numbers_say_whom_it_takes(
    lab: Lab, hosts: Path, acquire: dict[str, Any], found: list[str]
) -> None:
    async with lab.server() as serving:
        if found:
            assert await taken(serving, csv_job(hosts, **acquire)) == found
        else:
            words = f"not enough hosts found in CSV file '{hosts}', want 1, got 0"
            assert await refusal(serving, csv_job(hosts, **acquire)) == words


@pytest.mark.parametrize("uri", ["file://{}", "file://localhost{}", "FILE:{}", "{}", "{}?x#y"])
async def test_the_file_is_named_by_path_or_uri(lab: Lab, hosts: Path, uri: str) -> None:
    async with lab.server() as serving:
        name = uri.format(str(hosts).replace(" ", "%20"))
        assert len(await taken(serving, csv_job(name))) == 4


async def test_a_relative_path_is_relative_to_the_servers_directory(
    lab: Lab, hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hosts.parent)
    async with lab.server() as serving:
        assert len(await taken(serving, csv_job(hosts.name))) == 4


async def test_shuffled_targets_come_in_another_order(lab: Lab, tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(50)]
    file = tmp_path / "many.csv"
    file.write_text("".join(f"{name},,,\n" for name in names))
    async with lab.server() as serving:
        found = await taken(serving, csv_job(file, Shuffle=True))
        assert found != names
        assert sorted(found) == sorted(names)
        assert await taken(serving, csv_job(file)) == names


async def test_it_takes_what_is_free_and_waits_for_as_many_as_it_needs(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "seven.csv"
    file.write_text("".join(f"{name},{name}-host,,\n" for name in "abcdefg"))
    hold = step("sleep", duration="1h")
    async with lab.server() as serving:
        first = await serving.start(csv_job(file, hold, HostPrefixes=["a", "e"]))
        await eventually(lambda: _held(serving, 2))
        # Five are free, and six would be welcome.
        assert await taken(serving, csv_job(file, MinNumberDevices=2, MaxNumberDevices=6)) == list("bcdfg")
        waiting = await serving.start(csv_job(file, MinNumberDevices=6, MaxNumberDevices=7))
        status = await serving.until(waiting, lambda status: status.get("Waiting"), "the wait")
        assert {target["ID"] for target in status["Waiting"]["Targets"]} >= {"a", "e"}
        assert len(await serving.locks()) == 2
        await serving.stop(first)
        assert len(last_statuses(await serving.ended(waiting))) >= 6
        assert not await serving.locks()


async def _held(serving: Serving, number: int) -> bool:
    return len(await serving.locks()) == number


async def test_a_pool_that_stays_taken_fails_the_attempt_and_names_the_holder(lab: Lab, hosts: Path) -> None:
    async with lab.server() as serving:
        await serving.start(csv_job(hosts, step("sleep", duration="1h")))
        await eventually(lambda: _held(serving, 4))
        job = {**csv_job(hosts, MinNumberDevices=1), "TargetManagerAcquireTimeout": "100ms"}
        assert "job 1" in await asyncio.wait_for(refusal(serving, job), 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,c\n", "line 1: has 3 fields, needs 4: ID,FQDN,IPv4,IPv6"),
        ("a,,,\n , x,,\n", "line 2: invalid empty string for host ID"),
        ("a,,1.2.3,\n", "line 1: invalid non-empty IPv4 address '1.2.3'"),
        ("a,,::1,\n", "line 1: invalid non-empty IPv4 address '::1'"),
        ("a,,,nonsense\n", "line 1: invalid non-empty IPv6 address 'nonsense'"),
        ('a,"b,,\n', "unexpected end of data"),
        ("a,x,,\n\na,y,,\n", "line 3: there is another target 'a' before"),
        ("", "not enough hosts found"),
        (b"\xff,,,\n", "is not UTF-8"),
        ("x" * 64 + "y,,,\n", "the limit is 64 bytes"),
    ],
)
async def test_a_file_that_is_wrong_says_where(
    lab: Lab, tmp_path: Path, text: str | bytes, words: str
) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    async with lab.server() as serving:
        assert words in await refusal(serving, csv_job(file))


async def test_the_same_line_twice_is_one_target_and_a_mark_at_the_start_is_no_name(
    lab: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "dos.csv"
    file.write_bytes(b"\xef\xbb\xbfa,,,\r\na,,,\r\nb,,,\r\n")
    async with lab.server() as serving:
        assert await taken(serving, csv_job(file)) == ["a", "b"]


async def test_what_is_no_file_or_too_large_is_refused_and_not_waited_for(lab: Lab, tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    async with lab.server() as serving:
        assert "No such file" in await refusal(serving, csv_job(tmp_path / "none.csv"))
        assert "no ordinary file" in await refusal(serving, csv_job(pipe))
        assert "Is a directory" in await refusal(serving, csv_job(tmp_path))
        assert "larger than 16MiB" in await refusal(serving, csv_job(large))


@pytest.mark.parametrize(
    ("acquire", "words"),
    [
        ({"FileURI": None}, "must be a text"),
        ({"FileURI": ""}, "the URI is empty"),
        ({"FileURI": "http://x/hosts.csv"}, "unsupported scheme 'http'"),
        ({"FileURI": "file://hosts.csv"}, "unsupported host 'hosts.csv'"),
        ({"FileURI": "a%zz"}, "bad escape '%zz'"),
        ({"FileURI": "a%00"}, "NUL"),
        ({"HostPrefixes": ["a", " "]}, "a host prefix is blank"),
        ({"MinNumberDevices": -1}, "at least 0"),
        ({"MinNumberDevices": 3, "MaxNumberDevices": 2}, "MinNumberDevices (3) is more than"),
        ({"MaxNumberDevices": 0}, "MaxNumberDevices is 0"),
        ({"MaxNumberDevices": 1.5}, "must be a whole number"),
        ({"Shuffle": "yes"}, "must be"),
    ],
)
async def test_bad_parameters_are_found_when_the_job_is_handed_in(
    lab: Lab, acquire: dict[str, Any], words: str
) -> None:
    (finding,) = (await lab.read(csv_job("hosts.csv", **acquire))).findings
    assert finding.severity.value == "error"
    assert finding.path.startswith("/TestDescriptors/0/TargetManagerAcquireParameters")
    assert words in finding.message
