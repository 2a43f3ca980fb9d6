"""How the interpreter is set up while a server runs."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from contextlib import ExitStack

from contest_runner.interpreter import tuned_interpreter


class Connection:
    """What refers to itself, as a connection's objects do that are left."""

    def __init__(self) -> None:
        self.itself = self


def test_what_lived_for_a_while_and_refers_to_itself_is_collected_soon() -> None:
    with tuned_interpreter:
        left = Connection()
        gone = weakref.ref(left)
        gc.collect()  # now it is among the oldest
        del left
        living: deque[Connection] = deque(maxlen=200_000)
        for _ in range(3_000_000):
            living.append(Connection())
            if gone() is None:
                break
        assert gone() is None


def settings() -> tuple[object, float]:
    return gc.get_threshold(), sys.getswitchinterval()


def test_the_settings_are_those_of_before_again_afterwards() -> None:
    before = settings()
    with tuned_interpreter:
        assert settings() != before
    assert settings() == before


def test_servers_that_share_a_process_may_leave_in_any_order() -> None:
    before = settings()
    first, second = ExitStack(), ExitStack()
    first.enter_context(tuned_interpreter)
    second.enter_context(tuned_interpreter)
    first.close()
    assert settings() != before, "the second has lost them"
    second.close()
    assert settings() == before
