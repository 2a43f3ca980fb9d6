"""Variables of steps: set by one step, read by later ones, for one target in one attempt."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Variables = Mapping[str, Mapping[str, bytes]]
"""By step label, then by variable name: the raw JSON of the value."""

NO_VARIABLES: Variables = MappingProxyType({})
