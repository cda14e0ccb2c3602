"""A scripted backend, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from stages.backends.client import ChatCompletionsClient
from stages.backends.session import make_session
from tests.support import profile
from tests.wire.backend import ScriptedBackend


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    result = ScriptedBackend()
    yield result
    result.close()


@pytest.fixture
async def completions(backend: ScriptedBackend) -> AsyncIterator[ChatCompletionsClient]:
    async with make_session(profile(api_key="secret")) as client:
        yield ChatCompletionsClient(client, f"{backend.url}/v1", connect_timeout=5)
