"""What the proxy is given to serve while it is measured."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from tests.bench.bodies import KEY

ROOT = Path(__file__).parent.parent.parent
ENVIRON = {"PROXY_API_KEY": KEY}


def config_file(folder: Path, backend: str) -> Path:
    """The shipped pipelines.yaml, its chain as it is, with all models led to one backend."""
    yaml = YAML()
    config = yaml.load((ROOT / "pipelines.yaml").read_text())
    config["backends"] = {"fake": {"base_url": f"{backend}/v1", "api_key": "none"}}
    config["models"] = {"bench-*": {"backend": "fake"}}
    file = folder / "pipelines.yaml"
    yaml.dump(config, file)
    return file
