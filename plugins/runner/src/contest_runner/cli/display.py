"""The live display of `contest run` on a terminal: run, test, and how many targets are where, step by step.

Made by `following`, which imports it only where there is a terminal: it brings rich. It shows what a `Tally` counts
and knows no events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from contest_core.cli.output import has_colour, printable, span_text, state_word, visible
from contest_runner.cli.tally import Tally
from contest_runner.plan import Plan

_STEPS: Final = 8
"""Steps that are shown; of more, those where there is something to see."""


class Display:
    """A few lines at the bottom of the terminal; what is told stands above them."""

    def __init__(self) -> None:
        import sys

        console = Console(
            file=sys.stderr, force_terminal=True, no_color=not has_colour(sys.stderr), highlight=False
        )
        # Whoever prints does so to descriptors, which rich cannot redirect; what it could, nobody uses here.
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def tell(self, text: str) -> None:
        """A line that stays."""
        self._live.console.print(Text.from_ansi(printable(text)), soft_wrap=True)

    def show(self, job: str, tally: Tally, plan: Plan | None, waiting: str, elapsed: float) -> None:
        """Where the job is; `waiting` says what for, if it waits."""
        if not self._live.is_started:
            self._live.start()
        lines: list[Text | Table] = [_headline(job, tally, plan, elapsed)]
        if tally.inside or tally.passed or tally.failed:
            lines.append(_steps(tally, plan))
        if waiting:
            lines.append(Text(f"  {visible(waiting)}", style="yellow"))
        self._live.update(Group(*lines), refresh=True)

    def close(self) -> None:
        """Takes the lines away."""
        if self._live.is_started:
            self._live.update(Text(), refresh=True)
            self._live.stop()


def _headline(job: str, tally: Tally, plan: Plan | None, elapsed: float) -> Text:
    words = [Text(visible(job), style="bold"), Text(state_word(tally.state))]
    if tally.run:
        words.append(Text(f"run {tally.run}{_of(plan.runs if plan else 0)}"))
    if tally.test:
        number = f"test {tally.tests_begun}{_of(len(plan.tests) if plan else 0)}"
        words.append(Text(f"{number}: {visible(tally.test)}"))
        words += [Text(each, style="yellow") for each in _where(tally, plan)]
    words.append(Text(span_text(elapsed), style="dim"))
    return Text("  ").join(words)


def _where(tally: Tally, plan: Plan | None) -> list[str]:
    """In which attempt, where it is not the only one; and whether the steps or the cleanup go on."""
    tries = [test.retries + 1 for test in plan.tests if test.name == tally.test] if plan else []
    found = [f"attempt {tally.attempt + 1}{_of(tries[0] if tries else 0)}"] if tally.attempt else []
    return [*found, "cleanup"] if tally.cleaning else found


def _of(total: int) -> str:
    return f" of {total}" if total else ""


def _steps(tally: Tally, plan: Plan | None) -> Table:
    labels = _labels(tally, plan)
    shown = _worth_seeing(labels, tally)
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="ellipsis", no_wrap=True, max_width=40)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_row(*(Text(word, style="dim") for word in ("  STEP", "INSIDE", "PASSED", "FAILED")))
    for label in shown:
        table.add_row(
            Text(f"  {visible(label)}"),
            _number(tally.inside[label], "cyan"),
            _number(tally.passed[label], "green"),
            _number(tally.failed[label], "red"),
        )
    if len(labels) > len(shown):
        table.add_row(Text(f"  and {len(labels) - len(shown)} more", style="dim"))
    return table


def _labels(tally: Tally, plan: Plan | None) -> Sequence[str]:
    """The steps of the test that goes on, in their order."""
    for test in plan.tests if plan else ():
        if test.name == tally.test:
            return [step.label for step in (test.cleanup if tally.cleaning else test.steps)]
    return list(tally.inside)


def _worth_seeing(labels: Sequence[str], tally: Tally) -> Sequence[str]:
    """All steps, or those with somebody inside or a failure, or of too many of these the last ones."""
    if len(labels) <= _STEPS:
        return labels
    busy = [label for label in labels if tally.inside[label] or tally.failed[label]]
    return busy[-_STEPS:]


def _number(number: int, style: str) -> Text:
    return Text(str(number), style=style if number else "dim")
