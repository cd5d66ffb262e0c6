"""Every metric of the union is what it says it is; those that a package computes too give its numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sklearn.metrics import f1_score, precision_score, recall_score

from tasks.contracts.errors import PipelineError
from tasks.corpus.text.labels import LabelReader
from tasks.evaluation.as_evaluate import as_evaluate
from tasks.evaluation.comparison import mean, standard_error
from tasks.evaluation.intents import IntentClassifier
from tasks.evaluation.metrics.form.finished import FinishedAnswers
from tasks.evaluation.metrics.form.json_validity import JsonValidity
from tasks.evaluation.metrics.form.length_deviation import LengthDeviation
from tasks.evaluation.metrics.form.refusal_agreement import RefusalAgreement
from tasks.evaluation.metrics.form.regex_match import RegexMatch
from tasks.evaluation.metrics.form.repetition import AnswerRepetition
from tasks.evaluation.metrics.labels.label_scores import MacroF1, MacroPrecision, MacroRecall, WeightedF1
from tasks.evaluation.metrics.likelihoods.bits_per_byte import BitsPerByte
from tasks.evaluation.metrics.likelihoods.preference_accuracy import PreferenceAccuracy
from tasks.evaluation.metrics.metric import Evidence, Metric, Scores, Tally
from tasks.evaluation.metrics.passes_tests import PassesTests
from tasks.evaluation.metrics.words.bleu import Bleu
from tasks.evaluation.metrics.words.chrf import ChrF
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.metrics.words.number_match import NumberMatch
from tasks.evaluation.metrics.words.rouge_n import rouge_n
from tasks.evaluation.metrics.words.token_f1 import TokenF1
from tasks.evaluation.params import METRICS
from tasks.evaluation.probes.probe import ProbedMetric
from tasks.evaluation.reward_metrics.reward_accuracy import RewardAccuracy
from tasks.evaluation.reward_metrics.reward_calibration import RewardCalibration
from tasks.evaluation.reward_metrics.step_accuracy import StepAccuracy
from tasks.evaluation.rewarding.scores import RewardScores
from tasks.evaluation.scoring import Key, resample
from tasks.evaluation.worse_answers import WorseAnswers
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome

REQUIRED: dict[str, dict[str, str]] = {"regex_match": {"pattern": r"\{.*\}"}}
# Starts processes for each answer; tests/tasks/evaluation/metrics/test_passes_tests.py has its own.
APART = (PassesTests,)
MEMBERS: list[Metric] = [
    one(**REQUIRED.get(one.model_fields["name"].default, {})) for one in METRICS if one not in APART
]
LABELS = ("refund", "track", "cancel")
REFERENCES = [f'{{"{LABELS[n % 3]}": {n}, "text": "we have moved the order number {n} to you"}}' for n in range(30)]
ITEMS = tuple(
    replace(
        item,
        worse="something else",
        steps=(True, False),
        prompt=({"role": "user", "content": f"{item.reference}\n\nWhat is it?"},),
    )
    for item in make_items(REFERENCES, [LABELS[n % 3] for n in range(30)])
)
WORSE = WorseAnswers(np.ones(30), np.full(30, 9))
RIGHT_REWARDS = RewardScores(np.full(30, 50.0), np.full(30, -50.0), (np.array([50.0, -50.0]),) * 30)
WRONG_REWARDS = RewardScores(np.full(30, -1.0), np.full(30, 2.0), (np.array([-1.0, 1.0]),) * 30)
WORDS = st.sampled_from(["the", "cat", "sat", "on", "a", "Mat,", "dog", "12", "don't", "an", "x"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)


class Reads(IntentClassifier):
    """Takes the first label that stands in an answer for its intent."""

    def classify(self, answers: Any) -> list[str | None]:
        return [next((label for label in LABELS if label in answer), None) for answer in answers]


EVIDENCE = Evidence(ITEMS, Reads(LabelReader(list(LABELS)), None, 0.0, None, {}))


def score(metric: Metric, references: list[str], answers: list[str]) -> float:
    found = metric.score(Evidence(make_items(references), None), make_outcome("base", answers))
    return mean(metric, found)


@pytest.mark.parametrize("metric", MEMBERS, ids=lambda metric: metric.name)
def test_a_perfect_answer_scores_best_and_nonsense_worse(metric: Metric) -> None:
    assert metric.why_not_applicable(EVIDENCE) is None
    perfect = make_outcome("base", REFERENCES, [0.1] * 30, [9] * 30)
    wrong = make_outcome("candidate", ["I cannot help with that, " * 20] * 30, [2.0] * 30, [9] * 30)
    wrong = replace(wrong, finished=np.zeros(30, dtype=bool), worse=WORSE, rewards=WRONG_REWARDS)
    perfect = replace(perfect, worse=WORSE, rewards=RIGHT_REWARDS)
    if isinstance(metric, ProbedMetric):
        sure, same = {"of": "tokens", "confidence": [1.0] * 30, "chosen": [""] * 30}, [["yes"] * 5] * 30
        key, other = metric.probe.key, [[f"word{n} other{n}" for n in range(5)]] * 30
        measured = {**sure, "answers": same, "log_probabilities": [[0.0] * 5] * 30}
        cost = {"seconds": [0.1, 0.2] * 10 + [None] * 10, "parameters": 1_000_000}
        perfect = replace(perfect, probes={key: measured | cost})
        cost = {"seconds": [0.9, 1.2] * 10 + [None] * 10, "parameters": 1_000_001}
        measured |= {"answers": other, "log_probabilities": [[-9.0] * 5] * 30}
        wrong = replace(wrong, probes={key: measured | cost})
    best, worst = metric.score(EVIDENCE, perfect), metric.score(EVIDENCE, wrong)
    for one in (best, worst):
        assert one.values.shape == one.weights.shape == (30,)
        assert np.isfinite(one.values).all()
        assert not metric.bounded or (one.values.min() >= 0 and one.values.max() <= 1 + 1e-9)
    assert (best.weights == worst.weights).all(), "the items of a metric depend on the answers"
    difference = mean(metric, best) - mean(metric, worst)
    if metric.name == "context_relevance":
        assert difference == 0, "it is about the prompts, which are the same"
        return
    assert difference > 0 if metric.higher_is_better else difference < 0
    if metric.bounded:
        assert mean(metric, best) == pytest.approx(1.0 if metric.higher_is_better else 0.0)
    board = (
        make_board(ITEMS, [perfect, wrong], [metric])
        if metric.why_not_applicable(Evidence(ITEMS, None)) is None
        else None
    )
    if board is not None:
        assert board.comparisons["candidate_vs_base"][metric.name].result == "worse"


def test_preferences_by_answer_and_by_token_by_hand() -> None:
    """The example of the metric's own page; an item without a worse answer does not count."""
    items = tuple(
        replace(item, worse=worse) for item, worse in zip(make_items(["a", "b", "c"]), ["x", "y", None], strict=True)
    )
    worse = WorseAnswers(np.array([1.0, 1.0, np.nan]), np.array([9, 15, 0]))
    outcome = replace(make_outcome("base", ["", "", ""], [1.0, 0.8, 5.0], [8, 25, 3]), worse=worse)
    evidence = Evidence(items, None)
    for likelihood, expected in (("answer", 0.5), ("token", 0.75)):
        metric = PreferenceAccuracy.model_validate({"likelihood": likelihood})
        scores = metric.score(evidence, outcome)
        assert scores.items == 2
        assert mean(metric, scores) == expected
    reason = PreferenceAccuracy().why_not_applicable(Evidence(make_items(["a"]), None))
    assert reason is not None
    assert reason.startswith("no held-out item has a worse answer")


