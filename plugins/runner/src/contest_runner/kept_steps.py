"""Steps that were read and bound before: the descriptors of a lab say the same again and again.

Kept by the catalog, asked by the descriptor's reader. A step is kept where reading it again could give nothing else:
nothing was to be said of it, and no code of a plugin has looked at it.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final, TypeAlias

import msgspec

from contest_runner.binding import BoundStep
from contest_runner.plan import StepPlan

_KEPT: Final = 1000
_LENGTH: Final = 1000
"""Steps that are kept, and how long their parameters are at the most: a few megabytes in all."""

Key: TypeAlias = tuple[int, bytes]


class KeptSteps:
    """The steps used last. Descriptors are read in a thread and in the loop."""

    def __init__(self) -> None:
        self._steps: OrderedDict[Key, BoundStep] = OrderedDict()
        self._changing = Lock()

    def key(self, plan: StepPlan, position: int) -> Key:
        """What two steps have in common that are the same."""
        return position, msgspec.json.encode(plan)

    def find(self, key: Key) -> BoundStep | None:
        """The step, for another job, where it is kept. Raises what making it raises."""
        with self._changing:
            found = self._steps.get(key)
            if found is None:
                return None
            self._steps.move_to_end(key)
        return found.again()

    def keep(self, key: Key, bound: BoundStep) -> None:
        """Keeps a step of which nothing was to be said."""
        if len(key[1]) > _LENGTH or not bound.reusable:
            return
        with self._changing:
            self._steps[key] = bound
            if len(self._steps) > _KEPT:
                self._steps.popitem(last=False)
