"""Rows are drawn by task, in rows and batches that follow from lengths, plan and seed; losses are kept by task."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.contracts.balance import Balance
from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.loss.batches import order_batches, validation_batches
from tasks.fine_tuning.origin import hash_rows
from tasks.fine_tuning.report import write_report
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.training.mixture import Mixture, drawing
from tasks.training_setup.counts import count_tokens
from tests.tasks.fine_tuning.small import make_plan
from tests.tasks.training.objectives.halves import run_whole_and_halves
from tests.tiny import example_rows

MIXTURE = Mixture(temperature=2)


def tables() -> tuple[pa.Table, pa.Table]:
    """36 rows of one source and 4 of another to train on, 6 and 2 to validate."""

    def table(large: int, small: int, seed: int) -> pa.Table:
        rows = example_rows(large, seed, "large") + example_rows(small, seed + 1, "small")
        return pa.Table.from_pylist(rows, schema=EXAMPLES)

    return table(36, 4, 0), table(6, 2, 100)


def splits_of(initial: Path, mixture: Mixture | None = MIXTURE) -> Splits:
    return tokenize_splits(*tables(), initial, 128, 8, mixture=mixture)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_an_epoch_has_its_share_of_each_task(initial: Path, packed: bool) -> None:
    rows = splits_of(initial).train
    assert rows.tasks is not None
    # 36 and 4 rows at temperature 2 are drawn 6 to 2.
    counts = count_tokens(*tables(), initial, 128, mixture=MIXTURE, seed=3)
    assert counts.tasks == {"large": 36, "small": 4}
    assert counts.first_epoch is not None
    lengths, draw = rows.lengths.tolist(), drawing(rows, MIXTURE, 3)
    assert draw is not None
    assert [lengths[row] for row in draw(0)] == counts.first_epoch

    def batches() -> Any:
        return order_batches(lengths, packed, 128, 2, 3, draw=draw)

    seen: list[int] = []
    for batch in batches():
        seen += [item for row in batch for item in row]
        if len(seen) >= 40:
            break
    assert sorted(seen) == sorted(draw(0).tolist())
    assert np.bincount(rows.tasks[seen]).tolist() == [30, 10]
    again = list(islice(batches(), 60))
    assert again == list(islice(batches(), 60))


def test_validation_batches_are_of_one_task_and_have_every_row_once() -> None:
    tasks = np.array([0, 1, 0, 1, 1, 0])
    batches = validation_batches([5, 9, 7, 3, 4, 6], 16, tasks)
    assert sorted(item for batch in batches for (item,) in batch) == list(range(6))
    assert all(len({int(tasks[item]) for (item,) in batch}) == 1 for batch in batches)


def test_losses_are_kept_by_task_and_a_run_resumes_to_the_same_bytes(initial: Path, tmp_path: Path) -> None:
    # More steps than an epoch has, so that the checkpoint stands in the second one.
    plan = make_plan(
        mixture=MIXTURE, steps=14, evaluate_every_steps=7, checkpoint_every_steps=11, log_every_steps=1, batch_size=4
    )
    splits = splits_of(initial)
    run = run_whole_and_halves(plan, splits, initial, tmp_path, until=13, checkpoint=11)
    last = run.curve[-1]
    assert last.eval_loss is not None
    tokens = [0, 0]
    for task, labels in zip(splits.validation.tasks, map(splits.validation.row, range(8)), strict=True):  # type: ignore[arg-type]
        tokens[task] += int((labels[1] != -100).sum())
    each = [last.figures["eval_loss_of_large"], last.figures["eval_loss_of_small"]]
    assert np.average(each, weights=tokens) == pytest.approx(last.eval_loss, rel=1e-6)
    page = tmp_path / "index.html"
    figures = write_report(run, splits, tmp_path / "curve.json", page, tmp_path / "metrics.json")
    assert figures["validation_loss_of_small"] == each[1]
    assert "Validation loss by task" in page.read_text(encoding="utf-8")


def test_other_tasks_are_another_run_and_classes_do_not_mix(initial: Path) -> None:
    assert hash_rows(splits_of(initial).train) != hash_rows(splits_of(initial, None).train)
    balance = Balance.model_validate(
        {"weighting": "none", "batches": "stratified", "classes": ["late_fee"], "weights": None, "costs": None}
        | {"before": {}, "after": {}, "vectors": None}
    )
    with pytest.raises(PipelineError, match="leave one of them out"):
        tokenize_splits(*tables(), initial, 128, 8, balance, mixture=MIXTURE)