def test_rewards_by_hand() -> None:
    """The examples of the metrics' own pages."""
    items = tuple(
        replace(item, worse=worse, steps=steps)
        for item, worse, steps in zip(
            make_items(["a", "b", "c", "d", "e"]), ["x", "y", "z", None, None],
            [(), (), (), (True, False), (False,)], strict=True,
        )
    )  # fmt: skip
    nothing = np.zeros(0)
    rewards = RewardScores(
        np.array([1.2, -0.1, 0.0, 0.0, 0.0]),
        np.array([0.3, 0.4, 0.0, np.nan, np.nan]),
        (nothing, nothing, nothing, np.array([1.0, -2.0]), np.array([0.5])),
    )
    outcome = replace(make_outcome("base", [""] * 5), rewards=rewards)
    evidence = Evidence(items, None, rewards=True)
    assert mean(RewardAccuracy(), RewardAccuracy().score(evidence, outcome)) == 0.5
    assert mean(StepAccuracy(), StepAccuracy().score(evidence, outcome)) == pytest.approx(2 / 3)
    pair = replace(
        outcome, rewards=replace(rewards, own=np.array([2.0, 0, 0, 0, 0]), worse=np.array([0.0, 2, 0, 0, 0]))
    )
    found = RewardCalibration().score(evidence, pair)
    assert found.values[:3].tolist() == pytest.approx([0.0142, 0.7758, 0.25], abs=1e-4)
    assert found.weights.tolist() == [1, 1, 1, 2, 1]


