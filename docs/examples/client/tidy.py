"""Stops every job of a requestor: `python tidy.py ADDRESS REQUESTOR`. A program without an event loop."""

import sys

from contest_core import JobEnded, JobQuery, JobState
from contest_core.client import connect_sync


def main(address: str, requestor: str) -> None:
    """Returns when all of them have ended."""
    with connect_sync(address) as contest:
        query = JobQuery(states=(JobState.STARTED,), requestors=(requestor,))
        for job in contest.list(query).result().jobs:
            stopped = contest.stop(job.job_id)
            if stopped.error is not None and not isinstance(stopped.error, JobEnded):
                raise stopped.error
            with contest.watch(job_id=job.job_id) as events:
                for _ in events:
                    pass
            status = contest.status(job.job_id, events=False).result().status
            print(f"job {job.job_id} {job.name}:", status.state_name if status is not None else "gone")


if __name__ == "__main__":
    main(*sys.argv[1:])
