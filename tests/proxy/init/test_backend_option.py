"""`llm-proxy init --backend`: secrets in its URL and in `--api-key-env`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proxy.init.test_init import config_of, init
from tests.proxy.model_servers import model_server, vllm


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("http://ann:s3cret@gpu:8000/v1", "ann:"),
        ("http://s3cret@gpu:8000/v1", ""),
        ("http://${USER}:s3cret@gpu:8000/v1", "${USER}:"),
        ("http://ann:s3/cr@et@gpu:8000/v1", "ann:"),
        ("http://ann:s3://cret@gpu:8000/v1", "ann:"),
        ("http://s3cret:@gpu:8000/v1", ""),
        ("http://ann:${GPU_PASSWORD:-s3cret}@gpu:8000/v1", "ann:"),
        ("http://ann:s3${HOME}@gpu:8000/v1", "ann:"),
        ("http://ann:s3$${cret@gpu:8000/v1", "ann:"),
    ],
)
def test_a_password_in_the_url_is_refused_with_the_way_to_give_it(
    tmp_path: Path, url: str, user: str
) -> None:
    result = init(tmp_path, "--backend", f"gpu={url}")

    assert result.exit_code == 2
    assert "s3" not in result.output
    assert "write `GPU_PASSWORD=…` into `.env`, and type --backend" in result.output
    assert f"'gpu=http://{user}${{GPU_PASSWORD}}@gpu:8000/v1'" in result.output
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("written", "variable"),
    [("http://ann:${GPU_PASSWORD}@HOST", "s3cret"), ("${GPU_PASSWORD}", "http://ann:s3cret@HOST")],
)
def test_variables_of_the_url_stay_in_the_config(
    tmp_path: Path, written: str, variable: str
) -> None:
    with model_server(vllm("m", window=32768)) as fake:
        host = fake.root.removeprefix("http://")
        (tmp_path / ".env").write_text(f"GPU_PASSWORD={variable.replace('HOST', host)}\n")
        written = written.replace("HOST", host)
        result = init(tmp_path, "--backend", f"gpu={written}")  # without `/v1`

    assert result.exit_code == 0, result.output
    assert f'base_url: "{written}/v1"' in config_of(tmp_path)
    assert "s3cret" not in config_of(tmp_path) + result.output


@pytest.mark.parametrize("text", ["http://a:s3cret@gpu", "gpu=a:s3cret@gpu", "gpu=${s3cret"])
def test_a_wrong_url_is_not_printed(tmp_path: Path, text: str) -> None:
    result = init(tmp_path, "--backend", text)

    assert result.exit_code == 2
    assert "s3cret" not in result.output


def test_a_variable_of_the_url_that_is_not_set_is_reported(tmp_path: Path) -> None:
    result = init(tmp_path, "--backend", "gpu=http://a:${NO_SUCH_PASSWORD}@gpu")

    assert result.exit_code == 2
    assert "the environment variable NO_SUCH_PASSWORD is not set or is empty" in result.output


def test_a_key_in_place_of_the_name_of_its_variable_is_not_printed(tmp_path: Path) -> None:
    result = init(tmp_path, "--backend", "vllm", "--api-key-env", "sk-s3cret")

    assert result.exit_code == 2
    assert "takes the name of a variable, not a key" in result.output
    assert "s3cret" not in result.output
