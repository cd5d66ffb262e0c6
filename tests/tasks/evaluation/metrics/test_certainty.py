"""Calibration and entropy: by hand, against other implementations, and measured on a tiny model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json
from tasks.corpus.text.labels import LabelReader
from tasks.evaluation.comparison import mean
from tasks.evaluation.intents import IntentClassifier
from tasks.evaluation.metrics.certainty.calibration import BrierScore, CalibrationError
from tasks.evaluation.metrics.certainty.entropy import SemanticEntropy, SequenceEntropy, measure_entropy
from tasks.evaluation.metrics.form.answer_length import AnswerLength
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.probes.confidence import LABELS, TOKENS, ConfidenceProbe, list_answered_labels
from tasks.evaluation.probes.probe import list_probes
from tasks.evaluation.probes.samples import SamplesProbe
from tasks.evaluation.ranking import rank_models
from tasks.evaluation.report.calibration import describe_calibration
from tasks.evaluation.report.ranking import write_ranking
from tasks.evaluation.supports.meanings import cluster_meanings
from tasks.language_models.generation import generate_answers, score_references
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome


class Intents(IntentClassifier):
    """The first word of an answer, where it is one of two labels."""

    def classify(self, answers: Any) -> list[str | None]:
        return [(answer.split() or [""])[0] if answer.startswith(("track", "refund")) else None for answer in answers]


INTENTS = Intents(LabelReader(["track", "refund"]), None, 0.0, None, {})


def score(metric: Any, references: list[str], answers: list[str], probes: dict[str, Any], **how: Any) -> float:
    evidence = Evidence(make_items(references, how.get("labels")), how.get("intents"))
    outcome = replace(make_outcome("base", answers), probes=probes)
    return mean(metric, metric.score(evidence, outcome))


def test_the_worked_example_of_the_page() -> None:
    probes = {"confidence": {"of": TOKENS, "confidence": [0.9, 0.9, 0.6], "chosen": [""] * 3}}
    references, answers = ["yes"] * 3, ["Yes.", "no", "the yes"]
    assert score(CalibrationError(), references, answers, probes) == pytest.approx(0.4)
    assert score(BrierScore(), references, answers, probes) == pytest.approx((0.01 + 0.81 + 0.16) / 3)


def test_numbers_are_those_of_the_formulas_and_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    confidence = np.concatenate([rng.random(200), [0.0, 0.1, 1.0]])
    right = rng.random(203) < confidence**2
    answers = ["yes" if one else "no" for one in right]
    probes = {"confidence": {"of": TOKENS, "confidence": confidence.tolist(), "chosen": [""] * 203}}
    bins = np.minimum(np.floor(confidence * 10), 9)
    expected = sum(
        (bins == b).mean() * abs(right[bins == b].mean() - confidence[bins == b].mean()) for b in np.unique(bins)
    )
    assert score(CalibrationError(), ["yes"] * 203, answers, probes) == pytest.approx(float(expected))
    assert score(BrierScore(), ["yes"] * 203, answers, probes) == pytest.approx(brier_score_loss(right, confidence))


def test_right_is_the_chosen_label_or_the_intent_or_the_words() -> None:
    labels = {"of": LABELS, "confidence": [1.0, 1.0], "chosen": ["Track", "Track"]}
    found = score(
        BrierScore(), ["Track", "Refund"], ["", ""], {"confidence": labels}, labels=["track", "refund"], intents=INTENTS
    )
    assert found == 0.5
    tokens = {"of": TOKENS, "confidence": [1.0, 1.0], "chosen": ["", ""]}
    how = {"labels": ["track", "refund"], "intents": INTENTS}
    assert score(BrierScore(), ["It left."] * 2, ["track it", "track it"], {"confidence": tokens}, **how) == 0.5
    assert score(BrierScore(), ["It left."] * 2, ["it left", "track it"], {"confidence": tokens}) == 0.5


def test_meanings_are_counted_not_wordings() -> None:
    """Three of five mean one thing: -(0.6 log 0.6 + 0.4 log 0.4) = 0.673."""
    metric = SemanticEntropy()
    said = ["It left today.", "it left today", "the order is lost", "It left, today!", "The order is lost."]
    assert metric.cluster(said, None) == [0, 0, 1, 0, 1]
    assert measure_entropy([0, 0, 1, 0, 1]) == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)))
    assert measure_entropy([0, 1, 2, 3]) == pytest.approx(math.log(4))
    assert (measure_entropy([0, 0]), measure_entropy([])) == (0.0, 0.0)
    assert metric.cluster(["track one", "track two words", "refund", "gibberish", "gibberish", ""], INTENTS) == [
        0, 0, 1, 2, 2, 3,
    ]  # fmt: skip
    drawn = {metric.probe.key: {"answers": [said, ["x"] * 5], "log_probabilities": [[-1.0, -3.0], [-2.0]]}}
    expected = measure_entropy([0, 0, 1, 0, 1]) / 2
    assert score(metric, ["a", "b"], ["", ""], drawn) == pytest.approx(expected)
    assert score(SequenceEntropy(), ["a", "b"], ["", ""], drawn) == 2.0


class Entailing:
    """Says that one text entails another where that is listed, whatever the question before both."""

    reads_context = True

    def __init__(self, *entailed: tuple[str, str]) -> None:
        self.entailed, self.asked = set(entailed), list[tuple[str, str]]()

    @property
    def name(self) -> str:
        return "listed"

    def find(self, questions: Sequence[tuple[str, str]], folder: Path | None) -> list[bool]:
        self.asked += questions
        return [tuple(text.split("\n")[-1] for text in pair) in self.entailed for pair in questions]


def test_texts_mean_the_same_where_each_entails_the_other() -> None:
    """Of a place in a city each entails the land, which entails neither; what was compared before is not again."""
    city, also, land = "Paris.", "It is Paris.", "It is in France."
    means = Entailing((city, also), (also, city), (city, land), (also, land))
    drawn = [[city, also, land, "Paris. ", city], [land, city], [], [land] * 3]
    found = cluster_meanings(means, ["Where is it?", "And she?", "", "Why?"], drawn, None)
    assert found == [[0, 0, 1, 0, 0], [0, 1], [], [0, 0, 0]]
    # Both ways of each pair, after its question, once: three texts of the first item have two meanings.
    assert len(means.asked) == len(set(means.asked)) == 2 * (1 + 1 + 1)
    assert (f"Where is it?\n{city}", f"Where is it?\n{also}") in means.asked
    one_way = Entailing((city, also))
    assert cluster_meanings(one_way, ["?"], [[city, also]], None) == [[0, 1]]


def test_semantic_entropy_by_what_entails_what() -> None:
    metric = SemanticEntropy.model_validate({"by": {"name": "words", "least": 0.5}})
    said = ["left today", "it left today", "the order is lost", "lost"]
    drawn = {metric.probe.key: {"answers": [said, [""] * 4], "log_probabilities": [[-1.0]] * 2}}
    # "the order is lost" has all words of "lost", which has a quarter of its words.
    assert score(metric, ["a", "b"], ["", ""], drawn) == pytest.approx(measure_entropy([0, 0, 1, 2]) / 2)


def test_the_page_says_whether_the_candidate_is_too_sure(tmp_path: Path) -> None:
    items = make_items(["yes"] * 40)
    sure = {"confidence": {"of": TOKENS, "confidence": [0.95] * 20 + [0.55] * 20, "chosen": [""] * 40}}
    outcomes = [
        replace(make_outcome("base", ["yes"] * 38 + ["no"] * 2), probes=sure),
        replace(make_outcome("candidate", ["yes"] * 10 + ["no"] * 10 + ["yes"] * 11 + ["no"] * 9), probes=sure),
    ]
    board = make_board(items, outcomes, [CalibrationError(), BrierScore(), ExactMatch()])
    (block,) = describe_calibration(Evidence(items, None), board)
    assert block.summary.startswith(
        "The candidate is too sure: its mean confidence is 0.750, and 0.525 of its answers are right. Confidence here "
        "is the mean (geometric) probability"
    )
    bins = block.values["bins"]["candidate"]
    assert [pytest.approx(row) for row in bins] == [[20, 0.55, 0.55], [20, 0.95, 0.5]]
    expected = (0 * 20 + 0.45 * 20) / 40
    assert board.estimates["candidate", "calibration_error"].value == pytest.approx(expected)
    assert len(block.figures[0].draw().axes[0].lines) == 3
    assert describe_calibration(Evidence(items, None), make_board(items, outcomes, [ExactMatch()])) == []
    # Where models are only compared, each is judged.
    named = [replace(outcomes[0], model="version 1"), replace(outcomes[1], model="tuned")]
    ranking = rank_models(Evidence(items, None), named, [CalibrationError()], 1_000, 0.95, 0.8, 0)
    (block,) = describe_calibration(Evidence(items, None), ranking)
    assert block.summary.startswith("version 1 is too unsure: its mean confidence is 0.750, and 0.950 of its answers ")
    assert " tuned is too sure: its mean confidence" in block.summary
    write_ranking(ranking, "Models compared", [], tmp_path / "page.html", tmp_path / "metrics.json", blocks=[block])
    assert "Right answers by confidence" in (tmp_path / "page.html").read_text()
    (kept,) = read_json(tmp_path / "metrics.json")["blocks"]
    assert (kept["title"], kept["mean_confidence"]["tuned"]) == ("Calibration", pytest.approx(0.75))


def test_a_metric_without_its_probe_says_so_and_each_probe_runs_once() -> None:
    for metric in (CalibrationError(), SemanticEntropy()):
        with pytest.raises(PipelineError, match=r"base: .*score a model with `heptune evaluate`"):
            score(metric, ["a"], ["a"], {})
    metrics = [CalibrationError(), BrierScore(), AnswerLength(), SequenceEntropy(), SemanticEntropy()]
    assert [probe.key for probe in list_probes(metrics)] == ["confidence", "samples 5 1 0"]
    assert score(AnswerLength(), ["a"] * 3, ["Your parcel is on its way.", "Yes.", ""], {}) == pytest.approx(7 / 3)


def test_labels_are_only_those_that_references_are() -> None:
    items = make_items(["Track order", "get refund."], ["track_order", "get_refund"])
    assert list_answered_labels(items) == ["Track order", "get refund."]
    assert list_answered_labels(make_items(["It left.", "get refund"], ["track_order", "get_refund"])) == []
    assert list_answered_labels(make_items(["a", "a"], ["a", "a"])) == []


def test_probes_measure_what_they_say_on_a_model(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    items = make_items(["track", "refund", "track"], ["track", "refund", "track"])
    items = (*items[:2], replace(items[2], prompt=()))
    found = ConfidenceProbe().measure(model, tokenizer, items, ["", "", ""], 8, 4)
    losses = score_references(model, tokenizer, [items[0].prompt] * 2, ["refund", "track"])
    logs = [-one.mean * one.tokens for one in losses]
    shares = np.exp(logs) / np.exp(logs).sum()
    assert found["of"] == LABELS
    assert found["confidence"][0] == pytest.approx(float(shares.max()), rel=1e-4)
    assert found["chosen"][0] == ("refund", "track")[int(shares.argmax())]
    assert (found["confidence"][2], found["chosen"][2]) == (0.0, "")
    answers = [one.text for one in generate_answers(model, tokenizer, [item.prompt for item in items[:2]], 4)]
    plain = make_items(["It left.", "Lost."])
    sure = ConfidenceProbe().measure(model, tokenizer, plain, answers, 4, 4)
    own = score_references(model, tokenizer, [item.prompt for item in plain], answers)
    assert sure["of"] == TOKENS
    assert sure["confidence"] == pytest.approx([math.exp(-one.mean) for one in own], rel=1e-4)
    probe = SamplesProbe(3, 1.0, 7)
    drawn = probe.measure(model, tokenizer, plain, answers, 4, 64)
    assert [len(texts) for texts in drawn["answers"]] == [3, 3]
    assert all(log < 0 for logs in drawn["log_probabilities"] for log in logs)
    again = probe.measure(model, tokenizer, plain, answers, 4, 2)
    assert again["answers"] == drawn["answers"], "whatever shares a batch"
    assert SamplesProbe(3, 1.0, 8).measure(model, tokenizer, plain, answers, 4, 64)["answers"] != drawn["answers"]
