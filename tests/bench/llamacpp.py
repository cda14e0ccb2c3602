"""llama.cpp with SmolLM2 and one slot: `python -m tests.bench.llamacpp PORT MIB`.

MIB: memory in which it keeps the prompts of earlier conversations; 0: only the slot has a prompt,
as in MLX, Ollama and older llama.cpp.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import stages.backends.embedded as embedded

MODEL = embedded.ALIAS
_CONTEXT = 8192


def main() -> None:
    """Serve until the process is terminated."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = embedded._bundled_model()
    params.model_alias = {MODEL}
    params.n_ctx, params.n_parallel = _CONTEXT, 1
    params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[1])
    params.cache_ram_mib = int(sys.argv[2])
    params.cpuparams.n_threads = max(1, (os.cpu_count() or 2) - 1)
    params.verbosity, params.ui = 1, False
    params.sampling.temp = 0.0
    template = Path(embedded.__file__).with_name("chat_template.jinja")
    params.chat_template = template.read_text()
    server = xllamacpp.Server(params)
    while server:
        time.sleep(3600)


if __name__ == "__main__":
    main()
