"""What this distribution contributes to Contest."""

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_job_managers(registry: Registry) -> None:
    """The job manager `script`."""
    registry.add("script", "contest_script.manager:ScriptJobManager", summary="Jobs are shell scripts.")
