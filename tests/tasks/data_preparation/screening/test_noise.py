"""Planted wrong labels are found, few right ones with them, and the estimates say so."""

from __future__ import annotations

import csv
import gzip
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.noisy_labels import flip
from tasks.contracts.errors import PipelineError
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import FOLDS, STEP, assign_folds, choose_limit, find_confident, find_suspects
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.noise import review_labels
from tests.conversations import make, pair
from tests.labelled_texts import TOPICS, texts_and_labels

REAL = Path(os.environ.get("HEPTUNE_REAL_DATA", "/nonexistent"))


def labelled(count: int = 600, wrong: float = 0.02) -> tuple[Rows, set[int]]:
    texts, labels = texts_and_labels(count)
    given_labels, planted = flip(labels, wrong, 3)
    rows = make(*(pair(text, label) for text, label in zip(texts, given_labels, strict=True)), labels=given_labels)
    table = rows.table.append_column("id", pa.array([f"{row:016x}" for row in range(count)]))
    return replace(rows, table=table), planted


def test_planted_wrong_labels_are_found() -> None:
    texts, labels = texts_and_labels()
    given_labels, planted = flip(labels, 0.01, 5)
    found = find_suspects(texts, given_labels, Noise())
    assert planted <= set(found.places)
    assert len(found.places) <= len(planted) + 0.01 * len(texts)
    suggested = dict(zip(found.places, found.suggested, strict=True))
    assert [suggested[row] for row in sorted(planted)] == [labels[row] for row in sorted(planted)]
    assert found.recall > 0.95
    assert found.wrong == pytest.approx(0.01, abs=0.005)
    # The surest first.
    assert found.given == sorted(found.given)
    assert found.judged == 1000


def test_suspects_are_shown_or_set_aside() -> None:
    rows, planted = labelled()
    out = review_labels(rows, Noise())
    assert out.table is rows.table or out.table.equals(rows.table)
    step = out.steps[-1]
    assert step.name == STEP
    assert {int(str(line[1])) - 1 for line in step.listings[0].rows} >= planted
    assert step.notes["suspects"] == len(step.listings[0].rows)
    assert "heptune annotate export --suspects" in step.listings[0].note
    gone = review_labels(rows, Noise(action="drop"))
    assert gone.table.num_rows == 600 - step.notes["suspects"]
    assert gone.dropped["step"].unique().to_pylist() == [STEP]
    assert all(reason.startswith("label looks wrong, more like ") for reason in gone.dropped["reason"].to_pylist())
    assert review_labels(rows, None) is rows
    assert review_labels(rows, Noise()).steps == out.steps
    assert DataPreparation().noise is None


def test_rows_that_cannot_be_judged_stay() -> None:
    texts, labels = texts_and_labels(200)
    mixed: list[str | None] = [*labels, None, "rare", "rare"]
    found = find_suspects([*texts, "no label", "card1 help", "card2 help"], mixed, Noise())
    assert found.judged == 200
    assert max(found.places, default=0) < 200
    with pytest.raises(PipelineError, match="1 labels have 5 rows or more, and two are needed"):
        find_suspects(texts, ["same"] * 200, Noise())
    with pytest.raises(PipelineError, match="all labelled texts are blank"):
        find_suspects([" "] * 10, ["a"] * 5 + ["b"] * 5, Noise())


def test_the_limit_worked_out_by_hand() -> None:
    # Two of ten scores are at 0.1, and all wrong labels score 0.1: the upper estimate is 20% wrong, none false.
    score = np.array([0.1] * 2 + [0.9] * 8)
    limit, recall, false, wrong = choose_limit(score, np.array([0.1] * 10), Noise(recall=1.0))
    assert (limit, recall) == (0.1, 1.0)
    assert wrong == pytest.approx(0.2)
    assert false == 0
    # Wrong labels that score as right ones do cannot be told, so none is suspected.
    even = np.linspace(0, 1, 101)
    limit, *_, wrong = choose_limit(even, np.linspace(0, 1, 100), Noise())
    assert limit < 0
    assert wrong > 0.9


def test_confident_joint_worked_out_by_hand() -> None:
    guess = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.2, 0.8]])
    truth = np.array([0, 0, 0, 1, 1])
    # Means of the own label: 0.6 and 0.85. Row 2 reaches neither, so it is not counted; with 0.86 it would be.
    assert find_confident(guess, truth).tolist() == [False] * 5
    guess[2] = [0.14, 0.86]
    assert find_confident(guess, truth).tolist() == [False, False, True, False, False]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(FOLDS, 30), min_size=1, max_size=6), st.integers(0, 99))
def test_parts_hold_every_label_evenly(sizes: list[int], seed: int) -> None:
    truth = np.repeat(np.arange(len(sizes)), sizes)
    parts = assign_folds(truth, seed)
    for label, size in enumerate(sizes):
        counts = np.bincount(parts[truth == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == size


@pytest.mark.skipif(not (REAL / "bitext_support").exists(), reason="HEPTUNE_REAL_DATA has no bitext_support")
def test_flips_of_one_percent_in_customer_support() -> None:
    [path] = (REAL / "bitext_support").glob("*.csv.gz")
    with io.TextIOWrapper(gzip.open(path), encoding="utf-8") as stream:
        rows = {row["instruction"].casefold(): row["intent"] for row in csv.DictReader(stream)}
    texts, labels = list(rows), list(rows.values())
    given_labels, planted = flip(labels, 0.01, 1)
    found = find_suspects(texts, given_labels, Noise())
    assert len(planted & set(found.places)) / len(planted) >= 0.95
    assert len(set(found.places) - planted) / (len(texts) - len(planted)) <= 0.01


def test_nothing_suspect_is_no_error() -> None:
    rows = make(*[pair(f"{name} {word}", name) for name in TOPICS for word in TOPICS[name]])
    rows = replace(rows, table=rows.table.set_column(3, "label", pa.array([n for n in TOPICS for _ in TOPICS[n]])))
    done = review_labels(rows, Noise())
    assert done.steps[-1].notes["suspects"] == 0
    assert done.steps[-1].listings[0].rows == ()
