"""Starts a job, tells what happens in it, and exits by its verdict: `python nightly.py ADDRESS`."""

import asyncio
import json
import sys

from contest_core import ClientOptions, Contest, ContestError, Gap
from contest_core.client import connect

JOB = {
    "JobName": "nightly",
    "Version": "1.0",
    "Runs": 1,
    "TestDescriptors": [
        {
            "TargetManagerName": "TargetList",
            "TargetManagerAcquireParameters": {"Targets": [{"ID": "board-1"}]},
            "TargetManagerReleaseParameters": {},
            "TestFetcherName": "literal",
            "TestFetcherFetchParameters": {
                "TestName": "boots",
                "Steps": [{"name": "cmd", "label": "boot", "parameters": {"executable": ["true"]}}],
            },
        }
    ],
    "Reporting": {"RunReporters": [{"Name": "TargetSuccess", "Parameters": {"SuccessExpression": "=100%"}}]},
}


async def run(contest: Contest) -> str | None:
    """The verdict of a new job."""
    job = (await contest.start(json.dumps(JOB))).result().job_id
    async with contest.watch(job_id=job) as events:
        async for event in events:
            if isinstance(event, Gap):
                print(f"{event.missed} events are not kept any more")
            elif event.data.target is not None and event.header.test_step_label is not None:
                print(event.data.target.id, event.header.test_step_label, event.data.event_name)
    status = (await contest.status(job, events=False)).result().status
    return status.verdict if status is not None else None


async def main(address: str) -> int:
    """The exit status."""
    try:
        async with connect(address, ClientOptions(requestor="nightly", patience=600)) as contest:
            verdict = await run(contest)
    except ContestError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return error.exit_code
    print("verdict:", verdict)
    return 0 if verdict == "passed" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
