"""Every error that crosses a border of Contest, and the one table of what it is there.

A class is a condition; its fields are the facts, and the class composes the message from them, so callers
pass facts. Whoever needs a number (an HTTP status, a JSON-RPC code, an exit status) asks the table. Only code
and words travel: an error that came over a wire is of the same class, and its facts have their zero values.

    ContestError
    ├── RequestError            the request is at fault; asking again as it is gives the same
    │   ├── InvalidMessage          the bytes are no request
    │   ├── UnknownVerb             no such verb
    │   ├── InvalidParameters       a parameter is missing or malformed
    │   ├── IncompatibleVersion     the client asks for an API that is not spoken here
    │   ├── Unauthenticated         credentials are missing, or nobody knows them
    │   ├── Denied                  known, but may not
    │   ├── TooLarge                the request or its answer is over a limit
    │   └── TooManyRequests         over a rate or a count of this peer
    ├── Refusal                 the job manager's own answer
    │   ├── InvalidDescriptor       with findings
    │   ├── UnknownJob              no job has this number
    │   ├── JobRunning              retry of a job that has not ended
    │   ├── JobEnded                stop of a job that has ended
    │   ├── StartKeyConflict        the same start key with another descriptor
    │   ├── Unsupported             this job manager does not offer it
    │   └── Refused                 for a reason that has words and no code, as all of ConTest's
    └── ServerError             the server's side is at fault
        ├── Overloaded              not taken within the hand-over time: nothing happened
        ├── ShuttingDown            not taken, the server ends: nothing happened
        ├── Unavailable             what the job manager stands on is away: nothing happened
        ├── AnswerTimeout           taken, not answered in time: it may have happened
        ├── Interrupted             taken, then the server ended: it may have happened
        ├── InternalError           a fault of the server; the log has the traceback
        ├── Unreachable             the client's own: nothing happened
        └── ConnectionLost          the client's own: it may have happened
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from contest_core.responses import EncodedJSON
    from contest_core.status import Finding


class Repeat(Enum):
    """Whether asking again is safe."""

    NO = "no"
    """The same request gets the same answer."""
    YES = "yes"
    """Nothing happened."""
    WITH_START_KEY = "with a start key"
    """It may have happened; a start that carries a start key can be repeated."""


class ErrorRow(NamedTuple):
    """One line of the table."""

    repeat: Repeat
    http: int | None
    """The HTTP status; 200 is the job manager's answer, as in ConTest. None never comes from a server."""
    rpc: int
    """The JSON-RPC error code."""
    exit: int
    """The exit status of a command that asks."""


ERRORS: Mapping[str, ErrorRow] = {
    "invalid_message": ErrorRow(Repeat.NO, 400, -32600, 2),
    "unknown_verb": ErrorRow(Repeat.NO, 400, -32601, 2),
    "invalid_parameters": ErrorRow(Repeat.NO, 400, -32602, 2),
    "incompatible_version": ErrorRow(Repeat.NO, 400, -32001, 2),
    "invalid_descriptor": ErrorRow(Repeat.NO, 200, -32010, 2),
    "unknown_job": ErrorRow(Repeat.NO, 200, -32011, 2),
    "job_running": ErrorRow(Repeat.NO, 200, -32012, 2),
    "job_ended": ErrorRow(Repeat.NO, 200, -32013, 2),
    "start_key_conflict": ErrorRow(Repeat.NO, 200, -32014, 2),
    "unsupported": ErrorRow(Repeat.NO, 200, -32015, 2),
    "refused": ErrorRow(Repeat.NO, 200, -32016, 2),
    "unauthenticated": ErrorRow(Repeat.NO, 401, -32020, 2),
    "denied": ErrorRow(Repeat.NO, 403, -32021, 2),
    "too_large": ErrorRow(Repeat.NO, 413, -32022, 2),
    "too_many_requests": ErrorRow(Repeat.YES, 429, -32023, 3),
    "overloaded": ErrorRow(Repeat.YES, 503, -32030, 3),
    "shutting_down": ErrorRow(Repeat.YES, 503, -32031, 3),
    "unavailable": ErrorRow(Repeat.YES, 503, -32032, 3),
    "timeout": ErrorRow(Repeat.WITH_START_KEY, 504, -32033, 3),
    "interrupted": ErrorRow(Repeat.WITH_START_KEY, 503, -32034, 3),
    "internal": ErrorRow(Repeat.WITH_START_KEY, 500, -32603, 3),
    "unreachable": ErrorRow(Repeat.YES, None, -32040, 3),
    "connection_lost": ErrorRow(Repeat.WITH_START_KEY, None, -32041, 3),
}
"""The one table. A code that is not in it (from a newer server) is treated as `internal`."""


