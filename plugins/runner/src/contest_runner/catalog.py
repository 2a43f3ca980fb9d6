"""The parts that jobs may name: the runner's registries, filled by the runner's hooks.

Made by the job manager and by `contest run` from the loaded plugins; the descriptor's reader and the runner look
parts up in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, cast

from contest_core import Registry
from contest_core.plugins import Plugins
from contest_runner.kept_steps import KeptSteps
from contest_runner.parts import Fetcher, Reporter, TargetManager
from contest_runner.revealed import reveal
from contest_runner.step import BaseStep
from contest_runner.templates import STANDARD, Template
from contest_runner.templates import compile as compile_template

_CACHED: Final = 1000
_CACHED_LENGTH: Final = 1000
"""Templates that are kept, and how long such a text is at the most: a megabyte or so in all."""

_PART = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)
"""As people spell it (`TargetSuccess`); it matches without regard to case."""

_FUNCTION = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


class Catalog:
    """Every part that is installed, by kind and name."""

    def __init__(self, plugins: Plugins) -> None:
        self.steps = Registry("step", pattern=_PART, fold=True)
        self.target_managers = Registry("target manager", pattern=_PART, fold=True)
        self.fetchers = Registry("fetcher", pattern=_PART, fold=True)
        self.reporters = Registry("reporter", pattern=_PART, fold=True)
        self.kept = KeptSteps()
        self._templates: dict[str, Template] = {}
        self._keeping = Lock()
        """Held while a template is kept: descriptors are read in a thread and in the loop."""
        self._functions: dict[str, Callable[..., Any]] | None = None
        self.functions = Registry("template function", pattern=_FUNCTION)
        for hook, registry in (
            ("contest_register_steps", self.steps),
            ("contest_register_target_managers", self.target_managers),
            ("contest_register_fetchers", self.fetchers),
            ("contest_register_reporters", self.reporters),
            ("contest_register_template_functions", self.functions),
        ):
            plugins.call(hook, "registry", registry)

    def step(self, name: str) -> type[BaseStep[Any]]:
        """The class of a step. Raises `UnknownName`, or what its import raises."""
        return cast("type[BaseStep[Any]]", self.steps.load(name))

    def target_manager(self, name: str) -> type[TargetManager[Any, Any]]:
        """The class of a target manager."""
        return cast("type[TargetManager[Any, Any]]", self.target_managers.load(name))

    def fetcher(self, name: str) -> type[Fetcher[Any]]:
        """The class of a fetcher."""
        return cast("type[Fetcher[Any]]", self.fetchers.load(name))

    def reporter(self, name: str) -> type[Reporter[Any, Any]]:
        """The class of a reporter."""
        return cast("type[Reporter[Any, Any]]", self.reporters.load(name))

    def template(self, text: str) -> Template:
        """A compiled template, from a cache: the steps of many jobs say the same. Raises `TemplateError`."""
        found = self._templates.get(text)
        if found is None:
            found = compile_template(text, self.template_functions(), reveal=reveal)
            if len(text) <= _CACHED_LENGTH:
                with self._keeping:
                    if len(self._templates) >= _CACHED:
                        self._templates.pop(next(iter(self._templates)))
                    self._templates[text] = found
        return found

    def template_functions(self) -> dict[str, Callable[..., Any]]:
        """All functions that templates may call: ConTest's, and those of plugins."""
        if self._functions is None:
            self._functions = dict(STANDARD) | {
                entry.name: cast("Callable[..., Any]", self.functions.load(entry.name))
                for entry in self.functions
            }
        return self._functions
