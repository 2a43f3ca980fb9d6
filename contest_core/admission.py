"""Whether somebody may ask: authenticators in their order, principals, requestors, what is offered and what is closed.

Used by `API` alone, for every request, before there is an event. It knows verbs and callers, neither transports
nor job managers. Authenticators are other people's code; here is the boundary to it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from contest_core.caller import MAX_REQUESTOR_BYTES, Authenticator, Caller, Credentials, Principal, Vouched
from contest_core.errors import (
    ContestError,
    Denied,
    InvalidParameters,
    ShuttingDown,
    Unauthenticated,
    Unavailable,
)
from contest_core.offer import Offer
from contest_core.verbs import VERBS

MAX_START_KEY_BYTES: Final = 256
"""Start keys are stored and indexed, so they are short."""


class Admission:
    """The door of one API. `trusted` are names of listeners; `patience` is in seconds an authenticator."""

    def __init__(
        self,
        *,
        authenticators: Sequence[Authenticator],
        trusted: Collection[str],
        capabilities: frozenset[str],
        patience: float,
    ) -> None:
        self._authenticators = tuple(authenticators)
        self._trusted = frozenset(trusted)
        self._patience = patience
        self.offer = Offer(capabilities, by="this server's job manager")
        self._closed_to: frozenset[str] = frozenset()

    def offers(self, capabilities: frozenset[str]) -> None:
        """From now on the job manager offers these."""
        self.offer = Offer(capabilities, by="this server's job manager")

    @property
    def authenticated(self) -> bool:
        """Whether there is any authenticator."""
        return bool(self._authenticators)

    def close_to(self, *names: str) -> None:
        """From now on these verbs are refused with `ShuttingDown`."""
        self._closed_to = self._closed_to.union(names)

    async def authenticate(
        self, credentials: Sequence[Credentials], listener: str, peer: str
    ) -> Principal | None:
        """See `API.authenticate`."""
        for credential in credentials:
            if isinstance(credential, Vouched) and listener in self._trusted:
                return Principal(name=credential.name)
            for authenticator in self._authenticators:
                principal = await self._ask(authenticator, credential, peer)
                if principal is not None:
                    return principal
        if self._authenticators:
            raise Unauthenticated
        return None

    async def _ask(
        self, authenticator: Authenticator, credential: Credentials, peer: str
    ) -> Principal | None:
        from asyncio import timeout  # keeps `contest --help` free of asyncio

        what = f"authenticator {type(authenticator).__name__}"
        try:
            async with timeout(self._patience):
                return await authenticator.authenticate(credential, peer)
        except ContestError:
            raise
        except TimeoutError:
            raise Unavailable(what=what, reason=f"no answer within {self._patience:g} s") from None
        # The boundary to an authenticator's code: its fault is no judgement, and ends no listener.
        except Exception as error:
            from logging import getLogger  # keeps `contest --help` free of logging

            getLogger("contest.api").exception("%s failed", what)
            reason = "it failed; the server's log has the traceback"
            raise Unavailable(what=what, reason=reason) from error

    def admit(self, verb: str, caller: Caller) -> str:
        """Whether this caller may ask this now; gives the requestor.

        Raises `Unauthenticated`, `Denied`, `InvalidParameters` (for the requestor), `ShuttingDown`.
        """
        principal = caller.principal
        if principal is not None:
            if principal.expires is not None and principal.expires <= datetime.now(UTC):
                raise Unauthenticated(reason=f"the credentials of {principal.name} have run out")
            if principal.scopes is not None and VERBS[verb].permission not in principal.scopes:
                raise Denied(principal=principal.name, verb=verb)
        elif self._authenticators:
            raise Unauthenticated
        requestor = _requestor(verb, caller)
        if verb in self._closed_to:
            raise ShuttingDown
        return requestor


def check_start_key(start_key: str) -> None:
    """Raises `InvalidParameters` for an empty key, or one that is too long to be kept."""
    size = len(start_key.encode("utf-8", "surrogatepass"))
    if not 0 < size <= MAX_START_KEY_BYTES:
        reason = f"startKey: must have 1 to {MAX_START_KEY_BYTES} bytes, this has {size}"
        raise InvalidParameters(reason=reason, parameter="startKey", verb="Start")


def _requestor(verb: str, caller: Caller) -> str:
    requestor = caller.requestor
    if not requestor:
        reason = "requestor cannot be empty"
        raise InvalidParameters(reason=reason, parameter="requestor", verb=verb.capitalize())
    if "\0" in requestor:
        reason = "requestor has a NUL character, which no store keeps"
        raise InvalidParameters(reason=reason, parameter="requestor", verb=verb.capitalize())
    # The length in characters is cheap and settles nearly every case; only bytes count.
    if len(requestor) * 4 > MAX_REQUESTOR_BYTES:
        size = len(requestor.encode("utf-8", "surrogatepass"))
        if size > MAX_REQUESTOR_BYTES:
            reason = f"requestor is too long: {size} > {MAX_REQUESTOR_BYTES} bytes"
            raise InvalidParameters(reason=reason, parameter="requestor", verb=verb.capitalize())
    return requestor
