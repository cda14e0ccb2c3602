"""What the proxy is given to serve while it is measured."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ruamel.yaml import YAML

from tests.bench.bodies import KEY

ROOT = Path(__file__).parent.parent.parent
ENVIRON = {"PROXY_API_KEY": KEY}


#: Stages that the shipped chain does not have: the stage before each, and the sections it needs.
_MOST = 1_000_000_000
ADDED = {
    "limit": (
        "resolve",
        {
            "limits": {
                "keys": {
                    "requests_per_minute": _MOST,
                    "input_tokens_per_minute": _MOST,
                    "output_tokens_per_minute": _MOST,
                    "concurrent_requests": _MOST,
                }
            }
        },
    )
}


def config_file(
    folder: Path,
    backend: str,
    without: Collection[str] = (),
    added: Collection[str] = (),
    store: str = "",
) -> Path:
    """The shipped pipelines.yaml with one backend, without some stages, and with some of ADDED.

    `without` names stages of the pipeline `messages`, and whole pipelines. `store` is a URL.
    """
    yaml = YAML()
    config = yaml.load((ROOT / "pipelines.yaml").read_text())
    config["backends"] = {"fake": {"base_url": f"{backend}/v1", "api_key": "none"}}
    config["models"] = {"bench-*": {"backend": "fake"}}
    stages = config["pipelines"]["messages"]["stages"]
    stages[:] = [stage for stage in stages if stage not in without]
    for name in added:
        before, sections = ADDED[name]
        stages.insert(stages.index(before) + 1, name)
        config.update(sections)
    if store and added:
        config["store"] = store
    for name in {*without} & {*config["pipelines"]}:
        del config["pipelines"][name]
    file = folder / "pipelines.yaml"
    yaml.dump(config, file)
    return file
