"""deploy/compose.yaml: it is valid, and agrees with the other files of deploy/."""

from __future__ import annotations

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from proxy import __version__
from proxy.config import read
from proxy.http.disconnect import CLOSE_TIMEOUT, SHUTDOWN_NOTICE
from tests.deployment import (
    DEPLOY,
    DOCKERFILE,
    ROOT,
    SECRETS,
    documents,
    instruction,
    secret_names,
    shared_config,
    write_config,
)

(COMPOSE,) = documents(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROXY = SERVICES["proxy"]
NGINX_CONF = (DEPLOY / "nginx.conf").read_text()
ALL = pytest.mark.parametrize("name", SERVICES)


def schema() -> jsonschema_rs.Validator:
    """The JSON Schema of the Compose specification; check-jsonschema has a copy."""
    package = importlib.resources.files("check_jsonschema")
    text = package.joinpath("builtin_schemas", "vendor", "compose-spec.json").read_text()
    return jsonschema_rs.validator_for(json.loads(text))


def seconds(duration: str) -> int:
    """A duration of Compose, in seconds."""
    assert re.fullmatch(r"\d+s", duration)
    return int(duration[:-1])


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """The targets of the volumes of a service, with their sources."""
    parts = (volume.split(":") for volume in service.get("volumes", ()))
    return {target: source for source, target, *_ in parts}


def test_it_is_a_compose_file() -> None:
    assert not list(schema().iter_errors(COMPOSE))


def test_a_wrong_option_would_be_seen() -> None:
    assert not schema().is_valid({"services": {"proxy": {"image": "x", "restrat": "always"}}})


@ALL
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["user"] == instruction("USER")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"


@ALL
def test_an_image_has_a_tag_other_than_latest(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")

    assert image
    assert tag not in ("", "latest")


def test_the_image_of_the_proxy_is_built_here() -> None:
    build = PROXY["build"]

    assert PROXY["image"] == f"llm-proxy:{__version__}"
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    assert PROXY["deploy"]["replicas"] == 2


def test_secrets_are_those_of_the_config_and_each_is_used() -> None:
    used = {name for service in SERVICES.values() for name in service.get("secrets", ())}

    assert set(PROXY["secrets"]) == secret_names()
    assert used == set(COMPOSE["secrets"])
    key_file = f"--api-key-file={SECRETS}/backend_api_key"
    assert key_file in SERVICES["backend"]["command"]
    assert "backend_api_key" in SERVICES["backend"]["secrets"]


def test_volumes_exist_and_each_is_used() -> None:
    sources = {source for service in SERVICES.values() for source in mounts(service).values()}
    paths = {source for source in sources if source.startswith(".")}
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert sources - paths == set(COMPOSE["volumes"])
    for path in paths:
        assert (DEPLOY / path).exists() or f"deploy/{path.removeprefix('./')}/" in ignored


def test_secrets_and_models_are_in_no_commit_and_no_sdist() -> None:
    folders = {Path(secret["file"]).parent.name for secret in COMPOSE["secrets"].values()}

    assert folders == {"secrets"}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/secrets/", "deploy/models/"} <= set(ignored)
    pruned = (ROOT / "MANIFEST.in").read_text().splitlines()
    assert {"prune deploy/secrets", "prune deploy/models"} <= set(pruned)


def test_the_proxy_reads_its_config_and_keeps_its_record(tmp_path: Path) -> None:
    config = Path(PROXY["environment"]["LLM_PROXY_CONFIG"])

    source = mounts(PROXY)[str(config.parent)]
    assert (DEPLOY / source / config.name).is_file()
    state = instruction("ENV").removeprefix("STATE_DIRECTORY=")
    assert mounts(PROXY)[state] in COMPOSE["volumes"]
    assert shared_config(tmp_path).pipelines


def test_requests_in_flight_may_finish(tmp_path: Path) -> None:
    needed = (
        shared_config(tmp_path).sections["server"].drain_timeout + SHUTDOWN_NOTICE + CLOSE_TIMEOUT
    )

    assert seconds(PROXY["stop_grace_period"]) > needed
    assert seconds(SERVICES["nginx"]["stop_grace_period"]) > needed


def test_the_memory_is_enough_for_the_limits_of_the_config(tmp_path: Path) -> None:
    server = shared_config(tmp_path).sections["server"]
    start = 200 * 2**20

    needed = start + 9 * server.max_buffered_body_bytes + server.conversation_cache_bytes
    assert PROXY["deploy"]["resources"]["limits"]["memory"] == "1G"
    assert needed < 2**30


def test_ports_and_names_agree(tmp_path: Path) -> None:
    port = instruction("EXPOSE")
    (listen,) = re.findall(r"^\s*listen (\d+);", NGINX_CONF, re.MULTILINE)
    (published,) = SERVICES["nginx"]["ports"]
    (backend,) = shared_config(tmp_path).sections["backends"].values()
    model = shared_config(tmp_path).sections["models"]["claude-*"].targets[0].model
    command = SERVICES["backend"]["command"]

    assert f"server proxy:{port} resolve" in NGINX_CONF
    assert published == f"127.0.0.1:8080:{listen}"
    assert f"http://127.0.0.1:{listen}/health/live" in SERVICES["nginx"]["healthcheck"]["test"]
    assert backend.profile.base_url == "http://backend:8080/v1"
    assert {"--port=8080", f"--alias={model}"} <= set(command)
    assert "http://127.0.0.1:8080/health" in SERVICES["backend"]["healthcheck"]["test"]


@ALL
def test_a_service_waits_for_services_with_health_checks(name: str) -> None:
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other] or other == "proxy"  # the image has one


def test_nginx_hashes_the_addresses_of_the_proxies() -> None:
    """With `consistent`, nginx hashes the name that all proxies share, and so takes turns."""
    assert "hash $affinity;" in NGINX_CONF


def test_nginx_keeps_no_connections_to_the_proxies() -> None:
    """A proxy that shuts down closes them, and nginx does not repeat a POST that it has sent."""
    assert "proxy_set_header Connection close;" in NGINX_CONF
    assert "keepalive" not in NGINX_CONF


def test_the_proxies_count_in_one_store(tmp_path: Path) -> None:
    url = PROXY["environment"]["STORE_URL"]
    config = read(str(write_config(tmp_path)), {"STORE_URL": url})

    assert url == "valkey://valkey:6379"
    assert "valkey" in SERVICES
    assert config.sections["store"].url == url
    assert [note.code for note in config.notes] == ["limits-shared"]
    assert ",shared]" in DOCKERFILE
