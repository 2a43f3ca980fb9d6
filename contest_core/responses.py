"""What the API answers, and how an answer is encoded: the objects that every wire carries.

`encode` makes ConTest's two envelopes: `{"ServerID", "Type", "Data", "Error"}` for an answer of the job
manager and `{"Msg", "Code"}` for a request that never reached it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
from msgspec import Struct, field

from contest_core.errors import ContestError
from contest_core.job_event import Gap, JobEvent
from contest_core.job_plan import JobPlan
from contest_core.status import Finding, JobEntry, JobStatus, Lock
from contest_core.wire_names import wire_name


class ResponseType(IntEnum):
    """What kind of answer. The first six have ConTest's numbers."""

    START = 0
    STOP = 1
    STATUS = 2
    RETRY = 3
    VERSION = 4
    LIST = 5
    VALIDATE = 6
    LOCKS = 7
    WATCH = 8


RESPONSE_TYPE_TO_NAME = {kind: f"ResponseType{kind.name.capitalize()}" for kind in ResponseType}
"""The wire names, `ResponseTypeStart`."""


class EncodedJSON(Struct, frozen=True):
    """Data that a job manager has encoded already: a large status is encoded once and copied through."""

    json: bytes


class ResponseData(Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """The root of the answers' data. Beside an error the fields have their zero values, as in ConTest."""

    type: ClassVar[ResponseType]


class ResponseDataStart(ResponseData, frozen=True, kw_only=True):
    """The answer to `start`."""

    type = ResponseType.START
    job_id: int
    warnings: list[Finding] = []
    """What the descriptor was accepted with."""
    findings: list[Finding] = []
    """Why it was refused."""


class ResponseDataStop(ResponseData, frozen=True, kw_only=True):
    """The answer to `stop`: it was accepted."""

    type = ResponseType.STOP


class ResponseDataStatus(ResponseData, frozen=True, kw_only=True):
    """The answer to `status`."""

    type = ResponseType.STATUS
    status: JobStatus | None


class ResponseDataRetry(ResponseData, frozen=True, kw_only=True):
    """The answer to `retry`."""

    type = ResponseType.RETRY
    job_id: int
    """The job that is run again."""
    new_job_id: int = field(name="NewJobID")
    """The job that does it."""


class ResponseDataVersion(ResponseData, frozen=True, kw_only=True):
    """The answer to `version`."""

    type = ResponseType.VERSION
    version: int
    capabilities: list[str] = []
    """What this server offers beyond ConTest's verbs, and which of those it does."""


class ResponseDataList(ResponseData, frozen=True, kw_only=True):
    """The answer to `list`."""

    type = ResponseType.LIST
    job_ids: list[int] | None = field(name="JobIDs")
    """Ascending."""
    jobs: list[JobEntry] = []
    """More about each, in the same order."""
    cursor: str | None = None
    """Where the next page begins, the older jobs; None where these are all."""


class ResponseDataValidate(ResponseData, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `validate`."""

    type = ResponseType.VALIDATE
    findings: list[Finding] | None
    plan: JobPlan | None = None
    """Where it was asked for and the descriptor is accepted."""


class ResponseDataWatch(ResponseData, frozen=True, kw_only=True):
    """The answer to `watch` and `unwatch` on JSON-RPC."""

    type = ResponseType.WATCH
    subscription: int
    """What the notifications of this watch have; a number of the connection."""
    cursor: str | None = None
    """Where the watch begins; in the answer to `watch` only."""


class ResponseDataLocks(ResponseData, frozen=True, kw_only=True):
    """The answer to `locks`."""

    type = ResponseType.LOCKS
    locks: list[Lock] | None


D = TypeVar("D")


class Response(Struct, Generic[D], frozen=True, kw_only=True):
    """An answer: of the job manager, or of the API itself for `version`."""

    server_id: str
    type: ResponseType
    data: D
    error: ContestError | None = None

    def result(self) -> D:
        """The data, or raises the error."""
        if self.error is not None:
            raise self.error
        return self.data


StartResponse = Response[ResponseDataStart]
StopResponse = Response[ResponseDataStop]
StatusResponse = Response[ResponseDataStatus]
RetryResponse = Response[ResponseDataRetry]
VersionResponse = Response[ResponseDataVersion]
ListResponse = Response[ResponseDataList]
ValidateResponse = Response[ResponseDataValidate]
LocksResponse = Response[ResponseDataLocks]

ZERO_DATA: dict[ResponseType, ResponseData] = {
    ResponseType.START: ResponseDataStart(job_id=0),
    ResponseType.STOP: ResponseDataStop(),
    ResponseType.STATUS: ResponseDataStatus(status=None),
    ResponseType.RETRY: ResponseDataRetry(job_id=0, new_job_id=0),
    ResponseType.VERSION: ResponseDataVersion(version=0),
    ResponseType.LIST: ResponseDataList(job_ids=None),
    ResponseType.VALIDATE: ResponseDataValidate(findings=None),
    ResponseType.LOCKS: ResponseDataLocks(locks=None),
}
"""The data beside an error, by the type of the answer."""

_encoder = msgspec.json.Encoder()
_TYPE_JSON = {kind: _encoder.encode(name) for kind, name in RESPONSE_TYPE_TO_NAME.items()}


def encode(answer: Response[Any] | ContestError | JobEvent | Gap) -> bytes:
    """The JSON object that a wire carries for this answer or error, or for this event or gap of a watch."""
    if isinstance(answer, JobEvent):
        return b'{"Event":%b}' % _encoder.encode(answer)
    if isinstance(answer, Gap):
        return b'{"Gap":%b}' % _encoder.encode(answer)
    if isinstance(answer, ContestError):
        return b'{"Msg":%b}' % _error_members(answer)
    data = answer.data
    return b'{"ServerID":%b,"Type":%b,"Data":%b,"Error":%b}' % (
        _encoder.encode(answer.server_id),
        _TYPE_JSON[answer.type],
        data.json if isinstance(data, EncodedJSON) else _encoder.encode(data),
        b"null" if answer.error is None else _error_members(answer.error),
    )


def _error_members(error: ContestError) -> bytes:
    # Names of files, and what a client sent, may hold what UTF-8 cannot say.
    message = error.message.encode("utf-8", "backslashreplace").decode()
    return b'%b,"Code":%b' % (_encoder.encode(message), _encoder.encode(error.code))
