"""What may stand in the configuration of a websocket listener."""

from __future__ import annotations

import pytest

from contest_core.settings import ByteSize, Duration, InvalidSettings
from contest_websocket.settings import WebsocketSettings


@pytest.mark.parametrize("origin", ["lab.example", "https://lab.example/", "ws://lab.example", "*"])
def test_an_origin_that_no_browser_sends_is_an_error_in_the_settings(origin: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        WebsocketSettings(origins=(origin,))
    assert list(caught.value.problems) == ["origins"]


def test_limits_that_cannot_be_meant_are_errors_in_the_settings() -> None:
    with pytest.raises(InvalidSettings) as caught:
        WebsocketSettings(write_timeout=Duration("0s"))
    assert list(caught.value.problems) == ["write_timeout"]
    with pytest.raises(ValueError, match="max_buffered must not be less"):
        WebsocketSettings(max_buffered=ByteSize("1MiB"))
