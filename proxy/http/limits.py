"""Limits and timeouts of one client connection.

the proxy waits for                       the timeout restarts after     at the timeout the proxy
---------------------------------------   ----------------------------   --------------------------
a request's head                          the complete head              sends 408, or only closes
                                                                         if none of the head came
a body that the application reads         `min_bytes_per_window` bytes   sends 408
the rest of a body, after the response    the next complete head         closes the connection
the client to read what was written       each byte that it reads        aborts the connection
the client to close, after a refusal      (never)                        aborts the connection

The first and the third timeout run while no request on the connection waits for its response, and
on a new connection. Single bytes do not restart them; only a complete head does.
"""

from __future__ import annotations

from attrs import frozen

from stages.messages_api.errors import HeadTooLargeError


@frozen
class ConnectionLimits:
    """Limits of one client connection.

    `client_timeout`: seconds that the proxy waits for the client. `min_body_bytes_per_second`: the
    average rate of a body over `client_timeout`: without it, a client that sends a byte now and
    then holds a connection for days. `send_timeout`: seconds in which the client reads nothing of a
    response. It is longer, because a client may run a tool or ask its user meanwhile. The proxy
    checks `client_timeout` and `send_timeout` six times within the shorter of them.

    `head`: the maximum bytes of a URL and headers together. It is also the maximum for the other
    bytes around the parts of a body, such as chunk sizes and trailers. These are counted by packet,
    without packets that also have a part of a body, or the end of a head or a body.

    `headers`: number of headers. `requests`: number of pipelined requests without a response.
    Reading stops long before that, but one packet may have that many.
    """

    client_timeout: float = 30.0
    min_body_bytes_per_second: int = 1000
    send_timeout: float = 120.0
    head: int = 64 * 1024
    headers: int = 200
    requests: int = 100

    @property
    def min_bytes_per_window(self) -> int:
        """Bytes of a body that must arrive within `client_timeout`."""
        return int(self.min_body_bytes_per_second * self.client_timeout) or 1

    @property
    def check_interval(self) -> float:
        """Seconds between two checks of a connection."""
        return min(self.client_timeout, self.send_timeout) / 6

    def head_too_large(self) -> HeadTooLargeError:
        """Return the error for a request whose head exceeds `head` or `headers`."""
        return HeadTooLargeError(
            f"the request's head is larger than {self.head} bytes or has more than "
            f"{self.headers} headers: send less"
        )
