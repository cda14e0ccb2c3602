"""The port of a backend to the embedded model.

LocalModel, in this module, is in the process of its backend. SharedModel, in
stages/backends/shared_model.py, is in a process of its own, for all workers of a machine.
"""

from __future__ import annotations

from typing import Protocol

import anyio.to_thread
from attrs import define, field

from stages.backends import embedded
from stages.messages_api.errors import InternalError
from stages.profiles.profile import Profile


class EmbeddedModel(Protocol):
    """A model server, which its backend starts and closes."""

    @property
    def socket(self) -> str | None:
        """The path of its Unix socket; None if it listens on a port."""

    @property
    def is_running(self) -> bool:
        """Whether calls can be sent to it. It takes microseconds."""

    def start(self) -> str:
        """Load the model unless it is running. Return the root of its URL.

        It blocks for seconds. Raises RuntimeError, ImportError or OSError if that is not possible.
        """

    def close(self) -> None:
        """Stop it, or stop using it. It may block. `start` starts it again."""


async def load(model: EmbeddedModel) -> str:
    """Start the model in a thread. Return the root of its URL. Raises InternalError."""
    try:
        return await anyio.to_thread.run_sync(model.start)
    except (RuntimeError, ImportError, OSError) as error:
        reason = f"the embedded llama.cpp cannot be started: {error}"
        raise InternalError(reason) from error


@define(eq=False)
class LocalModel:
    """The EmbeddedModel of this process."""

    profile: Profile
    socket: None = field(default=None, init=False)
    _server: embedded.EmbeddedServer | None = field(default=None, init=False)

    @property
    def is_running(self) -> bool:
        """See EmbeddedModel."""
        return self._server is not None

    def start(self) -> str:
        """See EmbeddedModel."""
        if self._server is None:
            self._server = embedded.start(self.profile)
        return self._server.url

    def close(self) -> None:
        """See EmbeddedModel."""
        if self._server is not None:
            self._server.close()
            self._server = None
