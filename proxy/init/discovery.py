"""Finds model servers: which address responds, which server it is, which models it has.

How a server is recognised, from each server's documentation and responses: `owned_by` in the list
of models (vLLM, SGLang, llama.cpp, llama-swap); LM Studio lists models at /api/v0/models; Ollama
reports its version at /api/version. Another server of Chat Completions gets the profile `generic`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from attrs import evolve, frozen

from pipeline.task_groups import task_group
from proxy.probe.endpoints import MODELS, WINDOW_PLACES, models, window
from proxy.probe.interview import ProbeClient
from proxy.probe.question import ProbeRequest
from proxy.probe.reply import Reply
from stages.backends.client import ChatCompletionsClient
from stages.backends.session import make_session, strip_credentials
from stages.chat_completions.json_values import as_array, as_count, as_object, as_string
from stages.profiles.profile import Profile

#: Where to look on this machine. The port of llama.cpp is also the proxy's own default.
USUAL_ADDRESSES = {
    "ollama": "http://localhost:11434/v1",
    "lmstudio": "http://localhost:1234/v1",
    "vllm": "http://localhost:8000/v1",
    "sglang": "http://localhost:30000/v1",
    "llamacpp": "http://localhost:8080/v1",
}
_OWNERS = ("vllm", "sglang", "llamacpp", "llama-swap")


@frozen
class Address:
    """Where to look. `label` is for people.

    `name`: the name for the entry of `backends`; default: the server's profile. `api_key` is the
    key, and `api_key_env` the variable that has it. `written_url` is the URL for the config, with
    variables.
    """

    base_url: str
    label: str
    name: str = ""
    api_key: str = ""
    api_key_env: str = ""
    written_url: str = ""


@frozen
class ModelServer:
    """A server that responded. `error` says why it has no `models`."""

    address: Address
    profile: str
    models: tuple[str, ...] = ()
    error: str = ""

    @property
    def name(self) -> str:
        """The name for the entry of `backends`."""
        return self.address.name or self.profile


@frozen
class Facts:
    """What a server reports about a model. None: it does not report this."""

    context_window: int | None = None
    max_concurrent_calls: int | None = None


def usual_addresses(replaced: Mapping[str, str]) -> list[Address]:
    """Give the addresses of this machine where servers usually are; `replaced` by profile."""
    return [Address(url, name) for name, url in {**USUAL_ADDRESSES, **replaced}.items()]


async def find(
    addresses: list[Address], seconds: float, on_result: Callable[[Address, ModelServer], None]
) -> list[ModelServer]:
    """Ask all addresses at the same time, at most `seconds` for each request.

    `on_result` gets each result as soon as it is there. Give those with models, in the order of
    `addresses`.
    """
    results: dict[Address, ModelServer] = {}

    async def look(address: Address) -> None:
        results[address] = await _ask(address, seconds)
        on_result(address, results[address])

    async with task_group() as group:
        for address in addresses:
            group.start_soon(look, address)
    return [results[address] for address in addresses if results[address].models]


async def facts(server: ModelServer, model: str, seconds: float) -> Facts:
    """Ask a server for the context window of a model, and for the calls it takes at a time."""
    tokens, calls = 0, None
    async with _client(server.address, seconds) as client:
        for path, at_root in WINDOW_PLACES.items():
            reply = await client.reply(ProbeRequest(path=path, outside_v1=at_root))
            if not reply.accepted:
                continue
            tokens = tokens or window(reply, model)[1]
            calls = calls or as_count(reply.json.get("total_slots"))  # llama.cpp, in /props
            if tokens and (calls or server.profile != "llamacpp"):
                break
    return Facts(tokens or None, calls or None)


async def _ask(address: Address, seconds: float) -> ModelServer:
    """Ask for the list of models; a `base_url` without its `/v1` is tried with it, too."""
    url, written = address.base_url.rstrip("/"), address.written_url.rstrip("/")
    server = ModelServer(address, "generic", error="nothing responds")
    for end in [""] if url.endswith("/v1") else ["", "/v1"]:
        tried = evolve(address, base_url=url + end, written_url=written and written + end)
        async with _client(tried, seconds) as client:
            listed = await client.reply(MODELS)
            if listed.status == 0:
                return evolve(server, error=_silence(listed))
            if not listed.accepted:
                server = evolve(server, error=listed.error)
            elif "first_id" in listed.json:
                return evolve(server, error="an Anthropic API, such as this proxy's")
            elif "data" in listed.json:
                profile = await _profile(client, listed)
                names = models(listed)
                return ModelServer(tried, profile, names, "" if names else "it has no models")
            else:
                server = evolve(server, error="not a list of models")
    return server


def _silence(reply: Reply) -> str:
    """Say that nothing responds; a refused connection is the usual case."""
    return "nothing responds" if "cannot be reached" in reply.error else reply.error


async def _profile(client: ProbeClient, listed: Reply) -> str:
    """Recognise a server."""
    owners = [as_string(as_object(m).get("owned_by")) for m in as_array(listed.json.get("data"))]
    if owner := next((name for name in _OWNERS if name in owners), ""):
        return owner
    lmstudio = await client.reply(ProbeRequest(path="/api/v0/models", outside_v1=True))
    if lmstudio.accepted and as_array(lmstudio.json.get("data")):
        return "lmstudio"
    version = await client.reply(ProbeRequest(path="/api/version", outside_v1=True))
    return "ollama" if version.accepted and as_string(version.json.get("version")) else "generic"


@asynccontextmanager
async def _client(address: Address, seconds: float) -> AsyncIterator[ProbeClient]:
    profile = Profile(address.base_url, api_key=address.api_key)
    async with make_session(profile) as session:
        completions = ChatCompletionsClient(session, strip_credentials(profile.base_url), seconds)
        secrets = (address.api_key,) if address.api_key else ()
        yield ProbeClient("server", completions, seconds, secrets)
