"""Checks a descriptor and runs nothing: the verb `validate`. Called by the job managers of this distribution."""

from __future__ import annotations

from logging import Logger, LoggerAdapter

from contest_core import EventValidateMsg, ResponseDataValidate
from contest_runner.aside import Aside
from contest_runner.catalog import Catalog
from contest_runner.descriptor import read_descriptor
from contest_runner.preview import preview


async def validate(
    message: EventValidateMsg, catalog: Catalog, aside: Aside, *, log: LoggerAdapter[Logger]
) -> ResponseDataValidate:
    """Everything that is to be said of a descriptor, and what the job would do where that was asked."""
    async with aside.work(len(message.job_descriptor)) as work:
        reading = await read_descriptor(message.job_descriptor, catalog, log=log, work=work)
    if not message.plan:
        return ResponseDataValidate(findings=list(reading.findings))
    async with aside.slow() as work:
        plan = await preview(reading, catalog, log=log, work=work)
    return ResponseDataValidate(findings=list(reading.findings), plan=plan)
