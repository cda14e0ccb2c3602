"""What one connection of a client may cost."""

from __future__ import annotations

from attrs import frozen


@frozen
class ConnectionLimits:
    """What one connection may cost.

    `patience`: seconds that the client may keep the proxy waiting. `min_body_bytes_per_second`:
    bytes a second of a body that have to come, seen over that time: who sends one now and then
    would hold a place for days. `send_timeout`: seconds in which nothing of an answer is read;
    there may be reasons: a client runs a tool, or asks its user. It is looked at six times in the
    shorter of the two.

    `head`: bytes of a request line and headers, and of anything else between two pieces of a body;
    what comes in one packet with its end may be more. `headers`: how many. `requests`: how many may
    be unanswered; it is not read any further long before, but that many may come in one packet.
    """

    client_timeout: float = 30.0
    min_body_bytes_per_second: int = 1000
    send_timeout: float = 120.0
    head: int = 64 * 1024
    headers: int = 200
    requests: int = 100

    @property
    def min_bytes_per_window(self) -> int:
        """Bytes of a body that have to come within `patience`."""
        return int(self.min_body_bytes_per_second * self.client_timeout) or 1

    @property
    def check_interval(self) -> float:
        """Seconds between two looks at the client."""
        return min(self.client_timeout, self.send_timeout) / 6
