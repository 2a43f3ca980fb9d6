"""The suites that an author subclasses: every case is a promise of a contract."""

from __future__ import annotations

from contest_core.testing.client_cases import ClientCases
from contest_core.testing.listener_answers import AnswerCases
from contest_core.testing.listener_life import LifeCases, TimeCases
from contest_core.testing.listener_load import BytesCases, GoneCases, LoadCases
from contest_core.testing.listener_watch import WatchCases
from contest_core.testing.manager_jobs import JobCases, LockCases, StartCases
from contest_core.testing.manager_life import CrowdCases, DeclaredCases
from contest_core.testing.manager_life import LifeCases as ManagerLifeCases
from contest_core.testing.manager_lists import ListCases
from contest_core.testing.manager_watch import ManagerWatchCases


class ListenerSuite(AnswerCases, TimeCases, LifeCases, LoadCases, BytesCases, GoneCases, WatchCases):
    """Holds a listener to its contract, through a client that is trusted."""


class ClientSuite(ClientCases):
    """Holds a client to its contract, in front of a listener that is trusted."""


class TransportSuite(ListenerSuite, ClientSuite):
    """Both, for who writes both."""


class JobManagerSuite(
    DeclaredCases, ManagerLifeCases, CrowdCases, JobCases, StartCases, LockCases, ListCases, ManagerWatchCases
):
    """Holds a job manager to its contract, behind the API and without listeners."""