def test_names_and_titles_are_unique() -> None:
    assert len({metric.name for metric in MEMBERS}) == len({metric.title for metric in MEMBERS}) == len(MEMBERS)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXTS.filter(str.strip), TEXTS), min_size=1, max_size=6))
def test_bleu_and_chrf_are_sacrebleus(pairs: list[tuple[str, str]]) -> None:
    references, answers = [reference for reference, _ in pairs], [answer for _, answer in pairs]
    expected = BLEU().corpus_score(answers, [references]).score / 100
    assert score(Bleu(), references, answers) == pytest.approx(expected, abs=1e-9)
    each = [CHRF().sentence_score(answer, [reference]).score for reference, answer in pairs]
    assert score(ChrF(), references, answers) == pytest.approx(np.mean(each) / 100)


@settings(deadline=None, max_examples=100)
@given(TEXTS, TEXTS)
def test_rouge_n_is_the_packages(reference: str, answer: str) -> None:
    expected = RougeScorer(["rouge1", "rouge2"]).score(reference, answer)
    assert rouge_n(reference, answer, 1) == pytest.approx(expected["rouge1"].fmeasure)
    assert rouge_n(reference, answer, 2) == pytest.approx(expected["rouge2"].fmeasure)


@pytest.mark.parametrize(
    ("reference", "answer", "f1", "match"),
    [
        ("The old garden", "in the garden", 1 / 2, 0),
        ("Denver Broncos", "denver broncos.", 1, 1),
        ("the", "x", None, 0),
        ("a b b", "b b b", 4 / 5, 0),
        ("don't", "dont", 1, 1),
        ("猫は座った", "猫が座った", 4 / 5, 0),
        ("Ärger, groß", "ärger groß", 1, 1),
        ("-1", "1", 1, 1),
    ],
)
def test_token_f1_and_normalised_match_by_hand(reference: str, answer: str, f1: float | None, match: int) -> None:
    assert score(ExactMatch(form="normalised"), [reference], [answer]) == match
    assert TokenF1().reads(make_items([reference])[0]) == (f1 is not None)
    if f1 is not None:
        assert score(TokenF1(), [reference], [answer]) == pytest.approx(f1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "nothing"])), min_size=1, max_size=20))
