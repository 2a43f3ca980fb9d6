"""Virtual time for an asyncio event loop: whoever waits waits no longer than it takes to say so.

Made by tests, around code that has timeouts. It knows nothing of Contest. It works for asyncio's own selector
loops; a loop with a clock of its own (uvloop) is refused.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class VirtualClock:
    """While entered, the running loop's time stands still and jumps to the next timer when nothing else is to do.

    Real sockets, pipes and threads go on working beside it: what is ready is handled before time jumps, but time
    does not wait for them.
    """

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the clock was entered."""
        self._start = time.monotonic()

    def time(self) -> float:
        """What `loop.time()` gives."""
        return self._start + self.now

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        selector = getattr(loop, "_selector", None)
        if selector is None:
            raise TypeError(f"a {type(loop).__name__} has a clock of its own")
        self._loop = cast("Any", loop)
        self._selector = selector
        self._loop._selector = _Selector(self, selector)
        self._loop.time = self.time
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop._selector = self._selector
        del self._loop.time


class _Selector:
    """The loop's selector, but that time passes instead of being waited for."""

    def __init__(self, clock: VirtualClock, selector: Any) -> None:
        self._clock = clock
        self._selector = selector

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return self._selector.select(timeout)
        events = self._selector.select(0)
        if not events:
            self._clock.now += timeout
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)
