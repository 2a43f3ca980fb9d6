"""The core's hooks, in the order in which they are called.

A plugin is a module found in the entry point group `contest`; it implements as many hooks as it contributes
kinds. Hooks are synchronous and called plugin by plugin, in the order of the plugins' names, so that one which
raises stops no other: what it registered is forgotten, and `contest plugins` lists it with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from contest_core.registry import Registry

if TYPE_CHECKING:
    from pluggy import PluginManager

PROJECT = "contest"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def contest_add_hookspecs(plugin_manager: PluginManager) -> None:
    """Called first: add specifications of the plugin's own with `plugin_manager.add_hookspecs(module)`."""


@hookspec
def contest_register_listeners(registry: Registry) -> None:
    """Add `Listener` classes; a name is a key under `listeners:` in the configuration."""


@hookspec
def contest_register_job_managers(registry: Registry) -> None:
    """Add `JobManager` classes; a name is the key under `job_manager:`."""


@hookspec
def contest_register_authenticators(registry: Registry) -> None:
    """Add `Authenticator` classes; a name is a key under `authentication:`."""


@hookspec
def contest_register_clients(registry: Registry) -> None:
    """Add `Client` classes; a name is the scheme of an address, such as `http` or `stdio`."""


@hookspec
def contest_register_commands(registry: Registry) -> None:
    """Add `click.Command` objects; a name is a subcommand of `contest`.

    `ctx.obj` is the `contest_core.plugins.Plugins` that are loaded.
    """


@hookspec
def contest_register_scaffolds(registry: Registry) -> None:
    """Add `contest_core.scaffold.Scaffold` objects; a name is what `contest new` can write."""
