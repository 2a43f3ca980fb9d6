"""Finds, loads and lists plugins. Loading is a function: importing this module does nothing.

Called by the program and by tests. Every plugin, ours or not, comes the same way: an entry point in the group
`contest`. A plugin that fails is kept in the list with its reason and stops only what uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import ModuleType

import pluggy
from msgspec import Struct

from contest_core import hookspecs
from contest_core.distributions import EntryPoint, check_requirement, entry_points
from contest_core.registry import RegistrationError, Registry

CORE_HOOKS = (
    "contest_register_listeners",
    "contest_register_job_managers",
    "contest_register_authenticators",
    "contest_register_clients",
    "contest_register_commands",
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
        self.infos: list[PluginInfo] = []

    def register(self, module: ModuleType | object, info: PluginInfo) -> None:
        """Adds one plugin's module."""
        self.infos.append(info)
        if info.failure is None and not info.disabled:
            self.manager.register(module, name=info.name)

    def call(self, hook: str, argument: str, value: object) -> None:
        """Calls one hook plugin by plugin, in the order of their names; a failure is that plugin's alone.

        `value` is passed as `argument`; a `Registry` is told whose call it is.
        """
        for info in sorted(self.infos, key=lambda info: info.name):
            plugin = self.manager.get_plugin(info.name)
            implementation = getattr(plugin, hook, None)
            if plugin is None or implementation is None or info.failure is not None:
                continue
            if isinstance(value, Registry):
                value.current_plugin = info.name
            try:
                self.manager.subset_hook_caller(hook, self._others(info.name))(**{argument: value})
            # The boundary between the core and other people's code: whatever is raised is theirs.
            except Exception as error:
                info.failure = f"{hook}: {_describe(error)}"
                if isinstance(value, Registry):
                    value.drop(info.name)

    def _others(self, name: str) -> list[object]:
        return [plugin for other, plugin in self.manager.list_name_plugin() if other != name and plugin]

    def find_unknown_hooks(self) -> None:
        """Marks plugins with a hook implementation that nobody specified."""
        for info in self.infos:
            plugin = self.manager.get_plugin(info.name)
            for attribute in dir(plugin) if plugin is not None else ():
                options = self.manager.parse_hookimpl_opts(plugin, attribute)
                if options is None or options["optionalhook"]:
                    continue
                known = getattr(self.manager.hook, attribute, None)
                if known is None or not known.has_spec():
                    info.failure = info.failure or f"it implements {attribute}, which nobody specifies"


def load_plugins(
    *, disabled: Iterable[str] = (), found: Callable[[], Sequence[EntryPoint]] = entry_points
) -> Plugins:
    """Finds every installed plugin, loads those that are not disabled, and fills the registries."""
    plugins = Plugins()
    off = frozenset(disabled)
    points = sorted(found(), key=lambda point: (point.name, point.distribution))
    for point in points:
        _load(plugins, point, off, [other.distribution for other in points if other.name == point.name])
    plugins.call("contest_add_hookspecs", "plugin_manager", plugins.manager)
    registries = (
        plugins.listeners,
        plugins.job_managers,
        plugins.authenticators,
        plugins.clients,
        plugins.commands,
    )
    for hook, registry in zip(CORE_HOOKS, registries, strict=True):
        plugins.call(hook, "registry", registry)
    plugins.find_unknown_hooks()
    return plugins


def _load(plugins: Plugins, point: EntryPoint, off: frozenset[str], owners: Sequence[str]) -> None:
    info = PluginInfo(
        name=point.name,
        module=point.module,
        distribution=point.distribution,
        version=point.version,
        disabled=point.name in off,
    )
    module: ModuleType | None = None
    try:
        if len(owners) > 1:
            raise RegistrationError(f"entry point {point.name!r} is claimed by {' and '.join(owners)}")
        if not info.disabled:
            check_requirement(point)
            module = import_module(point.module)
    # The boundary between the core and other people's code: whatever an import raises is theirs.
    except Exception as error:
        info.failure = _describe(error)
    if any(other.name == info.name for other in plugins.infos):
        plugins.infos.append(info)
    else:
        plugins.register(module, info)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, RegistrationError) else f"{type(error).__name__}: {error}"
