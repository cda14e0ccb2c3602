"""What the proxy is given to serve while it is measured."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ruamel.yaml import YAML

from tests.bench.bodies import KEY

ROOT = Path(__file__).parent.parent.parent
ENVIRON = {"PROXY_API_KEY": KEY}


def declaration(folder: Path, backend: str, without: Collection[str] = ()) -> Path:
    """The shipped pipelines.yaml, with all models led to one backend, and no stages `without`."""
    yaml = YAML()
    declared = yaml.load((ROOT / "pipelines.yaml").read_text())
    declared["backends"] = {"fake": {"base_url": f"{backend}/v1", "api_key": "none"}}
    declared["models"] = {"bench-*": {"backend": "fake"}}
    stages = declared["pipelines"]["messages"]["stages"]
    stages[:] = [each for each in stages if each not in without]
    file = folder / "pipelines.yaml"
    yaml.dump(declared, file)
    return file
