"""The fetcher `URI`, as in ConTest: the steps stand in a file on the server, or on the web.

They are fetched once, when the job is handed in, and kept with it. Where ConTest waits for ever, reads an error page
for steps or takes whatever comes, here the time and the size are bounded and the status is heeded.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct, field

from contest_core import ByteSize
from contest_core.wire_names import wire_name
from contest_runner.parts import FetchContext, FetchedTest, Fetcher, FetchFailed
from contest_runner.raw_json import in_order, well_formed
from contest_steps.files import Unreadable, in_thread, read_file
from contest_steps.locations import Location, locate
from contest_steps.web import NotFetched, get

SCHEMES: Final = ("file", "http", "https")

TIMEOUT: Final = 10.0
"""Seconds that fetching may take, in all: whoever hands the job in waits for it."""

LIMIT: Final = ByteSize("1MiB")
"""Of a document; it is room for a thousand long steps, which is as many as a test may have."""


class UriParameters(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Parameters of `URI`."""

    test_name: str = ""
    """The name of the test; at most 32 bytes."""
    uri: str = field(name="URI")
    """A path, or a URI with `file`, `http` or `https`, of a JSON document `{"Steps": [...]}`."""

    def __post_init__(self) -> None:
        locate(self.uri, SCHEMES)


class Uri(Fetcher[UriParameters]):
    """The steps stand in a file, or on the web."""

    Parameters: ClassVar[type[Struct]] = UriParameters

    async def fetch(self, parameters: UriParameters, context: FetchContext) -> FetchedTest:
        """Reads the document."""
        location = locate(parameters.uri, SCHEMES)
        try:
            async with asyncio.timeout(TIMEOUT):
                data = await _read(location)
        except TimeoutError:
            raise FetchFailed(f"cannot fetch {location.shown}: it took longer than {TIMEOUT:g}s") from None
        except (Unreadable, NotFetched) as error:
            raise FetchFailed(str(error)) from None
        steps, text = _steps(data, location)
        return FetchedTest(name=parameters.test_name, steps=steps, path="/URI", text=text)


async def _read(location: Location) -> bytes:
    if location.scheme == "file":
        return await in_thread(lambda: read_file(location.path, LIMIT))
    return await get(location, LIMIT, TIMEOUT)


def _steps(data: bytes, location: Location) -> tuple[Any, str]:
    """The list of steps of a document, and its text. Raises `FetchFailed`."""
    try:
        document = msgspec.json.decode(well_formed(data.decode("utf-8-sig")), type=dict[str, Raw])
    except UnicodeDecodeError:
        raise FetchFailed(f"{location.shown} is no test description: it is not UTF-8") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FetchFailed(f"{location.shown} is no JSON test description: {error}") from None
    found = [raw for key, raw in document.items() if key.lower() == "steps"]
    if not found:
        raise FetchFailed(f"{location.shown} has no 'Steps': it has to be an object with a list of that name")
    text = bytes(found[-1]).decode()
    return in_order(text), text
