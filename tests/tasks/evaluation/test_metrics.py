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
from tasks.evaluation.metrics.labels.intent_accuracy import IntentAccuracy
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.likelihoods.perplexity import Perplexity
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.metrics.words.rouge_l import RougeL, lcs_length, rouge_l
from tasks.evaluation.verdict import check_metrics
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome
from tests.tiny import LABELS, example_rows, write_examples

ORACLE = RougeScorer(["rougeL"])
ASCII = st.characters(max_codepoint=127)
texts = st.lists(
    st.sampled_from(["the", "cat", "sat", "Cat,", "a", "1", "don't", "s_t", "…", "on\nmat", "x9"]), max_size=14
).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(texts | st.text(ASCII, max_size=40), texts | st.text(ASCII, max_size=40))
def test_rouge_l_of_ascii_equals_rouge_score(reference: str, answer: str) -> None:
    assert rouge_l(reference, answer) == pytest.approx(ORACLE.score(reference, answer)["rougeL"].fmeasure)


def test_rouge_l_by_hand() -> None:
    assert rouge_l("the cat sat down", "the cat sat") == pytest.approx(6 / 7)
    assert rouge_l("", "the cat") == rouge_l("the cat", "") == rouge_l("the cat", "dog") == 0
    assert lcs_length(list("abcbdab"), list("bdcaba")) == 4


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("您的订单 2024 已发货。", "不知道 2024", 2 / 12),
        ("您的订单已发货。", "您的订单已发货", 1.0),
        ("สวัสดี", "สวัส", 2 * 1 * 3 / 4 / (1 + 3 / 4)),
        ("की", "का", 0.0),
        ("हिन्दी भाषा", "हिन्दी", 2 / 3),
        ("مُحَمَّد قال", "قال", 2 / 3),
        ("Привет, мир", "пока, мир", 0.5),
        ("Καλημέρα κόσμε", "καλημέρα", 2 / 3),
        ("한국어 단어", "단어 한국어", 0.5),
        ("café", "cafe\u0301", 1.0),
        ("café", "caf", 0.0),
    ],
)
def test_rouge_l_reads_every_script(reference: str, answer: str, score: float) -> None:
    assert rouge_l(reference, answer) == pytest.approx(score)
    assert rouge_l(reference, reference) == 1


def test_rouge_l_leaves_out_references_that_are_mainly_symbols() -> None:
    items = make_items(["the cat", "👍", "猫は座った"])
    evidence = Evidence(items, None)
    scores = RougeL().score(evidence, make_outcome("base", ["the cat", "👎", "猫は座った"]))
    assert scores.weights.tolist() == [1, 0, 1]
    assert RougeL().why_not_applicable(evidence) is None
    symbols = Evidence(make_items(["the cat", "👍", "<=>"]), None)
    assert RougeL().why_not_applicable(symbols) == ("2 of 3 references are mainly symbols, which it does not read")


def test_exact_match_ignores_white_space_only() -> None:
    items = make_items(["Yes, at noon", "Yes, at noon", "Yes, at noon", "Yes"])
    answers = ["Yes,  at noon\n", "yes, at noon", "Yes, at noon.", ""]
    assert ExactMatch().score(Evidence(items, None), make_outcome("base", answers)).values.tolist() == [1, 0, 0, 0]
    accents = make_items(["café", "cafe", "👍", "-1"])
    outcome = make_outcome("base", ["cafe\u0301", "café", "👎", "1"])
    assert ExactMatch().score(Evidence(accents, None), outcome).values.tolist() == [1, 0, 0, 0]


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


@pytest.mark.parametrize(
    "labels",
    [("👍", "👎"), ("<", ">"), ("-1", "1", "0"), ("C", "C++", "C#"), ("no", "nö"), ("A", "A+"), ("+5%", "-5%"),
     ("1.0", "10"), ("好", "坏"), ("!", "?"), ("a", "b")],
)  # fmt: skip
def test_labels_of_any_characters_are_told_apart(tmp_path: Path, labels: tuple[str, ...]) -> None:
    """Answers that are the label, and answers that contain it."""
    templates = ("{}", "{}", "It is {} today")
    rows = [
        {**example_rows(1)[0], "id": f"{place:016x}", "label": label,
         "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": template.format(label)}]}
        for place, (label, template) in enumerate((label, template) for label in labels for template in templates)
    ]  # fmt: skip
    items = make_items([*labels], [*labels])
    classifier = fit_intent_classifier(write_examples(tmp_path / "train.parquet", rows), items)
    assert classifier is not None
    assert classifier.ceiling == 1.0
    assert classifier.classify([f"It is {label} today" for label in labels]) == [*labels]


def test_blank_training_answers_leave_the_labels_written_out(tmp_path: Path) -> None:
    rows = [{**row, "messages": [row["messages"][0], {"role": "assistant", "content": " "}]} for row in example_rows(9)]
    classifier = fit_intent_classifier(write_examples(tmp_path / "train.parquet", rows), [])
    assert classifier is not None
    assert classifier.classify(["late fee", "hello"]) == ["late_fee", None]


def test_a_rare_second_label_beyond_the_rows_learned_from_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.evaluation.intents.MAXIMUM_TRAINING_ROWS", 1)
    assert fit_intent_classifier(write_examples(tmp_path / "train.parquet", example_rows(20)), []) is None


def test_metrics_that_cannot_compare_are_refused_before_the_answers() -> None:
    symbols = Evidence(make_items(["👍", "👎"]), None)
    with pytest.raises(PipelineError, match=r"none can be compared \(rouge_l: 2 of 2 .*; loss: base and champion"):
        check_metrics(symbols, [RougeL(), Loss()], same_tokens=False)
    assert check_metrics(symbols, [RougeL(), Loss()], same_tokens=True) == {"metrics": 1.0}


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
    margin = classifier.minimum_margin
    assert classifier.figures == {"labels": 4.0, "rows": 80.0, "minimum_margin": margin, "ceiling": 0.75}


def test_the_classifier_abstains_from_what_means_nothing(tmp_path: Path) -> None:
    """Nearest to some label is any text; only what is as near as right answers are has an intent."""
    rows = example_rows(80, seed=1)
    meaningless = [
        "qwx zzrt plo vvk", "the of and to a in is", "!!! ???", "42", "help help help help",
        "now late with book will we", "Ihre Bestellung ist unterwegs und kommt am Freitag.", "您的订单已经发货。",
        "The capital of France is Paris.", "Once upon a time there was a king who had three sons.",
        "I cannot answer that.",
    ]  # fmt: skip
    references = [row["messages"][-1]["content"] for row in example_rows(40, seed=2)]
    for count in (80, 30):
        classifier = fit_intent_classifier(write_examples(tmp_path / f"{count}.parquet", rows[:count]), [])
        assert classifier is not None
        assert classifier.classify(meaningless) == [None] * len(meaningless)
        assert None not in classifier.classify(references)


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
