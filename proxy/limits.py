"""What one connection of a client may cost."""

from __future__ import annotations

from attrs import frozen


@frozen
class Limits:
    """What one connection may cost.

    `patience`: seconds that the client may keep the proxy waiting; it is looked at six times in
    that time. `send_timeout`: the same while an answer is not read, which may have its reasons: a
    client runs a tool, or asks its user. `min_rate`: bytes a second that a body, and an answer that
    waits for its client, have to move in these times: who moves one now and then would hold a place
    for days.

    `head`: bytes of a request line and headers, and of anything else between two pieces of a body;
    what comes in one packet with its end may be more. `headers`: how many. `requests`: how many may
    be unanswered; it is not read any further long before, but that many may come in one packet.
    """

    patience: float = 30.0
    send_timeout: float = 120.0
    min_rate: int = 1000
    head: int = 64 * 1024
    headers: int = 200
    requests: int = 100

    def least(self, seconds: float) -> int:
        """Bytes that have to move in so many seconds."""
        return int(self.min_rate * seconds) or 1
