"""What this distribution adds to Contest: the job manager `relay`."""

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_job_managers(registry: Registry) -> None:
    """Adds the job manager."""
    registry.add(
        "relay", "contest_relay.manager:RelayJobManager", summary="Hands every request on to another server."
    )
