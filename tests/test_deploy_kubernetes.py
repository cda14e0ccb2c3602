"""deploy/kubernetes/: each object is valid, and agrees with the image and the config."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from proxy import __version__
from proxy.app import App
from proxy.http.disconnect import CLOSE_TIMEOUT, SHUTDOWN_NOTICE
from tests.cases import for_each
from tests.deployment import (
    CONFIG,
    DEPLOY,
    SECRETS,
    documents,
    instruction,
    secret_names,
    shared_config,
)

KUBERNETES = DEPLOY / "kubernetes"
BASE = KUBERNETES / "base"
FOLDERS = sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))
FILES = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml")
#: The oldest version with the action `sleep`, and the newest.
VERSIONS = ("1.30", "1.37")
#: pip cannot install kubectl. Without it, a contributor can still run all other tests.
KUBECTL = shutil.which("kubectl")


def objects() -> dict[str, Any]:
    """The objects of the base, by kind."""
    (kustomization,) = documents(BASE / "kustomization.yaml")
    files = [BASE / name for name in kustomization["resources"] if name.endswith(".yaml")]
    assert files
    return {each["kind"]: each for file in files for each in documents(file)}


OBJECTS = objects()
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
MOUNTS = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
VOLUMES = {volume["name"]: volume for volume in POD["volumes"]}


def render(folder: Path) -> list[Any]:
    """The objects that Kustomize makes of a folder."""
    assert KUBECTL
    done = subprocess.run(
        [KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    return list(YAML(typ="safe").load_all(done.stdout))


@for_each("version", VERSIONS)
@for_each("file", FILES, ids=lambda file: file.relative_to(KUBERNETES).as_posix())
def test_an_object_is_valid(file: Path, version: str) -> None:
    for each in documents(file):
        assert kubernetes_validate.validate(each, version, strict=True) == version


def test_a_wrong_option_would_be_seen() -> None:
    wrong = {**OBJECTS["Service"], "spec": {"prots": []}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


# pip cannot install kubectl. Without it, the objects themselves are still tested, above.
@pytest.mark.skipif(not KUBECTL, reason="needs kubectl, for Kustomize")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(KUBERNETES).name)
def test_kustomize_makes_valid_objects_with_the_config(folder: Path) -> None:
    rendered = render(folder)

    for each in rendered:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    by_name = {each["metadata"]["name"]: each for each in rendered if each["kind"] == "ConfigMap"}
    (deployment,) = [
        each
        for each in rendered
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "llm-proxy"
    ]
    pod = deployment["spec"]["template"]["spec"]
    (config,) = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
    assert re.fullmatch(r"llm-proxy-\w+", config)  # a new text is a new name, and so new pods
    assert "pipelines:" in by_name[config]["data"][CONFIG.name]
    assert pod["containers"][0]["image"] == f"registry.example/llm-proxy:{__version__}"


# As above: it reads what Kustomize makes.
@pytest.mark.skipif(not KUBECTL, reason="needs kubectl, for Kustomize")
def test_the_config_map_has_the_shared_config() -> None:
    (config,) = [each for each in render(BASE) if each["kind"] == "ConfigMap"]

    assert config["data"] == {CONFIG.name: CONFIG.read_text()}


def test_the_shared_config_passes_check(tmp_path: Path) -> None:
    config = shared_config(tmp_path)

    assert [pipeline.name for pipeline in config.pipelines] == [
        "messages",
        "count-tokens",
        "models",
        "metrics",
    ]
    assert not config.notes


def test_the_names_of_the_image_agree() -> None:
    (kustomization,) = documents(BASE / "kustomization.yaml")

    (image,) = kustomization["images"]
    assert image["name"] == CONTAINER["image"]
    assert image["newTag"] == __version__
    text = (BASE / "kustomization.yaml").read_text()
    assert f"docker build -t {image['newName']}:{image['newTag']} " in text


def test_labels_and_names_agree() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"],
        OBJECTS["Service"]["spec"]["selector"],
        OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in POD["topologySpreadConstraints"]),
    ]

    assert selectors == [labels] * 4
    target = OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": OBJECTS["Deployment"]["apiVersion"],
        "kind": "Deployment",
        "name": OBJECTS["Deployment"]["metadata"]["name"],
    }


def test_ports_and_paths_are_those_that_are_served(tmp_path: Path) -> None:
    (port,) = CONTAINER["ports"]
    (service,) = OBJECTS["Service"]["spec"]["ports"]
    probes = [CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]

    assert str(port["containerPort"]) == instruction("EXPOSE")
    assert service["targetPort"] == port["name"]
    assert {probe["port"] for probe in probes} == {port["name"]}
    served = App(shared_config(tmp_path)).current.static_paths
    assert {probe["path"] for probe in probes} <= set(served)
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/health/live"


def test_requests_in_flight_may_finish(tmp_path: Path) -> None:
    drain = (
        shared_config(tmp_path).sections["server"].drain_timeout + SHUTDOWN_NOTICE + CLOSE_TIMEOUT
    )
    sleep = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert sleep > 0
    assert POD["terminationGracePeriodSeconds"] > sleep + drain


def test_two_proxies_serve_during_an_update_and_a_disruption() -> None:
    scale = OBJECTS["HorizontalPodAutoscaler"]["spec"]

    assert OBJECTS["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in OBJECTS["Deployment"]["spec"]  # `kubectl apply` would undo the scale
    assert 2 <= scale["minReplicas"] < scale["maxReplicas"]
    assert OBJECTS["PodDisruptionBudget"]["spec"]["maxUnavailable"] < scale["minReplicas"]


def test_the_pod_runs_without_rights() -> None:
    user, group = instruction("USER").split(":")
    pod, container = POD["securityContext"], CONTAINER["securityContext"]

    assert pod["runAsNonRoot"]
    assert (pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (
        int(user),
        int(group),
        int(group),
    )
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not POD["automountServiceAccountToken"]
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_each_volume_is_mounted_where_it_is_used() -> None:
    environment = {each["name"]: each["value"] for each in CONTAINER["env"]}

    assert MOUNTS.keys() == VOLUMES.keys()
    assert f"{MOUNTS['config']['mountPath']}/{CONFIG.name}" == environment["LLM_PROXY_CONFIG"]
    assert MOUNTS["secrets"]["mountPath"] == SECRETS
    assert f"STATE_DIRECTORY={MOUNTS['usage']['mountPath']}" == instruction("ENV")
    assert all(mount.get("readOnly") for name, mount in MOUNTS.items() if name != "usage")


def test_secrets_are_those_of_the_config() -> None:
    (secret,) = documents(KUBERNETES / "secret.example.yaml")
    volume = VOLUMES["secrets"]["secret"]

    assert secret["stringData"].keys() == secret_names()
    assert secret["metadata"]["name"] == volume["secretName"]
    assert volume["defaultMode"] == 0o440  # the group `fsGroup` reads
    (config,) = documents(DEPLOY / "config" / "kustomization.yaml")
    assert config["configMapGenerator"][0]["name"] == VOLUMES["config"]["configMap"]["name"]


def test_the_memory_is_enough_for_the_limits_of_the_config(tmp_path: Path) -> None:
    sections = shared_config(tmp_path).sections
    server, start = sections["server"], 200 * 2**20

    assert (
        CONTAINER["resources"]["requests"]["memory"] == "384Mi"
    )  # less than the limit, over `start`
    assert CONTAINER["resources"]["limits"] == {"memory": "1Gi"}
    assert start + 9 * server.max_buffered_body_bytes + server.conversation_cache_bytes < 2**30
    assert VOLUMES["usage"]["emptyDir"]["sizeLimit"] == "512Mi"
    assert sections["usage"].max_bytes < 512 * 2**20


def test_the_backend_of_the_overlay_is_that_of_the_config(tmp_path: Path) -> None:
    deployment, service = documents(KUBERNETES / "overlays" / "llamacpp" / "backend.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (port,) = service["spec"]["ports"]
    (backend,) = shared_config(tmp_path).sections["backends"].values()
    (compose,) = documents(DEPLOY / "compose.yaml")

    assert backend.profile.base_url == f"http://{service['metadata']['name']}:{port['port']}/v1"
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert port["targetPort"] == container["ports"][0]["name"]
    assert container["args"] == compose["services"]["backend"]["command"]
    assert {each["mountPath"] for each in container["volumeMounts"]} == {"/models", SECRETS}
    assert {v["name"] for v in pod["volumes"]} == {v["name"] for v in container["volumeMounts"]}


def test_the_proxies_of_the_overlay_count_in_its_store() -> None:
    folder = KUBERNETES / "overlays" / "valkey"
    deployment, service, policy = documents(folder / "valkey.yaml")
    (kustomization,) = documents(folder / "kustomization.yaml")
    (port,) = service["spec"]["ports"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    url = f"valkey://{service['metadata']['name']}:{port['port']}"
    assert f'{{name: STORE_URL, value: "{url}"}}' in kustomization["patches"][0]["patch"]
    assert container["ports"] == [{"name": port["targetPort"], "containerPort": port["port"]}]
    assert labels == service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"]
    (rule,) = policy["spec"]["ingress"]
    (allowed,) = rule["from"]
    proxies = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert allowed["podSelector"]["matchLabels"] == proxies
