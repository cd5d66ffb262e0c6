"""Each metric against a hand-worked case or, for ROUGE-L, against the package it is meant to equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from tasks.contracts.errors import PipelineError
from tasks.evaluation.intents import fit_intent_classifier
from tasks.evaluation.metrics.exact_match import ExactMatch
from tasks.evaluation.metrics.intent_accuracy import IntentAccuracy
from tasks.evaluation.metrics.loss import Loss
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.perplexity import Perplexity
from tasks.evaluation.metrics.rouge_l import RougeL, lcs_length, rouge_l
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome
from tests.tiny import LABELS, example_rows, write_examples

ORACLE = RougeScorer(["rougeL"])
texts = st.lists(
    st.sampled_from(["the", "cat", "sat", "Cat,", "a", "1", "don't", "é", "…", "on\nmat", "x9"]), max_size=14
).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(texts | st.text(max_size=40), texts | st.text(max_size=40))
def test_rouge_l_equals_rouge_score(reference: str, answer: str) -> None:
    assert rouge_l(reference, answer) == pytest.approx(ORACLE.score(reference, answer)["rougeL"].fmeasure)


def test_rouge_l_by_hand() -> None:
    assert rouge_l("the cat sat down", "the cat sat") == pytest.approx(6 / 7)
    assert rouge_l("", "the cat") == rouge_l("the cat", "") == rouge_l("the cat", "dog") == 0
    assert lcs_length(list("abcbdab"), list("bdcaba")) == 4


def test_rouge_l_leaves_out_references_without_latin_words() -> None:
    items = make_items(["the cat", "猫は座った"])
    evidence = Evidence(items, None)
    scores = RougeL().score(evidence, make_outcome("base", ["the cat", "猫は座った"]))
    assert scores.weights.tolist() == [1, 0]
    assert RougeL().why_not_applicable(evidence) is None
    assert "Latin" in (RougeL().why_not_applicable(Evidence(items[1:], None)) or "")


def test_exact_match_ignores_white_space_only() -> None:
    items = make_items(["Yes, at noon", "Yes, at noon", "Yes, at noon", "Yes"])
    answers = ["Yes,  at noon\n", "yes, at noon", "Yes, at noon.", ""]
    assert ExactMatch().score(Evidence(items, None), make_outcome("base", answers)).values.tolist() == [1, 0, 0, 0]


def test_loss_and_perplexity_count_tokens() -> None:
    items = make_items(["a", "b"])
    outcomes = [make_outcome("base", ["", ""], [1.0, 2.0], [2, 6]), make_outcome("candidate", ["", ""], [1, 1], [2, 6])]
    board = make_board(items, outcomes, [Loss(), Perplexity()])
    assert board.estimates[("base", "loss")].value == 1.75
    assert board.estimates[("base", "perplexity")].value == pytest.approx(np.exp(1.75))


def test_losses_over_different_tokens_are_not_compared() -> None:
    items = make_items(["a", "b"])
    outcomes = [make_outcome("base", ["", ""], tokens=[2, 6]), make_outcome("candidate", ["", ""], tokens=[2, 7])]
    board = make_board(items, outcomes)
    assert set(board.comparisons["candidate_vs_base"]) == {"exact_match"}
    assert set(board.incomparable) == {"loss", "perplexity"}
    assert set(board.estimates) == {
        (m, n) for m in ("base", "candidate") for n in ("exact_match", "loss", "perplexity")
    }


def test_an_answer_that_is_a_label_has_it_whatever_the_classifier_says(tmp_path: Path) -> None:
    rows = example_rows(60)
    classifier = fit_intent_classifier(write_examples(tmp_path / "train.parquet", rows), [])
    assert classifier is not None
    assert classifier.ceiling is None
    answers = ["book_room", " Book  Room. ", "We will help with lost item now.", "", "  \n"]
    assert classifier.classify(answers) == ["book_room", "book_room", "lost_item", None, None]
    assert classifier.classify([]) == []


def test_intent_accuracy_counts_labelled_items(tmp_path: Path) -> None:
    rows = example_rows(80, seed=1)
    labels: list[str | None] = [LABELS[0], LABELS[1], None, LABELS[2]]
    items = make_items([f"We will help with {(label or 'x').replace('_', ' ')} now." for label in labels], labels)
    classifier = fit_intent_classifier(write_examples(tmp_path / "train.parquet", rows), items)
    assert classifier is not None
    assert classifier.ceiling == 1.0
    answers = [items[0].reference, "We will help with late fee now.", "anything", ""]
    scores = IntentAccuracy().score(Evidence(items, classifier), make_outcome("base", answers))
    assert scores.values.tolist() == [1, 0, 0, 0]
    assert scores.weights.tolist() == [1, 1, 0, 1]
    assert scores.items == 3


def test_the_ceiling_is_the_accuracy_on_the_references(tmp_path: Path) -> None:
    rows = example_rows(80, seed=1)
    references = ["We will help with late fee now."] * 4
    items = make_items(references, ["late_fee", "late_fee", "late_fee", "book_room"])
    classifier = fit_intent_classifier(write_examples(tmp_path / "train.parquet", rows), items)
    assert classifier is not None
    assert classifier.ceiling == 0.75
    assert classifier.figures == {"labels": 4.0, "rows": 80.0, "ceiling": 0.75}


def test_without_labels_intent_accuracy_is_absent_not_zero(tmp_path: Path) -> None:
    rows = [{**row, "label": None} for row in example_rows(10)]
    one_label = [{**row, "label": "late_fee"} for row in example_rows(10)]
    items = make_items(["a"])
    for number, unlabelled in enumerate((rows, one_label)):
        classifier = fit_intent_classifier(write_examples(tmp_path / f"{number}.parquet", unlabelled), items)
        assert classifier is None
        evidence = Evidence(items, classifier)
        assert "fewer than two labels" in (IntentAccuracy().why_not_applicable(evidence) or "")
    classifier = fit_intent_classifier(write_examples(tmp_path / "train.parquet", example_rows(10)), items)
    assert IntentAccuracy().why_not_applicable(Evidence(items, classifier)) == "no held-out item has a label"
    with pytest.raises(PipelineError, match="no labels"):
        IntentAccuracy().score(Evidence(items, None), make_outcome("base", ["a"]))
