"""llama.cpp's own server: `python llamacpp_server.py MODEL TEMPLATE PORT WINDOW`.

It runs in an environment that has only `xllamacpp`, without this project. WINDOW is that of each
of its two slots, in tokens; its key is in LIVE_KEY.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

_SLOTS = 2


def main(model: str, template: str, port: str, window: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"smollm2"}
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.n_ctx = _SLOTS * int(window)
    params.n_parallel = _SLOTS
    params.cpuparams.n_threads = 1
    params.use_jinja = True
    params.endpoint_metrics = True
    params.chat_template = Path(template).read_text()
    params.api_keys = [os.environ["LIVE_KEY"]]
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main(*sys.argv[1:])