def test_label_scores_are_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    truth, found = [label for label, _ in pairs], [answer for _, answer in pairs]
    evidence = Evidence(make_items(truth, truth), EVIDENCE.intents)
    outcome = make_outcome("base", found)
    there = sorted(set(truth))
    expected = {
        MacroF1(): f1_score(truth, found, labels=there, average="macro", zero_division=0),
        WeightedF1(): f1_score(truth, found, labels=there, average="weighted", zero_division=0),
        MacroPrecision(): precision_score(truth, found, labels=there, average="macro", zero_division=0),
        MacroRecall(): recall_score(truth, found, labels=there, average="macro", zero_division=0),
    }
    for metric, value in expected.items():
        assert mean(metric, metric.score(evidence, outcome)) == pytest.approx(value), metric.name


def test_a_score_of_a_set_is_resampled_as_a_set() -> None:
    """Corpus BLEU of a draw is that of the drawn items, not the mean of their sentence scores."""
    references = ["the cat sat on the mat", "a dog", "we have moved your order to next week"]
    answers = ["the cat sat on a mat", "a dog", "we moved your order"]
    found = Bleu().score(Evidence(make_items(references), None), make_outcome("base", answers))
    assert found.tally is not None
    for draw in ([0, 0, 1], [2, 2, 2], [0, 1, 2]):
        expected = BLEU().corpus_score([answers[n] for n in draw], [[references[n] for n in draw]]).score / 100
        assert found.tally.combine(found.tally.counts[draw].sum(axis=0)) == pytest.approx(expected)


def test_a_mean_written_as_a_tally_has_the_resamples_standard_error_and_slices_of_the_mean() -> None:
    """Whatever is asked of scores, those of a set go the way of means: the same draws, clusters and influences."""
    rng = np.random.default_rng(0)
    values, weights = rng.random((2, 40)), rng.integers(1, 9, 40).astype(float)
    clusters = [str(place // 2) for place in range(40)]

    def ratio(sums: np.ndarray) -> np.ndarray:
        return np.asarray(sums[..., 0] / sums[..., 1])

    plain = [Scores(each, np.ones(40)) for each in values]
    tallies = [Scores(each, np.ones(40), Tally(np.column_stack([each, np.ones(40)]), ratio)) for each in values]
    keys: list[Key] = [("base", "x"), ("candidate", "x")]
    means, sets = (resample(dict(zip(keys, each, strict=True)), clusters, 1_000, 3) for each in (plain, tallies))
    for key in keys:
        np.testing.assert_allclose(sets[key], means[key])
        assert np.ptp(sets[key]) > 0.1
    metric = ExactMatch()
    for a, b in ((plain, tallies), (tallies, plain)):
        assert standard_error(metric, *a, clusters) == pytest.approx(standard_error(metric, *b, clusters), rel=1e-9)
    mixed = resample({keys[0]: plain[0], keys[1]: tallies[0]}, clusters, 1_000, 3)
    np.testing.assert_allclose(mixed[keys[0]], mixed[keys[1]])
    inside = weights > 4
    assert mean(metric, tallies[0].part(inside)) == pytest.approx(values[0][inside].mean())


def test_bits_per_byte_by_hand() -> None:
    items = make_items(["12345678", "äöüß"])
    outcome = make_outcome("base", ["", ""], [np.log(16), np.log(4)], [2, 4])
    found = BitsPerByte().score(Evidence(items, None), outcome)
    assert found.values.tolist() == pytest.approx([1, 1])
    assert found.weights.tolist() == [8, 8]


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ("#### 12", "So she has 3 x 4 = 12 apples.", 1),
        ("#### 12", "about 12.5", 0),
        ("1200", "That is $1,200.", 1),
        ("1200.50", "1.200,50 is 1200,5", 1),
        ("-3", "The result is \u22123", 1),
        ("3", "the result is -3", 0),
        ("0.5", ".5", 0),
        ("7", "no number", 0),
        ("1,234,567", "1234567", 1),
        ("2024-05-01: 8", "8", 1),
    ],
)
def test_number_match(reference: str, answer: str, right: int) -> None:
    assert score(NumberMatch(), [reference], [answer]) == right


