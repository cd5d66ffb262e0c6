"""A plan survives its file and is the same bytes twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.contracts.machine import Machine, find_machine
from tasks.contracts.records import EXAMPLES
from tasks.language_models.folder.shape import ModelShape
from tasks.training.plan import Plan, load_plan
from tasks.training_setup.counts import Counts, count_tokens
from tasks.training_setup.environment import fingerprint, read_environment
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.report import write_plan, write_report
from tasks.training_setup.resolve import Resolution, resolve_plan
from tests.tiny import example_rows


def resolve(initial: Path, shape: ModelShape, machine: Machine, **changes: Any) -> tuple[Resolution, Counts]:
    settings = TrainingSetup.model_validate({"max_tokens": 128, **changes})
    train = pa.Table.from_pylist(example_rows(200), schema=EXAMPLES)
    counts = count_tokens(train, train.slice(0, 20), initial, settings.max_tokens)
    return resolve_plan(settings, shape, counts, machine), counts


@pytest.fixture
def plan(initial: Path, shape: ModelShape, machine: Machine) -> Plan:
    return resolve(initial, shape, machine)[0].plan


@pytest.mark.parametrize("method", [{"name": "lora", "rank": 4, "rslora": True}, {"name": "full"}])
def test_a_plan_survives_its_file(
    initial: Path, shape: ModelShape, machine: Machine, tmp_path: Path, method: dict[str, Any]
) -> None:
    found, _ = resolve(initial, shape, machine, method=method)
    write_plan(found, read_environment(), initial, tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == found.plan


def test_two_runs_write_the_same_bytes(initial: Path, shape: ModelShape, machine: Machine, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        found, counts = resolve(initial, shape, machine)
        environment, folder = read_environment(), tmp_path / name
        write_plan(found, environment, initial, folder / "plan")
        figures = write_report(found, shape, counts, environment, folder / "index.html", folder / "metrics.json")
        assert json.loads((folder / "metrics.json").read_text()) == figures
        written.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert written[0] == written[1]
    assert len(written[0]) == 4
    assert written[0][Path("index.html")].count(b"<svg") == 3


def test_a_machine_is_the_same_on_every_look() -> None:
    here = find_machine()
    assert here == find_machine()
    assert here.cores >= 1
    assert here.memory_bytes > 2**28
    assert here.training_memory_bytes > 0


def test_the_fingerprint_follows_versions_and_nothing_else() -> None:
    environment = read_environment()
    assert set(environment) >= {"python", "torch", "transformers", "trl", "peft"}
    assert fingerprint(environment) == fingerprint(dict(reversed(environment.items())))
    assert fingerprint(environment) != fingerprint({**environment, "trl": "0"})


def test_what_deepspeed_gets_is_in_the_folder_and_on_the_page(
    initial: Path, shape: ModelShape, machine: Machine, tmp_path: Path
) -> None:
    shared = {"processes": 2, "distribution": {"name": "zero", "stage": 3}}
    found, counts = resolve(initial, shape, machine, **shared)
    environment = read_environment()
    write_plan(found, environment, initial, tmp_path / "plan")
    plan = load_plan(tmp_path / "plan")
    assert plan == found.plan
    assert json.loads((tmp_path / "plan/deepspeed.json").read_text()) == plan.distribution.config  # type: ignore[union-attr]
    write_report(found, shape, counts, environment, tmp_path / "index.html", tmp_path / "metrics.json")
    page = (tmp_path / "index.html").read_text().replace("<wbr>", "")
    assert "shares of optimizer states, gradients and weights (ZeRO-3)" in page
    assert "zero_optimization.stage3_param_persistence_threshold" in page
