"""The prefix cache of a backend with one slot, for conversations that take turns.

`just bench-warm` starts llama.cpp with SmolLM2 and one slot, and the proxy with the stage `queue`.
Conversations of 3,000 tokens run at the same time. Each is an agent: a response calls a tool, and
the client sends its result after `--tool-ms`. The runs are:

- strict: `warm_turns: 1`;
- warm: `warm_turns` without `hold_seconds`;
- hold: with the options' defaults;

each with llama.cpp's cache of earlier prompts in RAM and without it. Each run prints the share of
the prompts' tokens that the backend had in its cache, seconds per turn, and the longest wait in the
queue, with its ratio to the longest wait of the strict run.
"""

from __future__ import annotations

import json
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import click
from attrs import define, field, frozen

from tests.bench.llamacpp import MODEL
from tests.bench.processes import free_port, proxy_command, started

_CACHE_MIB = 1024
_RULES = 125
"""Lines of the system prompt: 3,000 tokens."""
_CONFIG = """
backends:
  gpu: {{profile: embedded, embedded: false, base_url: "{url}/v1", max_concurrent_calls: 1}}
models: {{bench: {{backend: gpu, model: {model}}}}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate
      - validate
      - resolve
      - translate-in
      - queue: {queue}
      - invoke
      - translate-out
      - stream-encode
"""
_TOOL: Any = {
    "name": "look_up",
    "description": "Look up an item.",
    "input_schema": {
        "type": "object",
        "properties": {"item": {"enum": [1, 2, 3]}},
        "required": ["item"],
    },
}


@frozen
class Turn:
    """One request. `seconds` from the request to the end of its response."""

    prompt: int
    cached: int
    seconds: float


@define
class Agent:
    """A client with a conversation of its own."""

    url: str
    name: str
    tool_seconds: float
    turns: list[Turn] = field(factory=list)

    def run(self, turns: int) -> None:
        """Send the requests of a conversation, one after the other."""
        headers = {"x-claude-code-session-id": self.name}
        client = anthropic.Anthropic(
            base_url=self.url, api_key="none", timeout=600, default_headers=headers
        )
        rules = (f"Rule {self.name}-{n}: item {n * 7} is worth {n * n}." for n in range(_RULES))
        system = " ".join(rules)
        messages: list[Any] = [{"role": "user", "content": "Look up some items."}]
        for _ in range(turns):
            begin = time.monotonic()
            message = client.messages.create(
                model="bench",
                max_tokens=120,
                system=system,
                messages=messages,
                tools=[_TOOL],
                tool_choice={"type": "any"},
            )
            usage = message.usage
            cached = usage.cache_read_input_tokens or 0
            seconds = time.monotonic() - begin
            self.turns.append(Turn(usage.input_tokens + cached, cached, seconds))
            messages += [
                {"role": "assistant", "content": message.content},
                {"role": "user", "content": _results(message) or "Go on."},
            ]
            time.sleep(self.tool_seconds)


def _results(message: anthropic.types.Message) -> list[Any]:
    return [
        {"type": "tool_result", "tool_use_id": block.id, "content": "Its value is 7."}
        for block in message.content
        if block.type == "tool_use"
    ]


def measure(
    cache_mib: int, queue: Mapping[str, Any], agents: int, turns: int, tool_seconds: float
) -> tuple[list[Turn], list[float], float]:
    """Run the conversations. Return the turns, the waits in the queue, and the seconds in all."""
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.llamacpp", str(port), str(cache_mib)]
        backend = exits.enter_context(started("llama.cpp", command, port, None, {}))
        config = folder / "pipelines.yaml"
        config.write_text(_CONFIG.format(url=backend.url, model=MODEL, queue=json.dumps(queue)))
        port, log = free_port(), folder / "log"
        with log.open("w") as file:
            environ = {"LLM_PROXY_LOG_FORMAT": "json"}
            proxy = exits.enter_context(
                started("llm-proxy", proxy_command(config, port), port, None, environ, file)
            )
            clients = [Agent(proxy.url, f"agent-{n}", tool_seconds) for n in range(agents)]
            threads = [threading.Thread(target=each.run, args=(turns,)) for each in clients]
            begin = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.monotonic() - begin
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    waits = [line["waited"] for line in lines if "waited" in line]
    return [turn for client in clients for turn in client.turns], waits, seconds


@click.command()
@click.option("--agents", default=3, show_default=True, help="Conversations at the same time.")
@click.option("--turns", default=10, show_default=True, help="Requests of each conversation.")
@click.option("--run", "names", multiple=True, help="strict, warm or hold; default: all.")
@click.option("--ram/--no-ram", "with_ram", default=True, help="Also with llama.cpp's RAM cache.")
@click.option("--tool-ms", default=20, show_default=True, help="Milliseconds that a tool takes.")
def main(agents: int, turns: int, names: tuple[str, ...], with_ram: bool, tool_ms: int) -> None:
    """Measure the prefix cache of a backend with one slot, with and without warm turns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the child processes end too
    runs: dict[str, dict[str, Any]] = {
        "strict": {"warm_turns": 1},
        "warm": {"hold_seconds": 0},
        "hold": {},
    }
    click.echo(f"{agents} conversations, {turns} turns each, tools of {tool_ms} ms")
    click.echo("                          cached  s per turn   total s  longest wait s")
    for cache_mib in (0, _CACHE_MIB) if with_ram else (0,):
        strict = 0.0
        for name, queue in runs.items():
            if names and name not in names:
                continue
            measured, waits, total = measure(cache_mib, queue, agents, turns, tool_ms / 1000)
            longest = max(waits)
            strict = strict or longest
            cached = sum(t.cached for t in measured) / sum(t.prompt for t in measured)
            mean = statistics.mean(t.seconds for t in measured)
            title = f"{name}, {'RAM cache' if cache_mib else 'slot only'}"
            click.echo(
                f"{title:24}  {cached:6.0%}  {mean:10.2f}  {total:8.1f}  "
                f"{longest:8.2f} ({longest / strict:.1f} x)"
                f"  {measured[0].prompt} tokens"
            )


if __name__ == "__main__":
    main(prog_name="just bench-warm")
