"""The manifests of ``infra/kubernetes``: each is what Kubernetes' schema allows, and together they are whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout import ROOT

FOLDER = ROOT / "infra/kubernetes"
KUBERNETES = "1.33"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
DOCUMENTS = [doc for name in KUSTOMIZATION["resources"] for doc in yaml.safe_load_all((FOLDER / name).read_text())]
COMPOSE = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
DOCS = (ROOT / "docs/operations.md").read_text()


def name_of(document: dict[str, Any]) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] == kind]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for deployment in of_kind("Deployment"):
        yield deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, pod in pods():
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            yield f"{name}/{container['name']}", container


def names_in(values: Any, key: str) -> Iterator[Any]:
    """All values of a key, at any depth."""
    if isinstance(values, dict):
        for name, value in values.items():
            if name == key:
                yield value
            yield from names_in(value, key)
    elif isinstance(values, list):
        for value in values:
            yield from names_in(value, key)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_manifest_is_what_kubernetes_takes(document: dict[str, Any]) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    assert schemas.validate(document, KUBERNETES, strict=True) == KUBERNETES


def test_all_files_are_in_the_kustomization() -> None:
    made = {file for each in KUSTOMIZATION["configMapGenerator"] for file in each.get("files", [])}
    listed = {"kustomization.yaml", *KUSTOMIZATION["resources"], *made}
    assert {path.name for path in FOLDER.iterdir()} == listed
    assert len({name_of(document) for document in DOCUMENTS}) == len(DOCUMENTS)
    images = {container["image"] for _, container in containers()}
    assert images == {image["name"] for image in KUSTOMIZATION["images"]}


def test_everything_that_is_named_is_there() -> None:
    maps = {each["name"] for each in KUSTOMIZATION["configMapGenerator"]}
    claims = {claim["metadata"]["name"] for claim in of_kind("PersistentVolumeClaim")}
    labels = [d["spec"]["template"]["metadata"]["labels"] for d in of_kind("Deployment")]
    for name, pod in pods():
        assert {found["name"] for found in names_in(pod, "configMapRef")} <= maps, name
        assert {found["name"] for found in names_in(pod, "configMap")} <= maps, name
        assert set(names_in(pod, "claimName")) <= claims, name
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounted = {mount["name"] for mounts in names_in(pod, "volumeMounts") for mount in mounts}
        assert mounted == volumes, name
    for selector in [d["spec"]["selector"]["matchLabels"] for d in of_kind("Deployment")]:
        assert selector in labels
    ports = {port["name"]: port["containerPort"] for _, c in containers() for port in c.get("ports", [])}
    for service in of_kind("Service"):
        assert service["spec"]["selector"] in labels
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for name, container in containers():
            if asked := container.get(probe, {}).get("httpGet"):
                assert asked["port"] in {port["name"] for port in container["ports"]}, name
    for found in [*names_in(DOCUMENTS, "secretKeyRef")]:
        assert f"secret generic {found['name']}" in DOCS
        assert f"--from-literal={found['key']}=" in DOCS
    for name in names_in(DOCUMENTS, "secretName"):
        assert f"secret generic {name}" in DOCS


def test_no_pod_may_do_more_than_it_needs() -> None:
    for name, pod in pods():
        assert pod["automountServiceAccountToken"] is False, name
        # Kubernetes would set MLFLOW_PORT and PREFECT_PORT, which the programs read.
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == 1000, name
    for name, container in containers():
        locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == locked, name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        assert "memory" in container["resources"]["limits"], name
        if name != "worker/fill-checkout":
            assert "livenessProbe" in container, name
        # The root file system is read-only.
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]} or name == "worker/fill-checkout"
    assert "useradd --uid 1000" in (ROOT / "infra/Dockerfile").read_text()


def test_the_pods_run_what_the_compose_file_runs() -> None:
    """Whose commands a test runs against a real PostgreSQL."""
    ours = {name.partition("/")[2]: container for name, container in containers()}
    flags = set(ours["mlflow"]["command"])
    said = {word.replace("--workers=1", "--workers=2") for word in COMPOSE["mlflow"]["command"]}
    # Addresses of databases and buckets come in variables.
    assert flags - {"mlflow"} == {word for word in said if "://" not in word and "-destination" not in word}
    assert ours["prefect"]["command"] == [*COMPOSE["prefect"]["entrypoint"], *COMPOSE["prefect"]["command"]]
    steps = [step.strip() for step in COMPOSE["worker"]["command"][0].split("&&")]
    assert [step.strip() for step in ours["worker"]["command"][2].split("&&")] == [
        *steps[:-1], f"{steps[-1]} --with-healthcheck",
    ]  # fmt: skip
    assert ours["gateway"]["args"] == COMPOSE["gateway"]["command"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What the image has where the checkout is."""
    folder = tmp_path / "image"
    for name in ("flows/run.py", "tasks/work.py", "data/raw/README.md", "models/base/config.json", ".dvc/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("first")
    for name in ("dvc.yaml", "prefect.yaml", ".dvcignore", "pyproject.toml", "params.yaml"):
        (folder / name).write_text("first")
    return folder


def fill(image: Path, checkout: Path) -> None:
    script = FOLDER / "fill_checkout.sh"
    subprocess.run(["sh", os.fspath(script), os.fspath(image), os.fspath(checkout)], check=True)


def test_a_new_image_brings_code_and_leaves_what_the_checkout_made(image: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "models.new/half").mkdir(parents=True)  # the first start was killed while it copied
    (checkout / "lost+found").mkdir()
    fill(image, checkout)
    assert {path.name for path in checkout.iterdir()} == {path.name for path in image.iterdir()} | {"lost+found"}
    assert not (checkout / "models/half").exists()
    (checkout / "params.yaml").write_text("ours")
    (checkout / "data/raw/rows.csv").write_text("ours")
    (image / "flows/run.py").rename(image / "flows/walk.py")
    (image / "params.yaml").write_text("second")
    fill(image, checkout)
    assert [path.name for path in (checkout / "flows").iterdir()] == ["walk.py"]
    assert (checkout / "params.yaml").read_text() == "ours"
    assert (checkout / "data/raw/rows.csv").read_text() == "ours"
