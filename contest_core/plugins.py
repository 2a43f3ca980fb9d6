"""Finds, loads and lists plugins. Loading is a function: importing this module does nothing.

Called by the program and by tests. Every plugin, ours or not, comes the same way: an entry point in the group
`contest`. A plugin that fails is kept in the list with its reason and stops only what uses it: each call of a
hook stands alone, and of one that raises only what it registered itself is forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import pluggy
from msgspec import Struct

from contest_core import hookspecs
from contest_core.distributions import EntryPoint, check_requirement, entry_points
from contest_core.registry import NameTaken, RegistrationError, Registry

CORE_HOOKS = (
    "contest_register_listeners",
    "contest_register_job_managers",
    "contest_register_authenticators",
    "contest_register_clients",
    "contest_register_commands",
    "contest_register_scaffolds",
)


OWN = "contest_core"
"""Whose entries are those that no plugin registered."""

_OWN_FOLDERS = tuple(
    os.path.dirname(file) for file in (__file__, pluggy.__file__, import_module.__code__.co_filename)
)


class PluginInfo(Struct, kw_only=True):
    """A plugin that was found, whether or not it works."""

    name: str
    """Its entry point name."""
    module: str
    distribution: str
    version: str
    failure: str | None = None
    """Why it was not loaded, or what in it failed."""
    disabled: bool = False
    """It was switched off by name in the configuration."""

    def failed(self, what: str) -> None:
        """Adds a reason."""
        if self.failure is None:
            self.failure = what
        elif what not in self.failure:
            self.failure = f"{self.failure}; {what}"


class Plugins:
    """The loaded plugins and the core's registries. Made by `load_plugins`."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.listeners = Registry("listener")
        self.job_managers = Registry("job manager")
        self.authenticators = Registry("authenticator")
        self.clients = Registry("client")
        self.commands = Registry("command")
        self.scaffolds = Registry("scaffold")
        self.scaffolds.add(
            "listener", "contest_core.scaffold:LISTENER", summary="A transport: listener and client."
        )
        self.infos: list[PluginInfo] = []

    def specify(self, plugin: object, info: PluginInfo) -> None:
        """Lets a plugin that is not registered yet add hook specifications.

        pluggy holds implementations against specifications when the later of the two comes; with all
        specifications first, a wrong implementation is an error of the plugin that has it.
        """
        alone = pluggy.PluginManager(hookspecs.PROJECT)
        alone.register(plugin)
        try:
            alone.hook.contest_add_hookspecs(plugin_manager=self.manager)
        # The boundary between the core and other people's code: whatever is raised is theirs.
        except Exception as error:
            info.failed(f"contest_add_hookspecs: {_describe(error)}")

    def register(self, plugin: object, info: PluginInfo) -> None:
        """Adds one plugin's module."""
        self.infos.append(info)
        if plugin is None:
            return
        if (other := self.manager.get_name(plugin)) is not None:
            info.failed(f"its module is plugin {other!r} already")
            return
        try:
            self.manager.register(plugin, name=info.name)
        except pluggy.PluginValidationError as error:
            # Until pluggy 1.7 what came before the wrong implementation stays.
            if self.manager.has_plugin(info.name):
                self.manager.unregister(name=info.name)
            info.failed(_describe(error))

    def call(self, hook: str, argument: str, value: object) -> None:
        """Calls one hook plugin by plugin, in the order of their names; a failure is that plugin's alone.

        `value` is passed as `argument`; a `Registry` is told whose call it is.
        """
        caller = getattr(self.manager.hook, hook, None)
        implementing = caller.get_hookimpls() if caller is not None else []
        registered = [plugin for _, plugin in self.manager.list_name_plugin()]
        for info in sorted(self.infos, key=lambda info: info.name):
            plugin = self.manager.get_plugin(info.name)
            if not any(implementation.plugin is plugin for implementation in implementing):
                continue
            one = self.manager.subset_hook_caller(
                hook, [other for other in registered if other is not plugin]
            )
            if isinstance(value, Registry):
                value.current_plugin = info.name
            try:
                one(**{argument: value})
            # The boundary between the core and other people's code: whatever is raised is theirs.
            except Exception as error:
                info.failed(f"{hook}: {_describe(error)}{self._whose(error, info)}")
                if isinstance(value, Registry):
                    value.drop(info.name)
        if isinstance(value, Registry):
            value.current_plugin = OWN

    def _whose(self, error: Exception, loser: PluginInfo) -> str:
        """Of a name that two want: the distribution that has it, and the one that goes without."""
        if not isinstance(error, NameTaken):
            return ""
        owners = [info for info in self.infos if info.name == error.owner]
        has = f" ({owners[0].distribution} {owners[0].version})" if owners else ""
        return f"{has}: of {loser.distribution} {loser.version} this hook is left out"

    def implements_nothing(self, info: PluginInfo) -> bool:
        """Whether it was loaded and has no hook at all."""
        plugin = self.manager.get_plugin(info.name)
        return plugin is not None and not self.manager.get_hookcallers(plugin)

    def find_unknown_hooks(self) -> None:
        """Marks plugins with a hook that nobody specified, or that they forgot to mark as a hook."""
        callers = {name: caller for name, caller in vars(self.manager.hook).items() if name[0] != "_"}
        for info in self.infos:
            plugin = self.manager.get_plugin(info.name)
            for hook, caller in callers.items():
                own = [impl for impl in caller.get_hookimpls() if impl.plugin is plugin]
                if not caller.has_spec() and any(not impl.optionalhook for impl in own):
                    info.failed(f"it implements {hook}, which no plugin here specifies")
                if (
                    plugin is not None
                    and caller.has_spec()
                    and not own
                    and callable(getattr(plugin, hook, None))
                ):
                    info.failed(f"{hook} is not marked with @hookimpl")


