"""Every objective learns what it is for, logs what it says it logs, and resumes to the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine
from tasks.contracts.manifest import read_manifest
from tasks.fine_tuning.report import measure, write_report
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.shape import ModelShape
from tasks.training.objectives import OBJECTIVES
from tasks.training.objectives.objective import Objective
from tasks.training.plan import Plan
from tasks.training_setup.counts import count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.training.methods.test_contract import Interrupted, hash_folder, interrupt_at
from tests.tasks.training.objectives import rows

# What needs more than rows (a teacher, rewards), or rows or vectors of its own, has a test of its own.
ELSEWHERE = {
    "contrastive": "contrastive",
    "process_reward_model": "reward_models",
    "distillation": "distillation",
    "gkd": "gkd",
    "pretraining": "pretraining",
    "grpo": "reinforcement",
    "rloo": "reinforcement",
    "ppo": "reinforcement",
}
MEMBERS = [member() for member in OBJECTIVES if member().name not in ELSEWHERE]
EVERY = pytest.mark.parametrize("objective", MEMBERS, ids=[member.name for member in MEMBERS])
MACHINE = Machine(device="cpu", cores=1, memory_bytes=2**33, bf16=True)
METHODS: Mapping[str, dict[str, Any]] = {
    "lora": {"name": "lora", "rank": 4, "dropout": 0.1},
    "full": {"name": "full"},
}


def make_plan(objective: Objective, method: str, initial: Path, shape: ModelShape) -> tuple[Plan, Splits]:
    """Six steps on the tiny base, as setup plans them, and the items."""
    settings = TrainingSetup.model_validate(
        {
            "method": METHODS[method],
            "objective": objective.model_dump(),  # type: ignore[attr-defined]
            "packing": "bfd" if objective.can.packing else "none",
            "max_tokens": 96,
            "max_steps": 6,
            "batch_size": 2,
            "learning_rate": 1e-2 if method == "lora" else 2e-3,
            "precision": "fp32",
            "threads": 1,
            "checkpoint_every": {"steps": 4},
            "evaluate_every": {"steps": 3},
            "log_every_steps": 1,
        }
    )
    tables = rows.examples("train"), rows.examples("validation")
    counts = count_tokens(*tables, initial, settings.max_tokens, objective=settings.objective, answers=rows.answers())
    plan = resolve_plan(settings, shape, counts, MACHINE).plan
    splits = tokenize_splits(*tables, initial, 96, 8, objective=plan.objective, answers=rows.answers())
    assert (counts.examples, counts.tokens) == (len(splits.train), int(splits.train.offsets[-1]))
    # The machine of the tests may have less.
    return plan.model_copy(update={"predicted_memory_bytes": 2**20}), splits


def test_every_objective_is_tested() -> None:
    assert all(Path(__file__).with_name(f"test_{name}.py").is_file() for name in ELSEWHERE.values())
    assert {member().name for member in OBJECTIVES} == set(ELSEWHERE) | {member.name for member in MEMBERS}


@EVERY
def test_it_learns_and_goes_on_to_the_same_bytes(
    objective: Objective, initial: Path, shape: ModelShape, tmp_path: Path
) -> None:
    """With low rank and dropout whole and interrupted, and with all weights."""

    planned = {method: make_plan(objective, method, initial, shape) for method in METHODS}

    def run(method: str, folder: str, on_metrics: Any = None) -> Run:
        plan, splits = planned[method]
        places = tmp_path / folder / "checkpoints", tmp_path / folder / "tuned"
        found = fine_tune(plan, splits, initial, *places, on_metrics=on_metrics)
        figures = measure(found, splits)
        assert figures["validation_loss"] < figures["validation_loss_before"]
        return found

    whole = run("lora", "whole")
    with pytest.raises(Interrupted):
        run("lora", "halves", interrupt_at(5))
    halves = run("lora", "halves")
    assert (whole.resumed_at, halves.resumed_at) == (0, 4)
    assert whole.curve == halves.curve
    assert hash_folder(tmp_path / "whole/tuned") == hash_folder(tmp_path / "halves/tuned")
    assert read_manifest(tmp_path / "whole/tuned")["objective"]["name"] == objective.name
    write_report(whole, planned["lora"][1], *(tmp_path / name for name in ("curve", "page.html", "figures")))
    page = (tmp_path / "page.html").read_text()
    for found in (whole, run("full", "full")):
        trained = [point.figures for point in found.curve if point.loss is not None]
        validated = [point.figures for point in found.curve if point.eval_loss is not None]
        for name, meaning in objective.figures.items():
            assert any(name in figures for figures in trained), name
            assert all(math.isfinite(figures[f"eval_{name}"]) for figures in validated), name
            assert meaning in page
        if "accuracy" in objective.figures:
            assert validated[-1]["eval_margin"] > validated[0]["eval_margin"]
            # Some bases prefer the better answers already; against a reference it begins at one half.
            assert validated[-1]["eval_accuracy"] >= max(validated[0]["eval_accuracy"], 0.8)
        if "good_reward" in objective.figures:
            apart = [figures["eval_good_reward"] - figures["eval_bad_reward"] for figures in validated]
            assert apart[-1] > apart[0]


@EVERY
def test_rows_that_it_cannot_take_are_refused_with_what_fits(
    objective: Objective, initial: Path, shape: ModelShape
) -> None:
    """Of two tables one is empty; the plan says what the objective wants and which objectives what is there fits."""
    has_answers = objective.rows in ("pairs", "judged")
    tables = rows.examples("train").slice(0, 4), rows.examples("validation").slice(0, 2)
    if not has_answers:
        tables = tables[0].slice(0, 0), tables[1]
    settings = TrainingSetup.model_validate({"objective": objective.model_dump(), "max_tokens": 96})  # type: ignore[attr-defined]
    counts = count_tokens(*tables, initial, 96, objective=settings.objective)
    with pytest.raises(PipelineError) as caught:
        resolve_plan(settings.model_copy(update={"packing": "none"}), shape, counts, MACHINE)
    told = str(caught.value)
    if has_answers:
        assert f"objective: {objective.name} trains on " in told
        assert "fits objective supervised" in told
    else:
        assert "the training split is empty" in told


def test_params_of_dpo_that_cannot_work_and_others_that_mean_nothing_to_it(initial: Path, shape: ModelShape) -> None:
    """All at once, each with the next step."""
    settings = TrainingSetup.model_validate(
        {
            "objective": {"name": "dpo", "losses": ["exo_pair", "sft"], "weights": [1.0]},
            "loss": {"name": "focal"},
            "long_rows": "split",
            "max_tokens": 96,
        }
    )
    tables = rows.examples("train"), rows.examples("validation")
    counts = count_tokens(*tables, initial, 96, objective=settings.objective, answers=rows.answers())
    with pytest.raises(PipelineError) as caught:
        resolve_plan(settings, shape, counts, MACHINE)
    told = str(caught.value)
    assert "objective.weights: 1 for 2 losses; expected one each, or none" in told
    assert "label_smoothing: 0, of which loss exo_pair takes the logarithm; set 1.0e-3" in told
    assert "loss: focal means nothing to objective dpo, which has a loss of its own; leave it out" in told
    assert "long_rows: split would cut what objective dpo has to keep; set long_rows: truncate_right or drop" in told
