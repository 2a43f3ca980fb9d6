"""What this distribution contributes to Contest."""

from __future__ import annotations

from pluggy import PluginManager

from contest_core import Registry, hookimpl


@hookimpl
def contest_add_hookspecs(plugin_manager: PluginManager) -> None:
    from contest_runner import hookspecs

    plugin_manager.add_hookspecs(hookspecs)


@hookimpl
def contest_register_job_managers(registry: Registry) -> None:
    registry.add("local", "contest_runner.manager:LocalJobManager", summary="Runs jobs in this process.")


@hookimpl
def contest_register_clients(registry: Registry) -> None:
    registry.add(
        "here", "contest_runner.here:HereClient", summary="Asks this program itself, which can only validate."
    )


@hookimpl
def contest_register_commands(registry: Registry) -> None:
    registry.add("run", "contest_runner.cli.run:run", summary="Run a job here and show its report.")
    registry.add(
        "schema", "contest_runner.cli.schema:schema", summary="Print the JSON Schema of a job, for editors."
    )
    registry.add("bench", "contest_runner.cli.bench:bench", summary="Measure this machine and Contest on it.")


@hookimpl
def contest_register_scaffolds(registry: Registry) -> None:
    registry.add("step", "contest_runner.scaffold:STEP", summary="A step: what is done to each target.")
