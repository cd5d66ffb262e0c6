"""Pruning keeps the share asked for, by the score it names, and never touches held-out rows."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.trainset.pruning.difficulty import Difficulty, measure_error, measure_loss
from tasks.data_preparation.trainset.pruning.diversity import Diversity, order_by_cover
from tasks.data_preparation.trainset.pruning.influence import Influence, measure_errors
from tasks.data_preparation.trainset.pruning.params import Pruning
from tasks.data_preparation.trainset.pruning.pool import Pool
from tasks.data_preparation.trainset.pruning.prune import Pruner, choose_best, prune_train
from tasks.data_preparation.trainset.pruning.random import Random
from tests.conversations import make, pair

TOPICS = {
    "card": ["card", "atm", "pin", "chip", "swipe"],
    "parcel": ["parcel", "courier", "depot", "door", "track"],
    "login": ["login", "password", "account", "reset", "code"],
}
FILLER = ["please", "my", "the", "is", "where", "can", "you", "now", "help", "today"]


def draw(rng: random.Random, label: str) -> str:
    return " ".join(rng.sample(TOPICS[label], 3) + rng.sample(FILLER, 4))


def labelled(count: int = 120, wrong: int = 0, seed: int = 1) -> Rows:
    """Training rows of three topics, so many of them under a wrong label, then 30 validation and 30 test rows."""
    rng = random.Random(seed)
    names = list(TOPICS)
    labels: list[str | None] = []
    turns = []
    for row in range(count + 60):
        topic = names[row % 3]
        turns.append(pair(f"{draw(rng, topic)} {row}", "fine"))
        labels.append(names[(row + 1) % 3] if row < wrong else topic)
    rows = make(*turns, labels=labels)
    splits = ["train"] * count + ["validation"] * 30 + ["test"] * 30
    table = rows.table.append_column("id", pa.array([f"{i:016x}" for i in range(count + 60)]))
    return replace(rows, table=table.append_column("split", pa.array(splits)))


def kept(rows: Rows, **params: object) -> list[int]:
    out = prune_train(rows, Pruning.model_validate(params))
    splits = zip(out.table["row"].to_pylist(), out.table["split"].to_pylist(), strict=True)
    return [row - 1 for row, split in splits if split == "train"]


METHODS: list[Pruner] = [
    Random(),
    Difficulty(),
    Difficulty(take="easy"),
    Difficulty(take="middle"),
    Influence(embedder=Tfidf(dimensions=16)),
    Diversity(embedder=Tfidf(dimensions=16)),
    Diversity(take="prototypes", clusters=6),
    Diversity(take="outskirts", clusters=6),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name} {getattr(m, 'take', '')}")
def test_every_method_keeps_the_share_of_every_label(method: Pruner) -> None:
    rows = labelled()
    out = prune_train(rows, Pruning(method=method, keep=0.25))  # type: ignore[arg-type]
    assert Counter(out.table["split"].to_pylist()) == {"train": 30, "validation": 30, "test": 30}
    train = zip(out.table["label"].to_pylist(), out.table["split"].to_pylist(), strict=True)
    assert Counter(label for label, split in train if split == "train") == {"card": 10, "parcel": 10, "login": 10}
    assert out.dropped.num_rows == 90
    assert set(out.dropped["reason"].to_pylist()) == {f"not among the 25% kept by {method.name}"}
    again = prune_train(rows, Pruning(method=method, keep=0.25))  # type: ignore[arg-type]
    assert again.table.equals(out.table)


def test_nothing_is_pruned_unless_asked() -> None:
    rows = labelled()
    assert prune_train(rows, Pruning()) is rows


def test_wrong_labels_are_the_hardest_and_can_be_skipped() -> None:
    rows = labelled(wrong=6)
    hard = kept(rows, method=Difficulty(), keep=0.2, per_label=False)
    assert set(range(6)) <= set(hard)
    easy = kept(rows, method=Difficulty(take="easy"), keep=0.5, per_label=False)
    assert not set(range(6)) & set(easy)
    skipped = kept(rows, method=Difficulty(skip=0.06), keep=0.2, per_label=False)
    assert not set(range(6)) & set(skipped)


def test_influence_turns_against_wrong_labels() -> None:
    rows = labelled(wrong=12)
    good = kept(rows, method=Influence(embedder=Tfidf(dimensions=16)), keep=0.7, per_label=False)
    assert len(set(range(12)) & set(good)) <= 2


def test_the_gradient_of_the_proxy_is_that_of_its_loss() -> None:
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(1, 4)), rng.normal(size=(3, 4))
    truth = np.array([1])

    def loss(w: np.ndarray) -> float:
        scores = (points @ w.T)[0]
        return float(np.log(np.exp(scores).sum()) - scores[1])

    gradient = measure_errors(points, truth, weights).T @ points
    for i in range(3):
        for j in range(4):
            step = np.zeros_like(weights)
            step[i, j] = 1e-6
            numeric = (loss(weights + step) - loss(weights - step)) / 2e-6
            assert gradient[i, j] == pytest.approx(numeric, abs=1e-5)


def test_errors_are_those_of_rows_not_seen() -> None:
    rows = labelled(60)
    prompts = [turns[0]["content"] for turns in rows.table["messages"].to_pylist()[:60]]
    pool = Pool([], prompts, [], rows.table["label"].to_pylist()[:60], [], [], 0)
    errors = measure_error(pool)
    assert errors.shape == (60,)
    assert 0 < errors.mean() < 0.5
    # The longest difference of two distributions has length sqrt(2).
    assert errors.max() <= 2**0.5 + 1e-9


def test_cover_takes_one_of_each_heap_first() -> None:
    rng = np.random.default_rng(1)
    centres = np.eye(5)
    points = np.repeat(centres, 20, axis=0) + rng.normal(scale=0.02, size=(100, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    turn = order_by_cover(points)
    assert sorted(turn.tolist()) == list(range(100))
    first = np.flatnonzero(turn < 5)
    assert sorted((first // 20).tolist()) == [0, 1, 2, 3, 4]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 100))
def test_cover_is_greedy(count: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    order = np.argsort(order_by_cover(points))
    for step in range(1, count):
        reach = np.linalg.norm(points[:, None] - points[order[:step]], axis=2).min(axis=1)
        assert reach[order[step]] == pytest.approx(reach.max(), abs=1e-6)


def test_ties_keep_the_first_and_small_labels_keep_one() -> None:
    assert choose_best(np.zeros(4), ["a"] * 4, 0.5) == {0, 1}
    assert choose_best(np.arange(5.0), ["a", "a", "a", "a", "b"], 0.1) == {3, 4}


def test_a_language_model_judges_rows_without_labels(tiny_model: Path) -> None:
    rows = labelled(12)
    index = rows.table.schema.get_field_index("label")
    bare = replace(rows, table=rows.table.set_column(index, "label", pa.array([None] * 72, pa.string())))
    with pytest.raises(PipelineError, match=r"12 of 12 training rows have no label and there are 0 labels"):
        prune_train(bare, Pruning(method=Difficulty()))
    assert len(kept(bare, method=Difficulty(model=str(tiny_model)), keep=0.5)) == 6
    assert len(kept(bare, method=Diversity(embedder=Tfidf(dimensions=4)), keep=0.5)) == 6
    pool = Pool([], ["where is it", "reset the code"], ["here", "done"], [None, None], [], [], 0)
    ratio = measure_loss(pool, str(tiny_model))
    assert ratio.shape == (2,)
    # An untrained model finds the answer as hard with the prompt as without.
    assert np.allclose(ratio, 1, atol=0.1)
    with pytest.raises(PipelineError, match=r"holds no config\.json"):
        prune_train(bare, Pruning(method=Difficulty(model="nowhere")))


def test_influence_needs_validation_rows_of_the_labels() -> None:
    rows = labelled()
    held = rows.table["split"].to_pylist()
    labels = [
        None if split == "validation" else label
        for split, label in zip(held, rows.table["label"].to_pylist(), strict=True)
    ]
    index = rows.table.schema.get_field_index("label")
    bare = replace(rows, table=rows.table.set_column(index, "label", pa.array(labels, pa.string())))
    with pytest.raises(PipelineError, match="no validation row has a label that is trained"):
        prune_train(bare, Pruning(method=Influence()))
