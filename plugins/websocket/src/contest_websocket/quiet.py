"""The logger that the library is given, at both ends.

At the level of debugging it writes whole heads and messages, which have tokens and job descriptors in them; at the
level of information, a line or two a connection. Neither belongs into anybody's log.
"""

from __future__ import annotations

import logging


class Quiet(logging.LoggerAdapter[logging.Logger]):
    """Passes on warnings and errors."""

    def isEnabledFor(self, level: int) -> bool:
        """Whether something of this level is written."""
        return level >= logging.WARNING and super().isEnabledFor(level)
