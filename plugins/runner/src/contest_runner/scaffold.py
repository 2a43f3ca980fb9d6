"""What `contest new step` writes."""

from __future__ import annotations

from typing import Final

from contest_core.scaffold import Scaffold

STEP: Final = Scaffold(package="contest_runner", folder="scaffolds/step", kinds=("step",))
"""A step, its parameters and its tests."""
