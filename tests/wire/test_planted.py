"""Files that lie next to the config, named like optional packages of libraries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, whole
from tests.wire.client import Client, raw
from tests.wire.command import command
from tests.wire.proxy import config_text

#: What aiohttp, requests, pypdf, uvicorn and LangChain import where it is installed.
OPTIONAL = (
    "PIL",
    "aiodns",
    "backports",
    "brotli",
    "brotlicffi",
    "chardet",
    "cryptodome",
    "numpy",
    "simplejson",
    "transformers",
    "watchfiles",
    "wsproto",
)


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


def test_row_d1_serve_runs_no_file_that_the_config_does_not_name(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    for name in OPTIONAL:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / name)!r}, 'w').close()\n")
    file = tmp_path / "pipelines.yaml"
    file.write_text(config_text(backend.url))
    backend.says(whole(200, completion()))

    with command(file) as running:
        client = Client(running.url)
        client.send(raw(body()))
        assert client.response.status == 200
        client.close()

    assert [name for name in OPTIONAL if (tmp_path / name).exists()] == []
