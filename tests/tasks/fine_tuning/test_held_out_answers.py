"""What a trained model makes of held-out answers is what its own logits say, whatever it was trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.fine_tuning.held_out_answers import measure_answer_loss, measure_preferences
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.training.objectives.answers import tokenize_pairs
from tasks.training.objectives.data import Tokenization, split_tables
from tasks.training.rows import TokenizedRows
from tests.tasks.fine_tuning.small import make_plan, make_splits
from tests.tasks.training.objectives import rows


def sum_log_probabilities(model: Any, tokens: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """Log-probability of a sequence's supervised tokens, and their number, one sequence at a time."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(tokens[None].astype(np.int64))).logits[0].float().log_softmax(-1)
    places = np.flatnonzero(labels != -100)
    return sum(logits[place - 1, labels[place]].item() for place in places), len(places)


def each(model: Any, items: TokenizedRows) -> list[tuple[float, int]]:
    return [sum_log_probabilities(model, *items.row(index)) for index in range(len(items.offsets) - 1)]


def with_sides(pairs: TokenizedRows, order: list[int]) -> TokenizedRows:
    """The sequences in another order, two of them a pair."""
    sides = [pairs.row(index) for index in order]
    return TokenizedRows(
        np.concatenate([tokens for tokens, _ in sides]),
        np.concatenate([labels for _, labels in sides]),
        np.cumsum([0, *(len(tokens) for tokens, _ in sides)]),
        per_item=2,
        columns={"score": np.zeros(len(sides), dtype=np.float32)},
    )


def test_loss_and_preferences_are_those_of_single_sequences(initial: Path, tmp_path: Path) -> None:
    how = Tokenization(load_tokenizer(initial), 128)
    tables = split_tables(rows.examples("validation"), rows.answers(), "validation")
    made = tokenize_pairs(tables.answers, how, "best")
    # The worse answer first in every third pair, and a pair of the same answer twice, which counts half.
    order = [side for pair in range(len(made)) for side in ((2 * pair, 2 * pair + 1)[:: -1 if pair % 3 == 0 else 1])]
    pairs = with_sides(made, [*order, 0, 0])
    splits = make_splits(initial)
    found: dict[str, float] = {}

    def measure(trainer: Any) -> None:
        model = trainer.model.eval()
        singles, sides = each(model, splits.validation), each(model, pairs)
        means = [total / count for total, count in sides]
        found["loss"] = -sum(total for total, _ in singles) / sum(count for _, count in singles)
        found["held"] = sum((a > b) + (a == b) / 2 for a, b in zip(means[::2], means[1::2], strict=True)) / len(pairs)
        found["measured_loss"] = measure_answer_loss(trainer, splits.validation)
        found["measured_held"] = measure_preferences(trainer, pairs)

    run = fine_tune(
        make_plan(steps=4), splits, initial, tmp_path / "checkpoints", tmp_path / "tuned", on_trained=measure
    )
    assert found["measured_loss"] == pytest.approx(found["loss"], abs=1e-5)
    last = [point.eval_loss for point in run.curve if point.eval_loss is not None][-1]
    assert found["measured_loss"] == pytest.approx(last, abs=1e-5)
    assert 0.1 < found["held"] < 0.9
    assert found["measured_held"] == pytest.approx(found["held"])
