"""One call of a backend: what goes into it, and what is told of it besides the answer."""

from __future__ import annotations

from typing import Any

import aiohttp
from attrs import define, field

#: What a call that gets no answer, or half of one, raises.
CLIENT_EXCEPTIONS = (
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    UnicodeError,  # of a name that is none, before it is looked up
)


@define
class BackendCall:
    """One call: what goes in, and what LangChain has no room for on the way out.

    `idle_timeout` is in seconds, between two pieces of the answer; until the first byte of its
    body, `first_byte_timeout` counts where it is given. `gathered`: a stream whose client wants the
    whole, so that all of it is held here. `size` is that of the client's body, in bytes. `done`
    becomes True when the backend says that its answer is whole, `read` when all there is of a
    stream was read.
    """

    backend: str
    messages: list[dict[str, Any]] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    idle_timeout: float
    first_byte_timeout: float | None = None
    buffered: bool = False
    body_size: int = 0
    payload: dict[str, Any] = field(factory=dict, repr=False)
    completed: bool = False
    read_to_end: bool = False
