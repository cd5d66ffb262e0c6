"""``heptune doctor`` finds what is wrong and nothing where all is well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.commands.doctor.checks import CHECKS, ports, variables
from flows.commands.doctor.command import examine, name_of, read_params_if_valid
from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring.params import read_params
from tasks.contracts.machine import Machine
from tests.checkout import ROOT
from tests.flows.doctor.faults import FAULTS, Sickbed, make_base

GIB = 2**30


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without a fault, to be copied."""
    root = tmp_path_factory.mktemp("doctor") / "checkout"
    models = ("models/judges", "models/reward", "models/teacher")
    for folder in ("data/raw", "data/suites", "data/production", *models, "reports", ".dvc"):
        (root / folder).mkdir(parents=True)
    frozen = [f"models/{path.name}" for path in (ROOT / "models").glob("*.json")]
    for name in ("params.yaml", "dvc.yaml", "pyproject.toml", *frozen):
        shutil.copy(ROOT / name, root / name)
    for name in ("flows", "tasks"):
        (root / name).symlink_to(ROOT / name)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    make_base(root / "models/base")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


@pytest.fixture
def bed(well: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sickbed]:
    """A copy of the checkout as the current folder, on a machine without a fault."""
    root = tmp_path / "checkout"
    shutil.copytree(well, root, symlinks=True)
    system, site = tmp_path / "system", tmp_path / "site"
    (system / "dev/shm").mkdir(parents=True)
    (site / "bin").mkdir(parents=True)
    monkeypatch.chdir(root)
    ours = (*variables.LAUNCH, *variables.ENGINES, *variables.RUNS, *variables.SLOW, *variables.FOLDERS)
    more = (*variables.PROXIES, "NO_PROXY", "no_proxy", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HEPTUNE_STORE_URL")
    for name in (*ours, *more, "PREFECT_API_URL", "CUDA_VISIBLE_DEVICES", variables.OWNER, variables.LEADER):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / '.heptune/mlflow.db'}")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.syspath_prepend(str(site))
    machine = Machine(device="cpu", cores=2, memory_bytes=16 * GIB, bf16=True)
    monkeypatch.setattr(os, "cpu_count", lambda: machine.cores)
    sick = Sickbed(monkeypatch, system, site, machine)
    monkeypatch.setattr(ports, "PORTS", {sick.free_port(): option for option in ports.PORTS.values()})
    sick.free()
    read_params.cache_clear()
    yield sick
    for one in sick.open:
        one.close()
    read_params.cache_clear()


def findings(bed: Sickbed) -> list[tuple[str, Finding]]:
    read_params.cache_clear()
    return examine(Surroundings(machine=bed.machine, params=read_params_if_valid(), system=bed.system))


def test_nothing_is_found_where_all_is_well(bed: Sickbed) -> None:
    assert [str(finding) for _, finding in findings(bed)] == []


def test_a_build_that_goes_on_keeps_its_lock(bed: Sickbed) -> None:
    with bed.write(os.environ["TORCH_EXTENSIONS_DIR"] + "/deepspeed_shm_comm/lock").open():
        assert [str(finding) for _, finding in findings(bed)] == []


def test_there_are_enough_faults() -> None:
    assert len(FAULTS) >= 40
    assert {check for _, check, _ in FAULTS.values()} == {name_of(check) for check in CHECKS}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(bed: Sickbed, name: str) -> None:
    plant, check, word = FAULTS[name]
    plant(bed)
    found = [finding for of, finding in findings(bed) if of == check and word in str(finding)]
    assert found, [str(one) for one in findings(bed)]
    assert found[0].severity in ("error", "warning")
    assert all(part and part == part.strip() and "\n" not in part for part in (found[0].place, found[0].found))
    assert found[0].fix
    assert not found[0].fix.endswith(".")
