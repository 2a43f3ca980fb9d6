"""The suites that an author subclasses: every case is a promise of a listener's or a client's contract."""

from __future__ import annotations

from contest_core.testing.client_cases import ClientCases
from contest_core.testing.listener_answers import AnswerCases
from contest_core.testing.listener_life import LifeCases, TimeCases
from contest_core.testing.listener_load import BytesCases, GoneCases, LoadCases
from contest_core.testing.listener_watch import WatchCases


class ListenerSuite(AnswerCases, TimeCases, LifeCases, LoadCases, BytesCases, GoneCases, WatchCases):
    """Holds a listener to its contract, through a client that is trusted."""


class ClientSuite(ClientCases):
    """Holds a client to its contract, in front of a listener that is trusted."""


class TransportSuite(ListenerSuite, ClientSuite):
    """Both, for who writes both."""
