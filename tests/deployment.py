"""The files of deploy/ that several proxies use, and the config that they share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.config.schema import Config
from proxy.config import read

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
CONFIG = DEPLOY / "config" / "pipelines.yaml"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
#: Where the config expects the files of secrets.
SECRETS = "/run/secrets"


def documents(file: Path) -> list[Any]:
    """The YAML documents of a file."""
    return list(YAML(typ="safe").load_all(file))


def secret_names() -> set[str]:
    """The names of the files of secrets in the config."""
    return set(re.findall(rf"\$\{{file:{SECRETS}/(\w+)\}}", CONFIG.read_text()))


def write_config(folder: Path, backend: str = "http://backend:8080", key: str = "backend") -> Path:
    """Write the config and its secrets to a folder; return the file of the config."""
    (folder / "proxy_api_key").write_text("client-key\n")
    (folder / "backend_api_key").write_text(f"{key}\n")
    file = folder / "pipelines.yaml"
    text = CONFIG.read_text().replace(SECRETS, str(folder))
    file.write_text(text.replace("http://backend:8080", backend))
    return file


def shared_config(folder: Path) -> Config:
    """Read the config, with secrets in `folder`. Raises ConfigError."""
    return read(str(write_config(folder)), {})


def instruction(name: str) -> str:
    """The arguments of an instruction that the Dockerfile has once in its last stage."""
    (line,) = re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)
    return str(line)