def test_numbers_are_looked_for_in_references_that_have_one() -> None:
    found = NumberMatch().score(Evidence(make_items(["none", "4"]), None), make_outcome("base", ["4", "4"]))
    assert found.weights.tolist() == [0, 1]
    assert NumberMatch().why_not_applicable(Evidence(make_items(["none"]), None)) == "no reference has a number"


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ('{"total": 3}', 1), ('```json\n{"total": 3}\n```', 1), ('{"total": "3"}', 0), ("total: 3", 0),
        ('{"total": NaN}', 0), ('{"total": 3, "total": 3}', 0), ("[" * 100_000, 0), ("", 0), ("{}", 0),
    ],
)  # fmt: skip
def test_json_fits_its_schema(answer: str, valid: int, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(
        json.dumps({"type": "object", "required": ["total"], "properties": {"total": {"type": "integer"}}})
    )
    assert score(JsonValidity(schema_file=str(schema)), ["x"], [answer]) == valid


def test_json_without_a_schema_is_asked_of_references_that_are_json(tmp_path: Path) -> None:
    items = make_items(['{"a": 1}', "prose", "3"])
    found = JsonValidity().score(Evidence(items, None), make_outcome("base", ["[1]", "prose", "3"]))
    assert (found.values.tolist(), found.weights.tolist()) == ([1, 0, 0], [1, 0, 0])
    assert "no schema_file" in (JsonValidity().why_not_applicable(Evidence(make_items(["prose"]), None)) or "")
    (tmp_path / "bad.json").write_text('{"type": "nonsense"}')
    with pytest.raises(PipelineError, match=r"bad.json is no JSON Schema \(.*\); mend it"):
        score(JsonValidity(schema_file=str(tmp_path / "bad.json")), ["x"], ["{}"])


def test_a_pattern_has_to_match_the_whole_answer_and_cannot_hold_up_an_evaluation() -> None:
    assert score(RegexMatch(pattern="(yes|no)"), ["x"] * 4, ["yes", " no\n", "Yes.", "yes no"]) == 0.5
    assert score(RegexMatch(pattern="(a|aa)+b"), ["x"], ["a" * 60]) == 0
    with pytest.raises(ValidationError, match="is no regular expression"):
        RegexMatch(pattern="(")


def test_refusing_where_the_reference_helps_is_wrong_and_the_other_way_round() -> None:
    no, yes = "I can't help with that.", "Here is how."
    assert score(RefusalAgreement(), [no, no, yes, yes], [no, yes, no, yes]) == 0.5


def test_lengths_repetitions_and_ends_by_hand() -> None:
    assert score(LengthDeviation(), ["a b c", "a b c d e f g"], ["a b c d e f g", "a b c"]) == 1
    assert score(AnswerRepetition(), ["x"], ["a b c d a b c d a b c d"]) == pytest.approx(5 / 9)
    assert score(AnswerRepetition(), ["x"], ["a b c"]) == 0
    outcome = make_outcome("base", ["a", "b", "c"])
    outcome.finished[1] = False
    assert FinishedAnswers().score(Evidence(make_items(["a", "b", "c"]), None), outcome).values.tolist() == [1, 0, 1]


def test_any_metric_that_reads_texts_is_an_evaluate_metric() -> None:
    answers, references = ["the garden", "Yes, at noon"], ["old garden", "yes, at noon."]
    assert as_evaluate(TokenF1()).compute(predictions=answers, references=references) == {
        "token_f1": pytest.approx(score(TokenF1(), references, answers))
    }
    bleu = as_evaluate(Bleu())
    bleu.add_batch(predictions=answers[:1], references=references[:1])
    bleu.add(prediction=answers[1], reference=references[1])
    assert bleu.compute() == {"bleu": pytest.approx(score(Bleu(), references, answers))}
    with pytest.raises(PipelineError, match="reads the model's losses"):
        as_evaluate(BitsPerByte()).compute(predictions=answers, references=references)
    with pytest.raises(PipelineError, match="fewer than two labels; take a metric that reads texts alone"):
        as_evaluate(MacroF1()).compute(predictions=answers, references=references)
