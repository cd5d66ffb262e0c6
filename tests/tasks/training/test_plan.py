"""A plan of another version, an edited one, and one for another machine are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine
from tasks.contracts.manifest import seal, write_json
from tasks.training.plan import NAME, check_machine, load_plan
from tests.tasks.fine_tuning.small import make_plan

MACHINE = Machine(device="cpu", cores=2, memory_bytes=8 * 2**30, bf16=True)
PLAN = make_plan(threads=2, precision="bf16", predicted_memory_bytes=2**30, made_for=MACHINE)


def write(folder: Path, values: dict[str, Any]) -> Path:
    write_json(folder / NAME, values)
    seal(folder, [folder / NAME], {})
    return folder / NAME


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    write(tmp_path, PLAN.model_dump(mode="json"))
    assert load_plan(tmp_path) == PLAN


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    values = PLAN.model_dump(mode="json")
    del values["seed"]
    write(tmp_path, {**values, "speed": 3})
    with pytest.raises(PipelineError, match=r"does not fit this version \((seed, speed|speed, seed)\)"):
        load_plan(tmp_path)


def test_an_edited_plan_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.model_dump(mode="json"))
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(PipelineError, match="changed since it was written"):
        load_plan(tmp_path)


def test_the_machine_it_was_made_for_fits() -> None:
    assert check_machine(PLAN, MACHINE) == []


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
def test_another_machine_is_refused(machine_changes: dict[str, Any], plan_changes: dict[str, Any], words: str) -> None:
    problems = check_machine(PLAN.model_copy(update=plan_changes), MACHINE.model_copy(update=machine_changes))
    assert len(problems) == 1
    assert words in problems[0]
    assert "training_setup" in problems[0]
