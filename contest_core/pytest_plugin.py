"""The pytest plugin of the kits: says at the end of a run which promises were kept, broken, and not looked at.

pytest loads it by its entry point. It imports no suite: who uses none pays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_PROPERTY: Final = "contest_suite"


def pytest_collection_modifyitems(items: Iterable[Any]) -> None:
    """Notes of which suite a case is; the note travels with its report, also from another process."""
    for item in items:
        if getattr(getattr(item, "cls", None), "contest_suite", False) and hasattr(item.function, "body"):
            item.user_properties.append((_PROPERTY, item.cls.__name__))


def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> None:
    """Refuses a suite that is not whole: pytest passes over abstract classes without a word."""
    if isinstance(obj, type) and getattr(obj, "contest_suite", False) and collector.classnamefilter(name):
        if lacks := sorted(getattr(obj, "__abstractmethods__", ())):
            raise collector.CollectError(f"{name} is a suite of Contest's and has no {', '.join(lacks)}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line a suite, and one for each reason why something was not looked at."""
    counts = _Counts()
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            counts.add(outcome, report)
    if not counts.suites:
        return
    terminalreporter.section("contest: promises")
    for name, suite in sorted(counts.suites.items()):
        terminalreporter.write_line(f"{name}: {_words(suite)}")
        for reason, cases in sorted(suite["reasons"].items()):
            terminalreporter.write_line(f"    not looked at, {len(cases)}: {reason}")


class _Counts:
    """What became of the cases, by suite."""

    def __init__(self) -> None:
        self.suites: dict[str, dict[str, Any]] = {}

    def add(self, outcome: str, report: Any) -> None:
        """One report. Of a case that passed, pytest shows only the call."""
        name = dict(getattr(report, "user_properties", ())).get(_PROPERTY)
        if name is None:
            return
        suite = self.suites.setdefault(name, {"passed": 0, "failed": 0, "skipped": 0, "reasons": {}})
        suite[outcome] += 1
        if outcome == "skipped" and isinstance(report.longrepr, tuple):
            reason = str(report.longrepr[2]).removeprefix("Skipped: ")
            suite["reasons"].setdefault(reason, []).append(report.nodeid)


def _words(suite: Mapping[str, Any]) -> str:
    words = [f"{suite['passed']} kept"]
    if suite["failed"]:
        words.append(f"{suite['failed']} BROKEN")
    if suite["skipped"]:
        words.append(f"{suite['skipped']} not looked at")
    return ", ".join(words)
