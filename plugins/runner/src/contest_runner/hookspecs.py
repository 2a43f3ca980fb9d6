"""The runner's hooks, called after the core's, in this order; same form, same rules.

Names match without regard to case, as ConTest's do; those of template functions with regard to it, as Go's.
"""

from __future__ import annotations

from contest_core import Registry, hookspec


@hookspec
def contest_register_steps(registry: Registry) -> None:
    """Add `BaseStep` classes; a name is what a step descriptor has as `name`."""


@hookspec
def contest_register_target_managers(registry: Registry) -> None:
    """Add `TargetManager` classes; a name is a test's `TargetManagerName`."""


@hookspec
def contest_register_fetchers(registry: Registry) -> None:
    """Add `Fetcher` classes; a name is a test's `TestFetcherName`."""


@hookspec
def contest_register_reporters(registry: Registry) -> None:
    """Add `Reporter` classes; a name is what an entry of `Reporting` has as `Name`."""


@hookspec
def contest_register_template_functions(registry: Registry) -> None:
    """Add functions that templates may call, `TemplateFunction`s."""
