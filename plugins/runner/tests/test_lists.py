"""Lists of jobs by name, page by page, as a wire asks for them. The rest is in `JobManagerSuite`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contest_core import encode
from contest_core.errors import ContestError, InvalidParameters
from contest_runner.testing import Lab, Serving, simple, step

NAMES = ("nightly-1", "nightly_2", "Nightly%3", "smoke", "a\\b")


async def asked(serving: Serving, **parameters: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(encode(await serving.api.call(serving.caller, "list", parameters)))
    return answer


async def found(serving: Serving, **parameters: Any) -> list[int]:
    answer = await asked(serving, **parameters)
    assert answer["Error"] is None, answer
    assert [entry["JobID"] for entry in answer["Data"].get("Jobs", [])] == answer["Data"]["JobIDs"]
    ids: list[int] = answer["Data"]["JobIDs"]
    return ids


async def test_jobs_are_found_by_name_with_wildcards(lab: Lab) -> None:
    async with lab.server() as serving:
        for name in NAMES:
            await serving.run(simple(step("echo", text="x"), JobName=name))
        expected = {
            "smoke": [4],
            "SMOKE": [],
            "nightly*": [1, 2, 3],
            "nightly_*": [2],
            "*%?": [3],
            "*y?2": [2],
            "a\\b*": [5],
            "*": [1, 2, 3, 4, 5],
            "night": [],
        }
        assert {name: await found(serving, name=name) for name in expected} == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_give_each_job_once_the_newest_first_though_jobs_come(lab: Lab, limit: int) -> None:
    async with lab.server() as serving:
        for number in range(7):
            await serving.run(simple(step("echo", text="x"), JobName=f"job{number % 2}"))
        pages: list[list[int]] = []
        cursor: dict[str, Any] = {}
        while True:
            answer = await asked(serving, limit=str(limit), **cursor)
            pages.append(answer["Data"]["JobIDs"])
            if "Cursor" not in answer["Data"]:
                break
            cursor = {"cursor": answer["Data"]["Cursor"]}
            await serving.run(simple(step("echo", text="x")))
        assert all(page == sorted(page) for page in pages)
        assert sorted(job_id for page in pages for job_id in page) == list(range(1, 8))
        assert [page[0] for page in pages] == sorted((page[0] for page in pages), reverse=True)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"limit": 0}, "from 1 to"),
        ({"limit": 10**6}, "from 1 to 100,000"),
        ({"requestors": [str(number) for number in range(65)]}, "65 requestors"),
        ({"since": "yesterday"}, "RFC 3339"),
        ({"until": "2026-11-25T10:00:00"}, "RFC 3339"),
        ({"since": 5}, "as text"),
        ({"cursor": "x"}, "none of ours"),
        ({"cursor": "1.a.b.jobs.3"}, "another store"),
    ],
)
async def test_what_cannot_be_meant_is_refused(lab: Lab, parameters: dict[str, Any], words: str) -> None:
    async with lab.server() as serving:
        try:
            said = (await asked(serving, **parameters))["Error"]
        except InvalidParameters as error:
            said = error.message
        assert words in said


async def test_a_cursor_of_a_watch_is_no_page(lab: Lab) -> None:
    async with lab.server() as serving:
        await serving.run(simple(step("echo", text="x")))
        async with serving.api.watch(serving.caller, job_id=1) as watch:
            event = await anext(watch)
        with pytest.raises(ContestError, match="another feed"):
            await asked(serving, cursor=str(event.cursor))