class ContestError(Exception):
    """The root. Raised as such only for a code that this program does not know.

    `code` names the row of the table; `message` is one sentence for a person.
    """

    code: str = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        # An exception is pickled as its class and `args`, and these classes take facts instead.
        return _restored, (type(self), self.message, self.__dict__)

    @property
    def row(self) -> ErrorRow:
        """The line of the table for this error's code."""
        return ERRORS.get(self.code, ERRORS["internal"])

    @property
    def safe_to_repeat(self) -> bool:
        """True where nothing happened, so that the same request may be sent again."""
        return self.row.repeat is Repeat.YES

    @property
    def exit_code(self) -> int:
        """The exit status of a command that ends with this error."""
        return self.row.exit


class RequestError(ContestError):
    """The request is at fault."""


class Refusal(ContestError):
    """The job manager's own answer: HTTP 200 with `Error` set, as in ConTest, whatever its code."""

    data: EncodedJSON | None = None
    """What the answer has beside it, where another server gave both; None is what its verb and code ask for."""

    @property
    def row(self) -> ErrorRow:
        """The line of the table for this error's code; its HTTP status is 200 also where the code has another."""
        return super().row._replace(http=200)


class ServerError(ContestError):
    """The server's side is at fault, or is ending."""


class InvalidMessage(RequestError):
    """The bytes are no request: not JSON, not a JSON-RPC object, not a form."""

    code = "invalid_message"
    parse: bool = False
    """True where not even a JSON value could be read (JSON-RPC's -32700)."""

    def __init__(self, *, reason: str, parse: bool = False) -> None:
        super().__init__(f"the message is no request: {reason}")
        self.parse = parse

    @property
    def row(self) -> ErrorRow:
        """The table's row; JSON-RPC has a code of its own for bytes that are no JSON."""
        return ERRORS[self.code]._replace(rpc=-32700) if self.parse else ERRORS[self.code]


class UnknownVerb(RequestError):
    """No such verb."""

    code = "unknown_verb"
    verb: str = ""

    def __init__(self, *, verb: str, known: Sequence[str] = (), nearest: str | None = None) -> None:
        hint = (
            f", did you mean {nearest!r}?" if nearest else f"; there are {', '.join(known)}" if known else ""
        )
        super().__init__(f"unknown verb: {verb[:100]!r}{hint}")
        self.verb = verb


class InvalidParameters(RequestError):
    """A parameter is missing or malformed: `parameter` names it, `reason` says what is wrong."""

    code = "invalid_parameters"
    reason: str = ""
    parameter: str | None = None
    verb: str | None = None

    def __init__(self, *, reason: str, parameter: str | None = None, verb: str | None = None) -> None:
        super().__init__(f"{verb} failed: {reason}" if verb else reason)
        self.reason = reason
        self.parameter = parameter
        self.verb = verb


class IncompatibleVersion(RequestError):
    """The client asks for an API version that this server does not speak."""

    code = "incompatible_version"
    asked: int = 0
    spoken: int = 0

    def __init__(self, *, asked: int, spoken: int) -> None:
        super().__init__(f"API version {asked} is not spoken here; this server speaks {spoken}")
        self.asked = asked
        self.spoken = spoken


class Unauthenticated(RequestError):
    """Credentials are missing, or no authenticator knows them."""

    code = "unauthenticated"

    def __init__(self, *, reason: str = "credentials are needed and none were recognised") -> None:
        super().__init__(reason)


