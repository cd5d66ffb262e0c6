"""Objectives that learn by rewards learn a task with a known optimum, and resume in the midst of a rollout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from safetensors.torch import load_file

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine
from tasks.contracts.manifest import hash_folder
from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.report import measure, write_report
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.shape import ModelShape
from tasks.training.objectives.rollouts.samples_file import list_steps, read_samples
from tasks.training.plan import Plan
from tasks.training.tuned import load_tuned
from tasks.training_setup.counts import count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.training.objectives.toy import ROLLOUT, UNGUARDED, make_toy_plan, make_toy_splits
from tests.tiny import example_rows

FULL: dict[str, Any] = {"method": {"name": "full"}, "learning_rate": 6e-3}
LORA: dict[str, Any] = {"method": {"name": "lora", "rank": 8, "dropout": 0.1}, "learning_rate": 1e-2}
OBJECTIVES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo": ({"name": "grpo", "kl_weight": 0.001, "resample": 1}, FULL),
    "rloo": ({"name": "rloo", "kl_weight": 0.001}, FULL),
    "ppo": ({"name": "ppo", "kl_weight": 0.001}, FULL),
    "ppo with a value model": ({"name": "ppo", "kl_weight": 0.001, "value": "own"}, FULL),
    # Over frozen random embeddings an adapter moves little, so only what it resumes to is looked at.
    "lora": ({"name": "ppo"}, LORA),
}
STEPS, CHECKPOINT = 24, 11  # the checkpoint is in the midst of a rollout, each of which serves two steps


class Interrupted(Exception):
    """What stands for a kill."""


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_learns_and_resumes_to_the_same_bytes(name: str, initial: Path, tmp_path: Path) -> None:
    objective, changes = OBJECTIVES[name]
    plan = make_toy_plan(
        objective,
        {"updates": 2, "samples": 8},
        steps=STEPS,
        checkpoint_every_steps=CHECKPOINT,
        evaluate_every_steps=STEPS,
        **changes,
    )
    splits = make_toy_splits(initial, plan)

    def run(folder: Path, until: int | None = None) -> Run:
        def stop(step: int, _: Mapping[str, float]) -> None:
            if until is not None and step > until:
                raise Interrupted

        return fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned", on_metrics=stop)

    whole = run(tmp_path / "whole")
    drawn = [point.figures["reward"] for point in whole.curve if "reward" in point.figures]
    # 256 answers at each end, whose mean has a standard error of 0.015.
    assert name == "lora" or sum(drawn[-8:]) / 8 > sum(drawn[:8]) / 8 + 0.06, "it has not learned"
    validated = whole.curve[-1].figures["eval_reward"]
    assert validated == -whole.curve[-1].eval_loss  # type: ignore[operator]
    # One answer to a prompt is neither worth the same as others nor not.
    assert not any("eval_flat" in point.figures for point in whole.curve)
    with pytest.raises(Interrupted):
        run(tmp_path / "halves", until=CHECKPOINT + 2)
    halves = run(tmp_path / "halves")
    assert halves.resumed_at == CHECKPOINT
    assert halves.curve == whole.curve
    assert hash_folder(tmp_path / "halves/tuned") == hash_folder(tmp_path / "whole/tuned")
    assert halves.samples == whole.samples
    # Nothing of the training is left in the model, which opens as any other.
    names = [key for file in (tmp_path / "whole/tuned").rglob("*.safetensors") for key in load_file(file)]
    assert names
    assert not [key for key in names if "value_" in key]
    load_tuned(initial, tmp_path / "whole/tuned")
    # Every answer of every rollout is there, and the page shows some.
    (folder,) = (tmp_path / "whole/checkpoints").glob("*")
    assert list_steps(folder) == list(range(1, STEPS + 1, 2))
    assert read_samples(folder, 1).num_rows == plan.batch_size * 8
    assert measure(whole, splits)["validation_reward"] == validated
    if name == "ppo with a value model":  # of all it has the most figures to draw
        write_report(whole, splits, tmp_path / "curve.json", tmp_path / "index.html", tmp_path / "metrics.json")
        page = (tmp_path / "index.html").read_text()
        assert "Answers while it was trained" in page
        assert "(minus the mean reward)" in page
        assert "In validation minus the mean reward;" in page


def test_a_training_that_no_longer_learns_is_stopped(initial: Path, tmp_path: Path) -> None:
    flat = {"rewards": [{"name": "length", "at_least": 0}]}
    plan = make_toy_plan({"name": "grpo", "guards": {"patience": 3, "most_unfinished": None}}, flat, steps=9)
    with pytest.raises(
        PipelineError, match=r"step 3: collapse: flat is 1 of the prompts, above objective\.guards\.most_flat"
    ):
        fine_tune(plan, make_toy_splits(initial, plan), initial, tmp_path / "checkpoints", tmp_path / "tuned")


COLLAPSES = {
    "least_entropy": ({"name": "rloo", "kl_weight": 0}, 100.0, "entropy is"),
    "most_kl": ({"name": "ppo", "kl_weight": 0.001}, 1e-6, "kl is"),
    "least_tokens": ({"name": "grpo"}, 50.0, "answer_tokens is"),
    "most_unfinished": ({"name": "ppo", "value": "own"}, 0.001, "unfinished is"),
}


@pytest.mark.parametrize("guard", COLLAPSES)
def test_each_sign_of_a_collapse_stops_a_training_with_its_reason(guard: str, initial: Path, tmp_path: Path) -> None:
    objective, limit, figure = COLLAPSES[guard]
    plan = make_toy_plan(
        {**objective, "guards": {**UNGUARDED, "patience": 2, "most_flat": None, guard: limit}}, steps=6
    )
    with pytest.raises(PipelineError, match=rf"collapse: {figure} .*objective\.guards\.{guard}.*2 steps in a row; \w"):
        fine_tune(plan, make_toy_splits(initial, plan), initial, tmp_path / "checkpoints", tmp_path / "tuned")


MISBEHAVING = {
    "throws": ("return [1 / 0 for _ in answers]", "raised ZeroDivisionError: division by zero"),
    "hangs": ("while True: pass", "took longer than 0.5 s and was ended"),
    "no number": ("return [float('nan')] * len(answers)", "found nan for row "),
    "too few": ("return [1.0]", "1 values for "),
}


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_reward_that_misbehaves_stops_a_training_with_the_reward_and_the_row(
    name: str, initial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body, told = MISBEHAVING[name]
    Path("own.py").write_text(f"def f(answers):\n    {body}\n")
    reward = {"name": "function", "path": "own.py", "function": "f", "timeout_s": 0.5}
    plan = make_toy_plan({"name": "grpo"}, {"rewards": [reward]}, steps=2)
    with pytest.raises(PipelineError) as caught:
        fine_tune(plan, make_toy_splits(initial, plan), initial, tmp_path / "checkpoints", tmp_path / "tuned")
    assert told in str(caught.value)
    assert "row" in str(caught.value)
    assert not (tmp_path / "tuned").exists()


def test_the_plan_counts_the_answers_and_refuses_what_cannot_work(initial: Path, shape: ModelShape) -> None:
    machine = Machine(device="cpu", cores=1, memory_bytes=8 << 30, bf16=False)
    rows = pa.Table.from_pylist(example_rows(40), schema=EXAMPLES)

    def resolve(**settings: Any) -> Plan:
        params = TrainingSetup.model_validate(
            {"method": {"name": "full"}, "packing": "none", "max_tokens": 128, "batch_size": 2, **settings}
        )
        counts = count_tokens(rows, rows, initial, params.max_tokens, params.long_rows, params.objective)
        return resolve_plan(params, shape, counts, machine).plan

    supervised = resolve(max_steps=5)
    objective = {"name": "ppo", "rollout": ROLLOUT}
    plan = resolve(objective=objective, max_steps=5)
    assert plan.divergence is None
    assert plan.tokens == 4 * (sum(plan_prompt_tokens(initial, plan)) + 40 * 3)
    assert plan.trainable_parameters == supervised.trainable_parameters + shape.hidden + 1
    assert plan.predicted_memory_bytes > supervised.predicted_memory_bytes
    own = resolve(objective={**objective, "value": "own"}, max_steps=5)
    assert own.trainable_parameters == 2 * supervised.trainable_parameters + shape.hidden + 1
    assert own.predicted_memory_bytes > plan.predicted_memory_bytes + 20 * supervised.trainable_parameters
    with pytest.raises(PipelineError, match="a copy of the base's weights, which few bits do not allow"):
        resolve(objective={**objective, "value": "own"}, method={"name": "lora"}, quantization={"name": "nf4"})
    with pytest.raises(PipelineError) as error:
        resolve(objective=objective, packing="bfd")
    assert "packing: bfd, with objective ppo" in str(error.value)
    with pytest.raises(PipelineError, match=r"max_new_tokens: 256 of max_tokens \(128\)"):
        resolve(objective={"name": "rloo", "rollout": {"max_new_tokens": 256}})


def plan_prompt_tokens(initial: Path, plan: Plan) -> list[int]:
    return make_toy_splits(initial, plan).train.lengths.tolist()


@pytest.mark.slow
def test_two_ranks_draw_and_learn_as_one_process(initial: Path, tmp_path: Path) -> None:
    def train(name: str, **changes: Any) -> tuple[Run, Path]:
        plan = make_toy_plan(
            {"name": "ppo", "kl_weight": 0.01},
            {"samples": 2},
            steps=3,
            # Without AdamW, whose first step is as large for a gradient of rounding as for any other.
            optimizer={"name": "sgd"},
            learning_rate=0.1,
            made_for=Machine(device="cpu", cores=2, memory_bytes=1 << 30, bf16=True),
            **changes,
        )
        splits = make_toy_splits(initial, plan)
        run = fine_tune(plan, splits, initial, tmp_path / name, tmp_path / f"{name}-tuned")
        (folder,) = (path for path in (tmp_path / name).iterdir() if (path / "samples").is_dir())
        return run, folder

    alone, own = train("alone", batch_size=2, accumulation_steps=2)
    ranks, shared = train("ranks", batch_size=2, world_size=2, distribution={"name": "ddp"})
    order = [("row", "ascending"), ("number", "ascending")]
    for step in (1, 2, 3):
        first, second = (read_samples(folder, step).sort_by(order) for folder in (own, shared))
        assert first["answer"].to_pylist() == second["answer"].to_pylist()
        assert first["advantage"].to_pylist() == pytest.approx(second["advantage"].to_pylist(), abs=1e-5)
    for one, other in zip(alone.curve, ranks.curve, strict=True):
        assert one.figures == pytest.approx(other.figures, abs=1e-5)
        assert (one.loss or 0) == pytest.approx(other.loss or 0, abs=1e-5)
