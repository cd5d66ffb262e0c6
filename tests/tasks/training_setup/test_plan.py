"""A plan survives its file, is the same bytes twice, and is refused on a machine it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine, find_machine
from tasks.contracts.plan import Plan, check_machine, load_plan
from tasks.contracts.records import EXAMPLES
from tasks.language_models.shape import ModelShape
from tasks.training_setup.counts import Counts, count_tokens
from tasks.training_setup.environment import fingerprint, read_environment
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.report import write_plan, write_report
from tasks.training_setup.resolve import Resolution, resolve_plan
from tasks.training_setup.schedule import learning_rate_at
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


def test_a_plan_of_another_version_is_refused(plan: Plan, initial: Path, tmp_path: Path) -> None:
    from tasks.contracts.manifest import seal, write_json

    content = plan.model_dump(mode="json")
    del content["seed"]
    write_json(tmp_path / "plan.json", {**content, "speed": 3})
    seal(tmp_path, [tmp_path / "plan.json"], {})
    with pytest.raises(PipelineError, match=r"does not fit this version \((seed, speed|speed, seed)\)"):
        load_plan(tmp_path)


def test_an_edited_plan_is_refused(initial: Path, shape: ModelShape, machine: Machine, tmp_path: Path) -> None:
    write_plan(resolve(initial, shape, machine)[0], read_environment(), initial, tmp_path)
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"seed": 17', '"seed": 18'))
    with pytest.raises(PipelineError, match="changed since it was written"):
        load_plan(tmp_path)


def test_the_machine_it_was_made_for_fits(plan: Plan, machine: Machine) -> None:
    assert check_machine(plan, machine) == []


@pytest.mark.parametrize(
    ("machine_changes", "plan_changes", "words"),
    [
        ({"device": "cuda", "accelerators": 1}, {}, "the plan is for cpu, this machine offers cuda"),
        ({"cores": 1}, {}, "2 CPU threads, this process may use 1 cores"),
        ({"memory_bytes": 2**20}, {}, "GiB, this machine has 0.0 GiB"),
        ({}, {"device": "cuda"}, "the plan is for cuda, this machine offers cpu"),
        (
            {"device": "cuda", "accelerators": 1, "accelerator_memory_bytes": 2**36},
            {"device": "cuda", "world_size": 2},
            "takes 2 accelerators, this machine has 1",
        ),
        (
            {"device": "cuda", "accelerators": 1, "accelerator_memory_bytes": 2**36, "bf16": False},
            {"device": "cuda"},
            "computes in bf16",
        ),
    ],
)
def test_another_machine_is_refused(
    plan: Plan, machine: Machine, machine_changes: dict[str, Any], plan_changes: dict[str, Any], words: str
) -> None:
    problems = check_machine(plan.model_copy(update=plan_changes), machine.model_copy(update=machine_changes))
    assert len(problems) == 1
    assert words in problems[0]
    assert "training_setup" in problems[0]


def test_a_machine_is_the_same_on_every_look() -> None:
    here = find_machine()
    assert here == find_machine()
    assert here.cores >= 1
    assert here.memory_bytes > 2**28
    assert here.training_memory_bytes > 0


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_curve_is_the_scheduler_s(plan: Plan, schedule: str) -> None:
    import torch
    from transformers import get_scheduler

    changed = plan.model_copy(update={"schedule": schedule, "steps": 40, "warmup_steps": 7})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=changed.learning_rate)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=7, num_training_steps=40)
    for step in range(40):
        assert learning_rate_at(changed, step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_the_fingerprint_follows_versions_and_nothing_else() -> None:
    environment = read_environment()
    assert set(environment) >= {"python", "torch", "transformers", "trl", "peft"}
    assert fingerprint(environment) == fingerprint(dict(reversed(environment.items())))
    assert fingerprint(environment) != fingerprint({**environment, "trl": "0"})