class Denied(RequestError):
    """The principal is known, but may not do this."""

    code = "denied"
    principal: str = ""
    verb: str = ""

    def __init__(self, *, principal: str, verb: str) -> None:
        super().__init__(f"{principal} may not {verb}")
        self.principal = principal
        self.verb = verb


class TooLarge(RequestError):
    """A request or an answer is over its limit: the message says the size, the limit and the setting that raises it.

    Both are numbers of `unit`. Without a `setting` the limit is a fixed one.
    """

    code = "too_large"
    limit: int = 0
    size: int | None = None

    def __init__(
        self,
        *,
        what: str,
        limit: int,
        size: int | None = None,
        unit: str = "bytes",
        setting: str = "",
        hint: str = "",
    ) -> None:
        has = f"has {size:,} {unit}, the limit is" if size is not None else f"has more {unit} than the limit,"
        words = [f"{what} {has} {limit:,}{_in_mib(limit) if unit == 'bytes' else ''}"]
        if setting:
            words.append(f"the setting {setting!r} raises it")
        super().__init__("; ".join([*words, hint] if hint else words))
        self.limit = limit
        self.size = size


class TooManyRequests(RequestError):
    """Over a rate or a count of this peer; `retry_after` is in seconds."""

    code = "too_many_requests"
    retry_after: float | None = None

    def __init__(self, *, reason: str, retry_after: float | None = None) -> None:
        when = f"; come back in {retry_after:g} s" if retry_after is not None else ""
        super().__init__(f"{reason}{when}")
        self.retry_after = retry_after


