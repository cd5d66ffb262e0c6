"""Two ranks draw the same rows, answers and negatives as one process with as many batches a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.training.objectives.rollouts.samples_file import list_steps, read_samples
from tests.tasks.fine_tuning.small import make_plan
from tests.tiny import example_rows

pytestmark = pytest.mark.slow

PLANS: dict[str, dict[str, Any]] = {
    "mixture": {"objective": {"name": "supervised"}, "mixture": {"temperature": 2.0}},
    "distillation": {"objective": {"name": "distillation"}},
    "gkd": {"objective": {"name": "gkd", "on_policy": 0.5, "answers": {"max_new_tokens": 5}}},
    "contrastive": {"objective": {"name": "contrastive", "negatives": {"source": "mined", "count": 2}}},
}


def table(rows: int, seed: int) -> pa.Table:
    """Most rows of one source, a few of another."""
    found = example_rows(rows, seed, "large") + example_rows(4, seed + 1, "small")
    return pa.Table.from_pylist(found, schema=EXAMPLES)


@pytest.mark.parametrize("name", PLANS)
def test_two_ranks_learn_as_one_process(name: str, initial: Path, teacher: Path, tmp_path: Path) -> None:
    values = {**PLANS[name]}
    if name in ("distillation", "gkd"):
        values["objective"] = {**values["objective"], "teacher": str(teacher)}

    def train(folder: str, **changes: Any) -> tuple[Run, Path]:
        # Without AdamW, whose first step is as large for a gradient of rounding as for any other.
        plan = make_plan(
            **values, **changes, method={"name": "full"}, optimizer={"name": "sgd"}, learning_rate=0.05,
            warmup_steps=0, batch_size=4, steps=6, log_every_steps=1, evaluate_every_steps=6, checkpoint_every_steps=6,
        )  # fmt: skip
        splits = tokenize_splits(
            table(20, 0), table(8, 100), initial, 128, 12, objective=plan.objective, mixture=plan.mixture
        )
        run = fine_tune(plan, splits, initial, tmp_path / folder, tmp_path / f"{folder}-tuned")
        (checkpoints,) = (tmp_path / folder).iterdir()
        return run, checkpoints

    alone, own = train("alone", accumulation_steps=2)
    ranks, shared = train("ranks", world_size=2, distribution={"name": "ddp"})
    for one, other in zip(alone.curve, ranks.curve, strict=True):
        assert one.figures == pytest.approx(other.figures, abs=1e-5)
        assert (one.loss or 0) == pytest.approx(other.loss or 0, abs=1e-5)
        assert (one.eval_loss or 0) == pytest.approx(other.eval_loss or 0, abs=1e-5)
    assert list_steps(own) == list_steps(shared)
    assert bool(list_steps(own)) == (name == "gkd")
    for step in list_steps(own):
        first, second = (read_samples(folder, step).sort_by("row") for folder in (own, shared))
        assert first["answer"].to_pylist() == second["answer"].to_pylist()
