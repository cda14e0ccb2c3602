"""The command `llm-proxy init`."""

from __future__ import annotations

import click

from proxy.cli_support import Seconds, config_option, reporting


@click.command()
@config_option
@click.option(
    "--backend",
    metavar="NAME[=URL]",
    help="Use this server, and look for no other. NAME without URL is a profile, as `ollama`.",
)
@click.option("--model", metavar="NAME", help="The model for `claude-*`, as the server lists it.")
@click.option("--api-key-env", metavar="VAR", help="The variable with the key for --backend.")
@click.option("--embedded", is_flag=True, help="Use the small model inside the proxy.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: take the first model.")
@click.option(
    "--print", "print_only", is_flag=True, help="Print the new text of the config; write no file."
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Seconds(0.1),
    default=2.0,
    show_default=True,
    help="Timeout of each request to a server.",
)
@click.option("--usual-address", metavar="PROFILE=URL", multiple=True, hidden=True)  # for tests
def init(
    config: str | None,
    backend: str | None,
    model: str | None,
    api_key_env: str | None,
    embedded: bool,
    yes: bool,
    print_only: bool,
    timeout: float,
    usual_address: tuple[str, ...],
) -> None:
    """Find a model server, and write a config for it.

    The command looks for Ollama, LM Studio, vLLM, SGLang and llama.cpp at their usual ports on this
    machine, lists their models, and asks which one to use. It writes the config with the context
    window and the concurrent calls that the server reports, and a JSON Schema next to it for
    editors. If there is a config, the command adds the backend and the model to it, and changes
    nothing else.

    \b
    Examples:
      llm-proxy init
      llm-proxy init --backend ollama --model llama3.2
      llm-proxy init --backend gpu=http://gpu:8000/v1 --yes
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy.config import locate
    from proxy.init import command, discovery

    if api_key_env and not backend:
        raise click.UsageError("--api-key-env needs --backend")
    if embedded and (backend or model):
        raise click.UsageError("--embedded uses no --backend and no --model")

    def run() -> None:
        file, replaced = locate(config), dict(entry.split("=", 1) for entry in usual_address)
        named = backend and [command.address(backend, api_key_env, file)]
        addresses = tuple(named or discovery.usual_addresses(replaced))
        command.init(file, command.Wishes(addresses, model, embedded, yes, timeout, print_only))

    reporting(run)
