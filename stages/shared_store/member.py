"""What this process shares through a connection to the store: limits, queues, circuit breakers."""

from __future__ import annotations

from collections.abc import Sequence

from stages.shared_store.client import Script


class Member:
    """A part of this process with state in the store. The default is to do nothing."""

    @property
    def scripts(self) -> Sequence[Script]:
        """Scripts that each new connection loads, so that a burst of calls does not load them."""
        return ()

    @property
    def channels(self) -> Sequence[str]:
        """Channels that each new connection subscribes to."""
        return ()

    @property
    def waits(self) -> bool:
        """Whether something waits for a message. Then a store that is silent has to be noticed."""
        return False

    async def on_connect(self) -> None:
        """Send what the store has to know. The connection is up afterwards.

        May raise StoreLostError.
        """

    def on_lost(self) -> None:
        """Go on without the store. It may be called again before the next `on_connect`."""

    def on_message(self, channel: str, data: bytes) -> None:
        """Take a message of a channel of any member."""

    async def attend(self) -> None:
        """Run until it is cancelled, when the store is lost. May raise StoreLostError."""
