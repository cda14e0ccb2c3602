"""A session's key, headers and proxy, against a real socket."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from stages.backends.client import ChatCompletionsClient
from stages.backends.session import _proxy_from_environment, make_session
from stages.messages_api.errors import (
    OverloadedError,
)
from stages.profiles.profile import Profile, profiles
from tests.stages.backends.support import call, completed
from tests.support import profile
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, whole


@pytest.fixture
def anyio_backend() -> str:
    """The client is one for asyncio."""
    return "asyncio"


async def test_a_configured_header_goes_before_the_key() -> None:
    config = profile(api_key="secret", headers={"authorization": "Basic abc", "x-org": "me"})
    async with make_session(config) as client:
        assert client.headers["authorization"] == "Basic abc"
        assert client.headers["x-org"] == "me"


async def test_without_a_key_none_is_sent() -> None:
    async with make_session(profile()) as client:
        assert "authorization" not in client.headers


@contextlib.contextmanager
def environment(**names: str) -> Iterator[None]:
    """The environment with these names for proxies, and no others."""
    before = dict(os.environ)
    for name in before:
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(names)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_a_backend_is_reached_through_the_proxy_variables(
    scheme: str, name: str, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    to = "https" if "HTTPS" in name else "http"
    with environment(**{name: scheme + backend.url.removeprefix("http://")}):
        client = make_session(profile(base_url=f"{to}://backend.invalid/v1", api_key="secret"))
    async with client:
        completions = ChatCompletionsClient(client, f"{to}://backend.invalid/v1", connect_timeout=5)
        if to == "http":
            assert await completed(completions, call()) == completion()
        else:  # the response to CONNECT is no more than its head
            with pytest.raises(OverloadedError, match="cannot be reached"):
                await completed(completions, call())
    asked = backend.request()
    assert asked.method == ("CONNECT" if to == "https" else "POST")
    # The request to the proxy has nothing of the backend's key.
    assert "proxy-authorization" not in asked.headers
    assert asked.headers.get("authorization") == (None if to == "https" else "Bearer secret")


@pytest.mark.parametrize("no_proxy", ["*", "gpu.test", "gpu.test:8000"])
def test_no_proxy_is_asked_where_none_is_to_be(no_proxy: str) -> None:
    url = "http://user@gpu.test:8000/v1"
    with environment(http_proxy="http://p.test:1"):
        assert _proxy_from_environment(url) == "http://p.test:1"
    with environment(http_proxy="http://p.test:1", no_proxy=no_proxy):
        assert _proxy_from_environment(url) is None


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.2", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("localhost.test", False),
    ],
)
def test_servers_of_this_machine_need_no_proxy(host: str, local: bool) -> None:
    with environment(http_proxy="http://p.test:1"):
        assert (_proxy_from_environment(f"http://{host}:11434/v1") is None) == local


async def test_a_server_of_this_machine_is_reached_without_the_proxy(
    backend: ScriptedBackend,
) -> None:
    backend.says(whole(200, completion()))
    with environment(http_proxy="http://127.0.0.1:1"):
        client = make_session(profile(base_url=f"{backend.url}/v1"))
    async with client:
        completions = ChatCompletionsClient(client, f"{backend.url}/v1", connect_timeout=5)
        assert await completed(completions, call()) == completion()


async def test_the_embedded_model_is_never_reached_through_a_proxy(
    backend: ScriptedBackend,
) -> None:
    backend.says(whole(200, completion()))
    with environment(http_proxy="http://127.0.0.1:1", all_proxy="http://127.0.0.1:1"):
        client = make_session(Profile(**profiles()["embedded"]))
    async with client:
        completions = ChatCompletionsClient(client, f"{backend.url}/v1", connect_timeout=5)
        assert await completed(completions, call()) == completion()