def load_plugins(
    *, disabled: Iterable[str] = (), found: Callable[[], Sequence[EntryPoint]] = entry_points
) -> Plugins:
    """Finds every installed plugin, loads those that are not disabled, and fills the registries."""
    plugins = Plugins()
    off = frozenset(disabled)
    points = sorted(found(), key=lambda point: (point.name, point.distribution))
    modules = [
        _load(point, off, [other.distribution for other in points if other.name == point.name])
        for point in points
    ]
    for info, module in modules:
        if hasattr(module, "contest_add_hookspecs"):
            plugins.specify(module, info)
    for info, module in modules:
        plugins.register(module, info)
    registries = (
        plugins.listeners,
        plugins.job_managers,
        plugins.authenticators,
        plugins.clients,
        plugins.commands,
        plugins.scaffolds,
    )
    for hook, registry in zip(CORE_HOOKS, registries, strict=True):
        plugins.call(hook, "registry", registry)
    plugins.find_unknown_hooks()
    return plugins


def _load(
    point: EntryPoint, off: frozenset[str], owners: Sequence[str]
) -> tuple[PluginInfo, ModuleType | None]:
    info = PluginInfo(
        name=point.name,
        module=point.module,
        distribution=point.distribution,
        version=point.version,
        disabled=point.name in off,
    )
    if info.disabled:
        return info, None
    try:
        if len(owners) > 1:
            raise RegistrationError(f"entry point {point.name!r} is claimed by {' and '.join(owners)}")
        check_requirement(point)
        return info, import_module(point.module)
    # The boundary between the core and other people's code: whatever an import does is theirs.
    except (Exception, SystemExit) as error:
        info.failed(_describe(error))
        return info, None


def _describe(error: BaseException) -> str:
    """One line that says what, and where in the plugin."""
    words = " ".join(str(error).split())
    if isinstance(error, RegistrationError | pluggy.PluginValidationError):
        return words
    return f"{type(error).__name__}: {words}{_where(error)}"


def _where(error: BaseException) -> str:
    """The first line of somebody else's file on the way to the error: the plugin's own."""
    trace: Any = error.__traceback__
    while trace is not None and not isinstance(error, SyntaxError):
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(("<", *_OWN_FOLDERS)):
            return f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return ""
