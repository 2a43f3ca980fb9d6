"""From what another server says to what this one says: answers and refusals as they came, faults with thought.

A refusal is the other job manager's answer and is handed on whole. What never reached that job manager, or was lost on
the way, is told from here: what the other server says of *its* caller is about this relay, and not about who asks.
"""

from __future__ import annotations

from msgspec import Raw, Struct, field

from contest_core import (
    VERBS,
    ContestError,
    EncodedJSON,
    Finding,
    Interrupted,
    InvalidDescriptor,
    Refusal,
    Refused,
    TooLarge,
    TooManyRequests,
    Unavailable,
    Unsupported,
)
from contest_core.errors import error_from_wire
from contest_core.foreign import decoded

NULL = Raw(b"null")


class Envelope(Struct, rename="pascal"):
    """The object that HTTP has; of its data no more is read than where it ends."""

    server_id: str = field(name="ServerID", default="")
    data: Raw = NULL
    error: str | None = None
    code: str | None = None
    msg: str | None = None

    def unread(self) -> ContestError | None:
        """The error of a request that did not reach the job manager over there."""
        return None if self.msg is None else error_from_wire(self.code, self.msg)

    def refusal(self) -> Refusal | None:
        """The job manager's own refusal."""
        if self.error is None:
            return None
        error = error_from_wire(self.code or Refused.code, self.error)
        refusal = error if isinstance(error, Refusal) else Refusal(self.error, code=self.code)
        if self.data != NULL:
            refusal.data = EncodedJSON(bytes(self.data))
        if isinstance(refusal, InvalidDescriptor):
            refusal.findings = _findings(self.data)
        return refusal


def read(answer: bytes, *, verb: str, address: str) -> Envelope:
    """The answer's envelope. Raises a `ContestError` for what is none of Contest's."""
    try:
        # Its data goes on as it came.
        if not answer.isascii():
            answer.decode()
        return decoded(answer, Envelope)
    except ValueError as wrong:
        raise ContestError(f"what {address} answers to {verb} is not Contest's: {wrong}") from None


class _Findings(Struct):
    findings: tuple[Finding, ...] | None = field(name="Findings", default=None)


def _findings(data: Raw) -> tuple[Finding, ...]:
    """For a program that asks; on the wires they go as they came."""
    try:
        return decoded(data, _Findings).findings or ()
    except ValueError:
        return ()


def told(error: ContestError, *, verb: str, address: str) -> ContestError:
    """What a caller is told of an error that is no job manager's answer."""
    match error.code:
        case "unauthenticated":
            # This relay's credentials; the caller's were taken here.
            return Unavailable(what=address, reason=f"it does not know this relay: {error.message}")
        case "denied":
            return Unsupported(what=verb, by=f"{address} to this relay ({error.message})")
        case "unknown_verb":
            return Unsupported(what=verb, by=address)
        case "unreachable" | "shutting_down" | "incompatible_version":
            return Unavailable(what=address, reason=error.message.removeprefix(f"cannot reach {address}: "))
        case "connection_lost" if VERBS[verb].reads:
            return Unavailable(what=address, reason=error.message)
        case "connection_lost":
            return Interrupted(verb=verb, ended=f"the connection to {address} broke")
        case "too_many_requests" if verb == "watch":
            # Its advice, to end one, is for the one peer that this relay is there.
            return TooManyRequests(reason=f"{address} gives this relay no further watch: {error.message}")
        case "too_large" if isinstance(error, TooLarge) and error.limit:
            return _too_large(error, address)
        case "internal" if address not in error.message:
            return error_from_wire("internal", f"{address}: {error.message}")
    return error


def _too_large(error: TooLarge, address: str) -> ContestError:
    """Of the client's limit, which has another name here."""
    return TooLarge(
        what=f"the answer of {address}",
        limit=error.limit,
        size=error.size,
        setting="max_answer",
        hint="ask for one `run`, `test` or `target`, or without `events`",
    )
