"""The kits that hold plugins to the contracts, and what tests of Contest are made of.

Public: an author subclasses a suite (`TransportSuite`, `ListenerSuite`, `ClientSuite`, `JobManagerSuite`) in a test
file, and pytest finds a case for every promise. It needs pytest (`contest-core[testing]`) and no plugin for async
tests. Beside them are a job manager, a listener and a client in memory, and a clock that does not wait.
"""

import pytest

# Before they are imported: what an assertion of theirs compared is shown, as of one in a test file.
pytest.register_assert_rewrite(
    *(
        f"contest_core.testing.{name}"
        for name in (
            "cases",
            "client_cases",
            "listener_answers",
            "listener_life",
            "listener_load",
            "listener_watch",
            "manager_jobs",
            "manager_life",
            "manager_lists",
            "manager_watch",
            "manager_world",
            "world",
        )
    )
)

from contest_core.testing.cases import Complaints, Heard, Suite, case  # noqa: E402
from contest_core.testing.clock import VirtualClock  # noqa: E402
from contest_core.testing.direct import DirectClient, DirectListener  # noqa: E402
from contest_core.testing.memory import MemoryJob, MemoryJobManager  # noqa: E402
from contest_core.testing.played import OneToken, PlayedJobManager  # noqa: E402
from contest_core.testing.suites import ClientSuite, JobManagerSuite, ListenerSuite, TransportSuite  # noqa: E402
from contest_core.testing.wire import StreamWire, Wire, dial_tcp, dial_unix  # noqa: E402
from contest_core.testing.world import PlayedContext  # noqa: E402

__all__ = [
    "ClientSuite",
    "Complaints",
    "DirectClient",
    "DirectListener",
    "Heard",
    "JobManagerSuite",
    "ListenerSuite",
    "MemoryJob",
    "MemoryJobManager",
    "OneToken",
    "PlayedContext",
    "PlayedJobManager",
    "StreamWire",
    "Suite",
    "TransportSuite",
    "VirtualClock",
    "Wire",
    "case",
    "dial_tcp",
    "dial_unix",
]
