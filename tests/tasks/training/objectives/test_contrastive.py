"""Vectors of texts that belong together: the loss is the formula, and what is no negative does not count as one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.contracts.records import EXAMPLES
from tasks.corpus.embedders.sentence_transformers import SentenceTransformers
from tasks.deployment.embedder import write_embedder
from tasks.evaluation.retrieval import embed_texts
from tasks.fine_tuning.batches import collate
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.train import make_trainer
from tasks.language_models.model_folder import load_tokenizer
from tasks.training.objectives.contrastive import Contrastive, contrast, find_negatives, pool
from tasks.training.text_pairs import NO_MATE, NO_PAIR, list_pairs
from tests.tasks.fine_tuning.small import make_plan
from tests.tiny import example_rows


def table(rows: int, seed: int = 0) -> pa.Table:
    return pa.Table.from_pylist(example_rows(rows, seed), schema=EXAMPLES)


def trainer_of(initial: Path, folder: Path, objective: Contrastive, **changes: Any) -> Any:
    plan = make_plan(method={"name": "full"}, objective=objective, **changes)
    splits = tokenize_splits(table(24), table(12, 100), initial, 128, 12, objective=objective)
    return make_trainer(plan, splits, initial, Checkpoints(folder, origin_of(plan, splits, initial), 1))


def test_the_loss_is_the_formula_and_leaves_out_what_is_no_negative() -> None:
    cosines = torch.tensor([[0.9, 0.1, 0.4], [0.2, 0.8, 0.0], [0.3, 0.5, 0.4]])
    usable = ~torch.eye(3, dtype=torch.bool)
    usable[0, 2] = usable[2, 0] = False
    losses, first = contrast(cosines, usable, 0.5)
    expected = [
        math.log(1 + math.exp((0.1 - 0.9) / 0.5)),
        math.log(1 + math.exp((0.2 - 0.8) / 0.5) + math.exp((0.0 - 0.8) / 0.5)),
        math.log(1 + math.exp((0.5 - 0.4) / 0.5)),
    ]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert first.tolist() == [1.0, 1.0, 0.0]


def test_the_same_text_or_label_is_no_negative() -> None:
    # Pairs (1, 2), (3, 2), (1, 4) and (5, 6), the last two of one label.
    texts, labels = torch.tensor([1, 2, 3, 2, 1, 4, 5, 6]), torch.tensor([0, 0, 0, 0, 7, 7, 7, 7])
    assert find_negatives(texts, labels).tolist() == [
        [False, False, False, True],
        [False, False, True, True],
        [False, True, False, False],
        [True, True, False, False],
    ]


def test_pairs_are_a_prompt_and_its_answer_or_two_prompts_of_a_label() -> None:
    rows = example_rows(12)
    lonely = {**rows[0], "id": "0" * 16, "label": "alone"}
    document = {**rows[1], "id": "1" * 16, "messages": [{"role": "assistant", "content": "A text."}]}
    examples = pa.Table.from_pylist([*rows, lonely, document], schema=EXAMPLES)
    answers, dropped = list_pairs(examples, "answers")
    assert (len(answers), dropped) == (13, {NO_PAIR: 1})
    assert answers[0][1:3] == (rows[0]["messages"][0]["content"], rows[0]["messages"][1]["content"])  # type: ignore[index]
    mates, dropped = list_pairs(examples, "labels")
    assert dropped[NO_MATE] >= 1
    label_of = {row["messages"][0]["content"]: row["label"] for row in rows}  # type: ignore[index]
    assert all(label_of[pair.first] == label_of[pair.second] == pair.label for pair in mates)
    assert all(pair.first != pair.second for pair in mates)
    # Neither order nor number of the rows has a part in it.
    again, _ = list_pairs(examples.take(list(reversed(range(examples.num_rows)))), "labels")
    assert sorted(again) == sorted(mates)


def test_vectors_are_those_of_the_released_embedder_and_of_evaluation(initial: Path, tmp_path: Path) -> None:
    trainer = trainer_of(initial, tmp_path, Contrastive())
    released = tmp_path / "released"
    shutil.copytree(initial, released)
    write_embedder(released)
    rows = trainer.splits.train
    inputs = collate(rows, [[0], [1], [2]], trainer.pad, packed=False)
    trainer.model.eval()
    with torch.no_grad():
        vectors = pool(trainer.objective.scorer(trainer.model), inputs).numpy()
    pairs, _ = list_pairs(table(24), "answers")
    texts = [text for pair in pairs[:3] for text in (pair.first, pair.second)]
    assert np.allclose(vectors, SentenceTransformers(path=str(released)).embed(texts), atol=1e-5)
    assert np.allclose(vectors, embed_texts(trainer.model, load_tokenizer(initial), texts, 4), atol=1e-5)


def test_training_brings_partners_together(initial: Path, tmp_path: Path) -> None:
    objective = Contrastive(pairs="labels")
    trainer = trainer_of(initial, tmp_path, objective, steps=12, batch_size=8, learning_rate=3e-3)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert log[-1]["eval_loss"] < 0.8 * log[0]["eval_loss"]
    assert log[-1]["eval_margin"] > log[0]["eval_margin"]
