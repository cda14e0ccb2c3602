"""Checks the proxy against a real model server: `python -m tests.live NAME`."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path

import aiohttp
import anthropic
import anyio
import click

from tests.live import probe
from tests.live.checks import Check, faults, text, tools, window
from tests.live.environment import SetupError, say
from tests.live.judging import Result, table
from tests.live.process import Running, running
from tests.live.proxy import CLIENT_KEY, config, serving
from tests.live.requests import LIMIT, Live, error
from tests.live.servers import SERVERS, Server

_CHECKS = [*text.CHECKS, *tools.CHECKS, *window.CHECKS, *faults.CHECKS]
_CACHE = Path("~/.cache/llm-proxy-live").expanduser()


@click.command()
@click.argument("name", required=False, type=click.Choice(list(SERVERS)))
@click.option("--cache", type=Path, default=_CACHE, help="Where servers are installed, and kept.")
@click.option("--only", default="*", help="Only checks with such a name, as `tool*`.")
@click.option("--probe/--no-probe", "probed", default=True, help="Compare what the probe prints.")
def main(name: str | None, cache: Path, only: str, probed: bool) -> None:
    """Check the proxy against the real server NAME; without NAME, list the servers.

    The server is installed into the cache, started on a free port of loopback, and stopped at
    the end. Exit status 1: something differs from what is expected.
    """
    if name is None:
        click.echo("\n".join(SERVERS))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped
    try:
        results = live(SERVERS[name], cache, only, probed)
    except SetupError as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo("\n" + table(results))
    sys.exit(not all(result.passed for result in results))


def live(server: Server, cache: Path, only: str, probed: bool) -> list[Result]:
    """All results. Raises SetupError."""
    place = server.install(cache)
    model = server.model or str(place.safetensors)
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        it = stack.enter_context(running(server, place))
        file = folder / "pipelines.yaml"
        if probed:
            entry = probe.probe(it, model, folder)
            click.echo(entry)
            results += [*probe.results(it, entry), probe.checked(it, model, entry, file)]
        else:
            file.write_text(config(server, model, it.url))
        url = stack.enter_context(serving(file, place.folder / "proxy.log"))
        checks = [check for check in _CHECKS if fnmatchcase(check.name, only)]
        checks = [c for c in checks if not any(fnmatchcase(c.name, n) for n in server.without)]
        return results + anyio.run(run_checks, checks, it, model, url)


async def run_checks(checks: list[Check], it: Running, model: str, url: str) -> list[Result]:
    """The results of `checks`, one after the other."""
    client = anthropic.AsyncAnthropic(
        base_url=url, api_key=CLIENT_KEY, max_retries=0, timeout=LIMIT
    )
    async with client, aiohttp.ClientSession() as direct:
        live = Live(it, model, client, direct)
        return [await _result(check, live) for check in checks]


async def _result(check: Check, live: Live) -> Result:
    expected = live.server.server.expected.get(check.name, check.expected)
    began = time.monotonic()
    seen = await _seen(check, live)
    result = Result(check.name, expected, " ".join(seen.split()))
    verdict = "ok" if result.passed else f"DIFFERENT: {result.seen[:200]}"
    say(f"{check.name}: {verdict} ({time.monotonic() - began:.1f} s)")
    return result


async def _seen(check: Check, live: Live) -> str:
    limit = max(LIMIT, live.server.server.start_limit)
    try:
        with anyio.fail_after(limit):
            return await check.run(live)
    except TimeoutError:
        return f"nothing in {limit:g} s"
    except anthropic.APIStatusError as raised:
        return error(raised)
    except (anthropic.AnthropicError, aiohttp.ClientError, OSError) as raised:
        return f"{type(raised).__name__}: {raised}"


if __name__ == "__main__":
    main()
