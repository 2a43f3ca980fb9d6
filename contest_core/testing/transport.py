"""What the author of a transport gives to be held to the contract: a listener, a client, and if they can, raw bytes.

`ListenerSuite` and `ClientSuite` are built on it, and `TransportSuite` is both. The smallest whole test file of a
transport:

    from contest_core.testing import TransportSuite

    class TestCarrier(TransportSuite):
        def listener(self, directory):
            return CarrierListener(CarrierListener.Settings(loft=str(directory)))

        async def connect(self, address, options):
            return await CarrierClient.connect(address, options)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from contest_core.client import Client, ClientOptions
from contest_core.listener import Listener
from contest_core.testing.cases import Complaints, Suite
from contest_core.testing.wire import Wire
from contest_core.testing.world import Place


class Transport(Suite, ABC):
    """A transport that is tested. What is declared here is what it promises beyond the contract, or does not have."""

    max_request: ClassVar[int | None] = 16 * 1024 * 1024
    """Bytes of a request that the listener takes; one that is larger gets `too_large`. None: it has no limit."""

    read_timeout: ClassVar[float | None] = None
    """Seconds after which half a request is cut off; None: that is not tested."""

    ordered: ClassVar[bool] = False
    """Requests of one connection are carried out in their order."""

    tokens: ClassVar[bool] = True
    """The client's token reaches the listener, which authenticates it as `Bearer`."""

    watches: ClassVar[bool] = True
    """There are watches. Where there are none the verb has to be refused as `unsupported`."""

    many: ClassVar[bool] = True
    """There may be many connections at a time."""

    @abstractmethod
    def listener(self, directory: Path) -> Listener:
        """A new listener, that does not serve yet. The directory is empty the first time, and this case's alone.

        It is called again in the same directory when the server that had it has ended.
        """

    @abstractmethod
    async def connect(self, address: str, options: ClientOptions) -> Client:
        """A client, by the first address that the listener gave to `context.ready`."""

    async def dial(self, address: str) -> Wire:
        """A raw connection on which `request` can be sent: `dial_tcp`, `dial_unix`, or a `Wire` of your own.

        Cases about bytes are skipped without it.
        """
        pytest.skip("the suite has no `dial` and `request`: raw bytes are not tested")

    def request(self, verb: str, parameters: Mapping[str, object]) -> bytes:
        """The bytes of one request on that connection."""
        pytest.skip("the suite has no `dial` and `request`: raw bytes are not tested")

    def place(self, directory: Path, complaints: Complaints) -> Place:
        """Where a case happens."""
        return Place(self, directory, complaints)
