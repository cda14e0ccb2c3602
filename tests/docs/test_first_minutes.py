"""The screens in docs/first-minutes.md are what the commands print."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from click.testing import CliRunner

from proxy.cli import main
from proxy.init.discovery import USUAL_ADDRESSES
from proxy.session_status import PATH
from proxy.statusline import line
from tests.docs.pages import Page
from tests.proxy.model_servers import model_server, ollama

INIT, RUN, LINE = (block.text for block in Page("docs/first-minutes.md").blocks("text"))
NOTHING = "http://127.0.0.1:1/v1"


def screen(*arguments: str, typed: str, hidden: tuple[str, ...] = ()) -> str:
    proxies = {name: None for name in os.environ if name.lower() in ("http_proxy", "all_proxy")}
    env = {"LLM_PROXY_CONFIG": None, "ANTHROPIC_API_KEY": None, **proxies}
    result = CliRunner(env=env).invoke(main, [*arguments, *hidden])
    assert result.exit_code == 0, result.output
    return f"$ llm-proxy {typed}\n{result.output}"


def test_the_screens_of_init_and_run(tmp_path: Path) -> None:
    models = ollama("llama3.2:latest", "qwen3:8b", loaded={"qwen3:8b": 40960})
    with model_server(models) as fake, contextlib.chdir(tmp_path):
        addresses = {**dict.fromkeys(USUAL_ADDRESSES, NOTHING), "ollama": f"{fake.root}/v1"}
        usual = tuple(f"--usual-address={name}={url}" for name, url in addresses.items())
        arguments = ("init", "--model", "qwen3:8b")
        init = screen(*arguments, typed=" ".join(arguments), hidden=usual)
        run = screen(
            *("run", "--model", "qwen3:8b", "--print", "--", "claude"),
            typed="run --model qwen3:8b --print -- claude",
        )

    assert sorted(_words(init, fake.root)) == sorted(_words(INIT, USUAL_ADDRESSES["ollama"][:-3]))
    assert run == RUN


def test_the_status_line() -> None:
    status = {
        "model": "qwen3:8b",
        "backend": "ollama",
        "prompt_tokens": 22300,
        "cached_tokens": 20300,
        "tokens_per_second": 41,
        "waiting_seconds": 12,
        "cost": 0.456,
    }
    with model_server({f"{PATH}s": status}) as fake:
        shown = line('{"session_id": "s"}', {"ANTHROPIC_BASE_URL": fake.root}, timeout=30)
        assert shown + "\n" == LINE


def test_the_shell_gets_its_completion() -> None:
    for shell in ("bash", "zsh", "fish"):
        env = {"_LLM_PROXY_COMPLETE": f"{shell}_source"}
        result = CliRunner(env=env).invoke(main, prog_name="llm-proxy")
        assert "_LLM_PROXY_COMPLETE=" in result.output
    env = {"_LLM_PROXY_COMPLETE": "bash_complete", "COMP_WORDS": "llm-proxy st", "COMP_CWORD": "1"}
    completed = CliRunner(env=env).invoke(main, prog_name="llm-proxy").output
    assert completed.split() == ["plain,stages", "plain,statusline"]


def _words(text: str, root: str) -> list[list[str]]:
    """The lines as words, with the address of Ollama; the results of the search in any order."""
    lines = [line.split() for line in text.replace(root, "OLLAMA").splitlines()]
    return [[word for word in line if not word.startswith("http://")] for line in lines]