class InvalidDescriptor(Refusal):
    """The job descriptor was refused; `findings` has everything that is wrong with it."""

    code = "invalid_descriptor"
    findings: tuple[Finding, ...] = ()

    def __init__(self, *, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        first = sorted(self.findings, key=lambda finding: finding.severity != "error")
        worst = [f"{finding.path or '/'}: {finding.message}" for finding in first]
        more = f" (and {len(worst) - 3} more)" if len(worst) > 3 else ""
        super().__init__("the job descriptor is refused: " + "; ".join(worst[:3]) + more)


class UnknownJob(Refusal):
    """No job has this number."""

    code = "unknown_job"
    job_id: int = 0

    def __init__(self, *, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}")
        self.job_id = job_id


class JobRunning(Refusal):
    """The job has not ended yet, and the verb wants one that has."""

    code = "job_running"
    job_id: int = 0
    state: str = ""

    def __init__(self, *, job_id: int, state: str) -> None:
        super().__init__(f"job {job_id} has not ended yet (it is {state}); stop it or wait for its end")
        self.job_id = job_id
        self.state = state


class JobEnded(Refusal):
    """The job has ended already, and the verb wants one that runs."""

    code = "job_ended"
    job_id: int = 0
    state: str = ""

    def __init__(self, *, job_id: int, state: str) -> None:
        super().__init__(f"job {job_id} has ended already (it is {state})")
        self.job_id = job_id
        self.state = state


class StartKeyConflict(Refusal):
    """The start key belongs to a job with another descriptor; `difference` says where they differ."""

    code = "start_key_conflict"
    start_key: str = ""
    job_id: int = 0

    def __init__(self, *, start_key: str, job_id: int, difference: str) -> None:
        super().__init__(
            f"start key {start_key!r} belongs to job {job_id}, whose descriptor is another one: {difference}"
        )
        self.start_key = start_key
        self.job_id = job_id


class Unsupported(Refusal):
    """This job manager (or this wire) does not offer the verb or the parameter."""

    code = "unsupported"
    what: str = ""

    def __init__(self, *, what: str, by: str) -> None:
        super().__init__(f"{what} is not offered by {by}")
        self.what = what


class Refused(Refusal):
    """The job manager's own words, without a code of theirs: a ConTest gives none."""

    code = "refused"


class Overloaded(ServerError):
    """The event was not taken within the hand-over time: nothing happened."""

    code = "overloaded"

    def __init__(self, *, seconds: float) -> None:
        super().__init__(
            f"the server did not take it within {seconds:g} s: nothing happened, it is safe to ask again"
        )


class ShuttingDown(ServerError):
    """The server ends and takes no more: nothing happened."""

    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("the server is shutting down and takes no more: nothing happened")


class Unavailable(ServerError):
    """What the job manager (or an authenticator) stands on is away: nothing happened."""

    code = "unavailable"

    def __init__(self, *, reason: str, what: str = "the job manager") -> None:
        super().__init__(f"{what} is not available: {reason}")


class AnswerTimeout(ServerError):
    """The event was taken and not answered in time: it may have happened."""

    code = "timeout"
    verb: str = ""

    def __init__(self, *, seconds: float, verb: str, reads: bool = False) -> None:
        super().__init__(f"no answer to {verb} within {seconds:g} s; {_how_to_find_out(verb, reads)}")
        self.verb = verb


class Interrupted(ServerError):
    """The event was taken and the server ended before it answered: it may have happened."""

    code = "interrupted"
    verb: str = ""

    def __init__(self, *, verb: str = "", reads: bool = False, ended: str = "the server ended") -> None:
        asked = f" to {verb}" if verb else ""
        super().__init__(f"{ended} before it answered{asked}; {_how_to_find_out(verb, reads)}")
        self.verb = verb


class InternalError(ServerError):
    """A fault of the server; its log has the traceback under the request's ID."""

    code = "internal"
    request_id: str = ""

    def __init__(self, *, request_id: str) -> None:
        super().__init__(f"a fault of the server; its log has the traceback under request {request_id}")
        self.request_id = request_id


class Unreachable(ServerError):
    """The client could not reach the server: nothing happened."""

    code = "unreachable"
    address: str = ""

    def __init__(self, *, address: str, reason: str) -> None:
        super().__init__(f"cannot reach {address}: {reason}")
        self.address = address


class ConnectionLost(ServerError):
    """The server was lost in the middle of a request: it may have happened."""

    code = "connection_lost"
    address: str = ""

    def __init__(self, *, address: str, reason: str) -> None:
        super().__init__(f"lost {address} before it answered: {reason}")
        self.address = address


class Exposed(ContestError):
    """A listener would be reachable beyond loopback while nobody is authenticated."""

    code = "invalid_parameters"
    hint: ClassVar[str] = "configure `authentication:`, bind to loopback, or set `allow_anonymous: true`"

    def __init__(self, *, listener: str, where: str) -> None:
        super().__init__(
            f"listener {listener!r} would take anonymous requests on {where}, not a loopback: {self.hint}"
        )


def error_from_wire(code: str | None, message: str) -> ContestError:
    """The error that a server's answer names: its class, with the server's words and no facts but when to come back.

    A code that this program does not know becomes a plain `ContestError`, which keeps it.
    """
    kind = _CLASSES.get(code or "")
    if kind is None:
        return ContestError(message, code=code)
    when = _COME_BACK.search(message) if kind is TooManyRequests else None
    return _restored(kind, message, {} if when is None else {"retry_after": float(when[1])})


_CLASSES: Mapping[str, type[ContestError]] = {
    kind.code: kind for root in (RequestError, Refusal, ServerError) for kind in root.__subclasses__()
}


_COME_BACK = re.compile(r"; come back in ([0-9]{1,9}(?:\.[0-9]{1,9})?) s\Z")
"""As `TooManyRequests` says it."""


def _restored(kind: type[ContestError], message: str, facts: Mapping[str, object]) -> ContestError:
    error = kind.__new__(kind, message)
    ContestError.__init__(error, message)
    error.__dict__.update(facts)
    return error


def _in_mib(size: int) -> str:
    return f" ({size >> 20} MiB)" if size and size % (1 << 20) == 0 else ""


def _how_to_find_out(verb: str, reads: bool) -> str:
    if reads:
        return "it changes nothing, so it is safe to ask again, or for less"
    if verb in ("start", "retry"):
        made = "the job may exist: `list` shows it"
        return f"{made}; a start key makes it safe to ask again" if verb == "start" else made
    return "it may have happened: `status` and `list` show whether it did"
