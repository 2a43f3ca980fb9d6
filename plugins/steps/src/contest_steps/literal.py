"""The fetcher `literal`, as in ConTest: the steps stand in the job."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct

from contest_core.wire_names import wire_name
from contest_runner.parts import FetchContext, FetchedTest, Fetcher


class LiteralParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of `literal`."""

    test_name: str = ""
    """The name of the test; at most 32 bytes."""
    steps: Any = None
    """The list of steps."""


class Literal(Fetcher[LiteralParameters]):
    """The steps stand in the job."""

    Parameters: ClassVar[type[Struct]] = LiteralParameters

    async def fetch(self, parameters: LiteralParameters, context: FetchContext) -> FetchedTest:
        """Gives what the parameters have."""
        return FetchedTest(name=parameters.test_name, steps=parameters.steps, path="/Steps")
