"""The repository tests itself: stage names, paths, pins, the README's tree and commands, the servers' files."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import yaml
from packaging.version import Version

from flows.pipeline import STAGES
from flows.wiring import artifacts
from flows.wiring.params import Params, read_params
from tasks.pages.stages import STAGE_TITLES
from tests.checkout import ROOT

DVC_FILE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
DVC = DVC_FILE["stages"]
README = (ROOT / "README.md").read_text()


def outs(name: str) -> set[str]:
    stage = DVC[name]
    listed = [*stage["outs"], *stage.get("metrics", [])]
    return {next(iter(item)) if isinstance(item, dict) else item for item in listed}


def test_a_stage_has_one_name_everywhere() -> None:
    assert tuple(DVC) == STAGES == tuple(Params.model_fields)[: len(STAGES)] == tuple(STAGE_TITLES)
    for name in STAGES:
        assert DVC[name]["cmd"] == f"python -m flows.{name}"
        assert (ROOT / f"flows/{name}.py").is_file()
        assert (ROOT / f"tasks/{name}/params.py").is_file()
        assert (ROOT / f"tests/tasks/{name}").is_dir()
        assert {f"flows/{name}.py", f"tasks/{name}", "tasks/contracts"} <= set(DVC[name]["deps"])
        assert {str(artifacts.report(name)), str(artifacts.metrics(name))} <= outs(name)
        assert all(section.split(".")[0] == name for section in DVC[name]["params"])


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("flows", "tasks", cache_dir=None, exclude_type_checking_imports=True)


@pytest.mark.parametrize("name", STAGES)
def test_the_code_of_a_stage_is_among_its_deps(imports: grimp.ImportGraph, name: str) -> None:
    found: set[str] = set()
    ahead = {f"flows.{name}", f"tasks.{name}.params"}
    while ahead:
        found |= ahead
        ahead = {m for one in ahead for m in imports.find_modules_directly_imported_by(one)} - found
        ahead = {module for module in ahead if module.startswith("tasks.")}
    folders = {f"{module.replace('.', '/')}/" for module in found if module.startswith("tasks.")}
    code = tuple(f"{dep.removesuffix('.py')}/" for dep in DVC[name]["deps"] if dep.startswith("tasks/"))
    assert [folder for folder in sorted(folders) if not folder.startswith(code)] == []
    unused = [dep for dep in code if not any(folder.startswith(dep) for folder in folders)]
    assert unused == [], f"{name} does not run them"


def test_models_that_training_reads_are_among_its_deps() -> None:
    for folder in (artifacts.REWARD, artifacts.TEACHER):
        assert (ROOT / folder / "README.md").is_file()
        assert all(str(folder) in DVC[name]["deps"] for name in ("training_setup", "fine_tuning"))


HEAVY = (
    "torch", "transformers", "peft", "trl", "datasets", "great_expectations", "evidently", "matplotlib", "pandas",
    "sklearn", "scipy",
)  # fmt: skip


def test_starting_a_stage_imports_nothing_heavy() -> None:
    # One process for all: a stage that imports nothing heavy leaves nothing for the next one to find.
    code = "\n".join(
        f"import flows.{name}; print({name!r}, *sorted({set(HEAVY)!r} & sys.modules.keys()))" for name in STAGES
    )
    lines = subprocess.check_output([sys.executable, "-c", f"import sys\n{code}"], cwd=ROOT, text=True).splitlines()
    assert lines == list(STAGES)


def test_artifacts_and_dvc_name_the_same_paths() -> None:
    every = set().union(*(outs(name) for name in STAGES)) | {d for s in DVC.values() for d in s["deps"]}
    constants = {str(v) for v in vars(artifacts).values() if isinstance(v, Path)}
    made = {p for p in every if p.startswith(("data/", "models/", "reports/"))}
    per_stage = {str(f(n)) for n in STAGES for f in (artifacts.report, artifacts.metrics, artifacts.headline)}
    inside = {path for path in made if any(path.startswith(f"{c}/") for c in constants)}
    assert made - constants - per_stage - inside == set()


def test_what_dvc_plots_is_an_out() -> None:
    plotted = {path for plot in DVC_FILE["plots"] for about in plot.values() for path in about["y"]}
    assert plotted <= set().union(*(outs(name) for name in STAGES))
    templates = {path.stem for path in (ROOT / ".dvc/plots").glob("*.json")}
    assert {about["template"] for plot in DVC_FILE["plots"] for about in plot.values()} - {"simple"} == templates


def test_the_params_file_is_valid_and_names_every_section() -> None:
    assert isinstance(read_params(ROOT / "params.yaml"), Params)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert tuple(values) == STAGES
    for name in STAGES:
        for key in DVC[name]["params"]:
            node = values
            for part in key.split("."):
                assert part in node, f"params.yaml lacks {key}, which DVC watches"
                node = node[part]


@pytest.mark.parametrize(
    ("package", "below"),
    [("fastapi", "0.151"), ("sqlalchemy", "2.1"), ("pandas", "3.1"), ("prefect", "3.9")],
)
def test_releases_that_break_are_kept_out(package: str, below: str) -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {name.lower(): version for name, version in pins.items()}[package]
    assert Version(pinned) < Version(below)
    assert Version(importlib.metadata.version(package)) < Version(below)
    assert f"{package}>=" in (ROOT / "pyproject.toml").read_text()
    assert f"<{below}" in (ROOT / "pyproject.toml").read_text()


def test_torch_is_pinned_to_one_build() -> None:
    assert "\ntorch==2.13.0\n" in (ROOT / "constraints.txt").read_text()


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)


def test_the_reference_is_what_the_params_and_commands_say() -> None:
    check = subprocess.run(
        [sys.executable, "docs/make_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda p: p.name)
def test_the_links_of_the_docs_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, place = target.partition("#")
        if "://" in name:
            continue
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if place:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert place in {to_anchor(heading) for heading in headings}, f"{page.name} links to {target}"


def to_anchor(heading: str) -> str:
    """The address that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_troubleshooting_quotes_messages_that_exist() -> None:
    code = "".join(path.read_text() for folder in ("flows", "tasks") for path in (ROOT / folder).rglob("*.py"))
    # Literals that follow one another are one message.
    code = re.sub(r'"\s+f?"', "", code)
    rows = re.findall(r"^\| ([^|]*) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    quoted = [part for row in rows for text in re.findall(r"`([^`]+)`", row) for part in text.split("…")]
    assert quoted
    assert [part for part in quoted if part.strip(" ;") and part.strip() not in code] == []


def test_cleaning_leaves_what_is_committed(tmp_path: Path) -> None:
    committed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for path in committed:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)
    assert [path for path in committed if not (tmp_path / path).is_file()] == []


def test_a_class_name_means_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for path in (path for folder in ("flows", "tasks") for path in sorted((ROOT / folder).rglob("*.py"))):
        for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_readme_tree_is_there() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    folder = Path()
    for line in tree.strip().splitlines():
        name = line.split()[0]
        if "<" in name:
            continue
        path = folder / name if line.startswith(" ") else Path(name)
        if name.endswith("/") and not line.startswith(" "):
            folder = Path(name)
        assert (ROOT / path).exists(), f"README's tree names {path}, which is not there"


def test_deployments_name_flows_that_exist() -> None:
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        path, name = deployment["entrypoint"].split(":")
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), deployment["entrypoint"]


def test_compose_is_whole() -> None:
    compose = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())
    services = compose["services"]
    assert {"postgres", "prefect", "worker", "mlflow", "gateway", "prometheus"} <= set(services)
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = source in compose["volumes"] or (ROOT / "infra" / source).exists()
            assert known, f"{name} mounts {source}"
    targets = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yaml").read_text())["scrape_configs"]
    assert all(t.split(":")[0] in services for job in targets for c in job["static_configs"] for t in c["targets"])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_deepspeed_files_ask_for_their_level(level: int) -> None:
    settings = json.loads((ROOT / f"infra/deepspeed/zero{level}.json").read_text())
    assert settings["zero_optimization"]["stage"] == level
    assert settings["zero_allow_untested_optimizer"] is True
