"""What this distribution contributes to Contest."""

from contest_core import Registry, hookimpl


@hookimpl
def contest_register_steps(registry: Registry) -> None:
    """The steps `soak` and `settle`."""
    registry.add("soak", "contest_sensor.soak:Soak", summary="Reads a sensor again and again.")
    registry.add("settle", "contest_sensor.settle:Settle", summary="Lets a target come to rest.")
