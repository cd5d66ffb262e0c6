"""Judges against servers that favour a place, a length or nothing, that say nonsense, and that are not there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.evaluation.judges.asking import Panel, read_label
from tasks.evaluation.judges.judged import JudgedAnswers, JudgedRun, judge_answers, list_bias_sentences
from tasks.evaluation.judges.pairwise import PairwiseJudge
from tasks.evaluation.judges.scored import ScoredJudge
from tasks.evaluation.judges.verdicts import AnswerPair, PairVerdict, combine, measure_length, measure_position
from tasks.evaluation.metrics.judged.by_judge import as_metric
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.params import Evaluation
from tasks.evaluation.report.judges import list_judge_blocks
from tasks.evaluation.verdict import decide
from tasks.language_models.writers.answers import weigh_labels
from tasks.language_models.writers.local import Local, load_model
from tasks.language_models.writers.reading import Unusable
from tests.endpoint import Endpoint, broken, busy, send
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome

GOOD, POOR = "a good answer", "bad"
ANSWERS = re.compile(r"<answer( A| B)?>\n(.*?)\n</answer", re.DOTALL)
Answer = str | dict[str, Any]


def find_answers(text: str) -> list[str]:
    return [found[1] for found in ANSWERS.findall(text)]


def verdict(label: str | int) -> str:
    return json.dumps({"reason": "because", "verdict": label})


def weights(**shares: float) -> dict[str, Any]:
    """What a server gives for a token that is each label with some probability."""
    tokens = [{"token": label, "logprob": math.log(share), "bytes": None} for label, share in shares.items()]
    content = [{**tokens[0], "top_logprobs": tokens}]
    return {"content": tokens[0]["token"], "finish_reason": "length", "logprobs": {"content": content, "refusal": None}}


def prefers_good(text: str) -> Answer:
    first, second = find_answers(text)
    return verdict("A" if first.startswith("a good") else "B" if second.startswith("a good") else "C")


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], Answer]], Endpoint]]:
    made: list[Endpoint] = []

    def start(answer: Callable[[str], Answer]) -> Endpoint:
        made.append(Endpoint(answer))
        return made[-1]

    yield start
    for endpoint in made:
        endpoint.close()


Serve = Callable[[Callable[[str], Answer]], Endpoint]


def model(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {"name": "openai", "url": endpoint.url, "model": "judge", "temperature": 0, "retries": 0, **more}


def judge_by(*endpoints: Endpoint, **more: Any) -> PairwiseJudge:
    panel = [{"writer": model(one), "price": {"prompt": 1, "completion": 10}} for one in endpoints]
    return PairwiseJudge.model_validate({"panel": panel, "verdict": "text", **more})


def ask(judge: Any, base: list[str], candidate: list[str], folder: Path | None = None) -> JudgedAnswers:
    items = make_items(["right"] * len(base))
    outcomes = [make_outcome("base", base), None, make_outcome("candidate", candidate)]
    return judge_answers([judge], items, outcomes, folder).by_judge[judge.name]


def test_a_verdict_is_the_likeliest_over_both_orders_by_hand() -> None:
    assert PairVerdict((0.8, 0.1, 0.1), (0.4, 0.1, 0.5)).shares == pytest.approx((0.6, 0.1, 0.3))
    assert PairVerdict((0.8, 0.1, 0.1), (0.4, 0.1, 0.5)).value == 1
    win, tie, loss = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    for forward, backward, value, shown in (
        (win, win, 1, 0.5), (win, loss, 0.5, 1), (loss, win, 0.5, 0), (win, tie, 0.5, 0.75), (tie, tie, 0.5, 0.5),
        (loss, loss, 0, 0.5),
    ):  # fmt: skip
        found = PairVerdict(forward, backward)
        assert (found.value, found.first_shown, found.is_consistent) == (value, shown, forward == backward)
    assert measure_position([PairVerdict(win, loss), PairVerdict(win, win)]).value == 0.75
    panel = combine([PairVerdict(win, win), PairVerdict(win, loss), PairVerdict(loss, loss)])
    assert panel is not None
    assert panel.value == 0.5
    assert combine([PairVerdict(win, win), None]) is None


def test_the_longer_one_by_hand() -> None:
    pairs = [AnswerPair((), "aa", "a"), AnswerPair((), "a", "aa"), AnswerPair((), "aa", "a"), AnswerPair((), "a", "b")]
    found = measure_length([1, 1, 0.5, 1], pairs)
    assert (found.value, found.pairs) == (0.5, 2)


def test_the_better_answers_win_in_both_orders_and_nothing_is_asked_twice(serve: Serve, tmp_path: Path) -> None:
    endpoint = serve(prefers_good)
    base, candidate = [POOR, GOOD, GOOD, POOR, POOR], [GOOD, POOR, GOOD, POOR + "!", GOOD]
    found = ask(judge_by(endpoint), base, candidate, tmp_path)
    assert found.values["candidate"].tolist() == [1, 0, 0.5, 0.5, 1]
    assert found.values["base"].tolist() == [0.5] * 5
    assert found.weights.tolist() == [1] * 5
    # Two orders of four pairs that differ; the third is equal and is not asked about.
    assert (len(endpoint.asked), found.panel.usage[0].calls, found.unjudged, found.unfit) == (8, 8, 0, None)
    usage = found.panel.usage[0]
    assert usage.cost == pytest.approx((usage.prompt_tokens + 10 * usage.completion_tokens) / 1e6)
    assert found.position is not None
    assert (found.position.value, found.longer and found.longer.value) == (0.5, 1)
    again = ask(judge_by(endpoint), base, candidate, tmp_path)
    assert len(endpoint.asked) == 8
    assert again.panel.usage[0].cost == usage.cost
    assert again.values["candidate"].tolist() == [1, 0, 0.5, 0.5, 1]


def test_a_judge_that_favours_a_place_says_tie_and_is_found_out(serve: Serve) -> None:
    found = ask(judge_by(serve(lambda _: verdict("A"))), [POOR] * 12, [GOOD] * 12)
    assert found.values["candidate"].tolist() == [0.5] * 12
    assert found.position is not None
    assert found.consistency is not None
    assert found.position.value == 1
    assert found.position.low > 0.5
    assert found.consistency.value == 0
    assert any("the answer shown first gets 100.0%" in one for one in list_bias_sentences(found))


def test_log_probabilities_of_labels_are_read_and_averaged_over_orders(serve: Serve) -> None:
    """0.8 for the first place and 0.2 more for the good answer: the place cancels out, and one token is asked for."""

    def answer(text: str) -> Answer:
        first = find_answers(text)[0].startswith("a good")
        return weights(A=0.9, B=0.06, C=0.04) if first else weights(A=0.5, B=0.4, C=0.1)

    endpoint = serve(answer)
    judge = judge_by(endpoint, verdict="auto")
    (verdicts,) = judge.prefer([AnswerPair((), GOOD, POOR)], Panel.of(judge, None))
    assert verdicts[0] is not None
    assert verdicts[0].forward == pytest.approx((0.9, 0.04, 0.06))
    assert verdicts[0].backward == pytest.approx((0.4, 0.1, 0.5))
    assert (verdicts[0].value, verdicts[0].confidence) == (1, pytest.approx(0.65 + 0.07 / 2))
    assert {(body["max_tokens"], body["logprobs"], body["top_logprobs"]) for body in endpoint.bodies} == {(1, True, 20)}


def test_an_engine_without_log_probabilities_is_asked_in_words_after_one_refusal(serve: Serve) -> None:
    refuse = {"error": {"message": "logprobs: found true, expected false", "code": "unsupported_value"}}
    endpoint = serve(prefers_good)
    endpoint.troubles = [lambda handler: send(handler, 400, refuse)]
    found = ask(judge_by(endpoint, verdict="auto"), [POOR, POOR], [GOOD, GOOD])
    assert found.values["candidate"].tolist() == [1, 1]
    assert (len(endpoint.asked), found.panel.weighed) == (4, [False])
    # A server that answers without them, as many do.
    silent = serve(prefers_good)
    assert ask(judge_by(silent, verdict="auto"), [POOR], [GOOD]).values["candidate"].tolist() == [1]
    assert len(silent.asked) == 3
    with pytest.raises(PipelineError, match="gives no log-probabilities; set verdict: text"):
        ask(judge_by(silent, verdict="probabilities"), [POOR], [GOOD])


def test_nonsense_is_asked_again_then_left_out_for_all_and_fails_the_judge(serve: Serve) -> None:
    def answer(text: str) -> Answer:
        if "hopeless" in text:
            return "I like both."
        return prefers_good(text) if "JSON object alone" in text else "Hm, hard to say."

    endpoint = serve(answer)
    candidate = [GOOD] * 9 + ["hopeless"]
    found = ask(judge_by(endpoint, unjudged_at_most=0.2), [POOR] * 10, candidate)
    assert found.weights.tolist() == [1] * 9 + [0]
    # Each of 20 questions once and again with a reminder, which a model without a temperature needs to change its mind.
    assert (len(endpoint.asked), found.unjudged, found.unfit) == (40, 1, None)
    assert found.panel.usage[0].unusable == {"bad JSON": 22}
    strict = ask(judge_by(endpoint), [POOR] * 10, candidate)
    assert strict.unfit is not None
    assert strict.unfit.startswith("the judge gave no verdict about 1 of 10 items (bad JSON 22 times), at most 5% may")
    evidence = Evidence(make_items(["right"] * 10), None, judged={"pairwise": strict})
    with pytest.raises(PipelineError, match="gave no verdict about 1 of 10"):
        as_metric(judge_by(endpoint)).score(evidence, make_outcome("candidate", candidate))


def test_a_server_that_stumbles_is_tried_again_and_one_that_is_gone_costs_little(serve: Serve, tmp_path: Path) -> None:
    endpoint = serve(prefers_good)
    endpoint.troubles = [busy, broken, busy]
    judge = judge_by(endpoint)
    patient = judge.model_copy(
        update={"panel": (judge.panel[0].model_copy(update={"writer": judge.panel[0].writer.model_copy(
            update={"retries": 3, "concurrency": 1})}),)}
    )  # fmt: skip
    assert ask(patient, [POOR], [GOOD]).unfit is None
    endpoint.troubles = [broken] * 100
    found = ask(judge, [POOR] * 20, [GOOD] * 20, tmp_path)
    assert (found.values, found.unjudged) == ({}, 20)
    assert found.unfit is not None
    assert "no answer from the server" in found.unfit
    assert "status 503" in found.unfit
    asked = 100 - len(endpoint.troubles)
    assert 8 <= asked <= 8 + 4, "after eight failures in a row nobody is asked any more"
    endpoint.troubles = []
    assert ask(judge, [POOR] * 20, [GOOD] * 20, tmp_path).unfit is None


def test_a_panel_has_its_mean_and_its_agreement(serve: Serve) -> None:
    good, contrary, again = serve(prefers_good), serve(lambda _: verdict("A")), serve(prefers_good)
    found = ask(judge_by(good, contrary, again), [POOR, GOOD, POOR], [GOOD, POOR, GOOD])
    assert found.values["candidate"].tolist() == [1, 0, 1]
    assert found.alpha is not None
    assert found.alpha.texts == 3
    assert {(one.first, one.second): one.same for one in found.kappas} == {
        ("judge (1)", "judge (2)"): 0, ("judge (1)", "judge (3)"): 1, ("judge (2)", "judge (3)"): 0,
    }  # fmt: skip
    (block,) = list_judge_blocks(JudgedRun({"pairwise": found}))
    assert block.title == "Judge: pairwise"
    assert [len(row) for row in block.tables[0].rows] == [6] * 3
    assert any("Krippendorff's alpha of the panel" in note for note in block.notes)
    assert block.values["judge.pairwise.alpha"] == found.alpha.value


def test_scores_by_probability_are_expected_ones_by_hand(serve: Serve) -> None:
    endpoint = serve(lambda text: weights(**{"4": 0.5, "5": 0.5}) if GOOD in text else weights(**{"1": 1.0}))
    judge = ScoredJudge.model_validate({"panel": [{"writer": model(endpoint)}]})
    found = ask(judge, [POOR, GOOD], [GOOD, GOOD])
    assert found.values["candidate"].tolist() == pytest.approx([0.875, 0.875])
    assert found.values["base"].tolist() == pytest.approx([0, 0.875])
    (verdicts,) = judge.prefer([AnswerPair((), POOR, GOOD)], Panel.of(judge, None))
    assert verdicts[0] is not None
    assert verdicts[0].value == 0


def test_a_folder_weighs_labels_by_their_likelihood_as_whole_answers(tiny_model: Path, tmp_path: Path) -> None:
    from tasks.language_models.generation import score_references

    prompts = [[{"role": "user", "content": text}] for text in ("hello", "which is better")]
    writer = Local(path=str(tiny_model))
    answers = weigh_labels(writer, prompts, ("A", "B", "C"), tmp_path)
    net, tokenizer = load_model(str(tiny_model), "test")
    for prompt, answer in zip(prompts, answers, strict=True):
        losses = score_references(net, tokenizer, [prompt] * 3, ["A", "B", "C"])
        likely = np.exp([-one.mean * one.tokens for one in losses])
        assert answer.labels == pytest.approx(likely / likely.sum(), abs=1e-6)
        assert answer.text == "ABC"[int(likely.argmax())]
    assert weigh_labels(writer, prompts, ("A", "B", "C"), tmp_path) == answers
    judge = PairwiseJudge.model_validate({"panel": [{"writer": {"name": "local", "path": str(tiny_model)}}]})
    found = ask(judge, ["no", "no " * 3000], ["yes", "yes"])
    assert found.weights.tolist() == [1, 0]
    assert found.unfit is not None
    assert "longer than the model's context" in found.unfit


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (verdict("B"), 1), (f"Well:\n```json\n{verdict(' C ')}\n```", 2), (f"[{verdict('A')}]", 0),
        ('{"verdict": "A",}', 0), ("A", "bad JSON"), (verdict("D"), "unknown verdict"), ('{"better": "A"}', "schema"),
        ('{"verdict": ["A"]}', "wrong schema"), ('{"verdict": true}', "wrong schema"),
    ],
)  # fmt: skip
def test_verdicts_in_words(text: str, found: int | str) -> None:
    if isinstance(found, int):
        assert read_label(text, ("A", "B", "C")) == found
    else:
        with pytest.raises(Unusable, match=found):
            read_label(text, ("A", "B", "C"))


def test_a_judge_decides_only_where_people_are_its_measure(serve: Serve) -> None:
    writer = model(serve(prefers_good))
    values: dict[str, Any] = {"judges": [{"name": "pairwise", "panel": [{"writer": writer}]}]}
    assert Evaluation.model_validate(values).judges[0].name == "pairwise"
    values["gate"] = {"must_not_worsen": {"pairwise": 0.05}}
    with pytest.raises(ValidationError, match="pairwise is in the gate and nothing shows that it agrees with people"):
        Evaluation.model_validate(values)
    values["judges"][0]["agreement"] = {"file": "pairs.json", "at_least": 0.7}
    Evaluation.model_validate(values)
    with pytest.raises(ValidationError, match="names one metric or judge twice"):
        Evaluation.model_validate({**values, "judges": values["judges"] * 2})


def test_a_judge_that_disagrees_with_people_is_not_asked_about_the_answers(serve: Serve, tmp_path: Path) -> None:
    rows = [{"input": f"q{n}", "output_1": GOOD, "output_2": POOR, "label": 1} for n in range(20)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, rows)))
    contrary = serve(lambda text: verdict("B" if prefers_good(text) == verdict("A") else "A"))
    agreement = {"file": str(pairs), "at_least": 0.7}
    found = ask(judge_by(contrary, agreement=agreement), [POOR] * 6, [GOOD] * 6)
    assert len(contrary.asked) == 40
    assert found.unfit is not None
    assert re.match(r"it is right on 0.0% \[0.0%, 15.0%\] of 20 pairs of .*, and at least 70% is wanted", found.unfit)
    fair = serve(prefers_good)
    found = ask(judge_by(fair, agreement=agreement), [POOR] * 6, [GOOD] * 6)
    assert found.unfit is None
    assert found.people is not None
    assert found.people.accuracy.value == 1
    assert len(fair.asked) == 52


def test_the_scoreboard_pairs_a_judges_scores_like_those_of_any_metric(serve: Serve) -> None:
    judge = judge_by(serve(prefers_good))
    items = make_items(["right"] * 40)
    outcomes = [make_outcome("base", [POOR] * 40), make_outcome("candidate", [GOOD] * 30 + [POOR] * 10)]
    judged = judge_answers([judge], items, outcomes, None)
    assert judged.figures["judge.pairwise.unjudged"] == 0
    evidence = replace(Evidence(items, None), judged=judged.by_judge)
    values = as_metric(judge).score(evidence, outcomes[1]).values
    board = make_board(items, outcomes, [as_metric(judge)], judged=judged.by_judge)
    one = board.comparisons["candidate_vs_base"]["pairwise"]
    assert (one.mean_a, one.mean_b, one.result) == (values.mean(), 0.5, "better")
    assert one.mean_a == pytest.approx((30 + 5) / 40)


def test_a_judge_that_failed_keeps_the_candidate_out_and_the_other_metrics_go_on(serve: Serve) -> None:
    judge = judge_by(serve(lambda _: "Hm."))
    items = make_items(["yes"] * 120)
    outcomes = [make_outcome("base", ["no"] * 120), make_outcome("candidate", ["yes"] * 120)]
    judged = judge_answers([judge], items, outcomes, None).by_judge
    board = make_board(items, outcomes, [ExactMatch(), as_metric(judge)], judged=judged)
    assert decide(board, "exact_match", 100, {}, None).verdict == "promote"
    kept = decide(board, "exact_match", 100, {"pairwise": 0.05}, None)
    assert kept.verdict == "keep"
    assert kept.reasons[0].startswith(
        "pairwise could not be scored, and nothing is promoted without it: the judge gave"
    )
    assert "pairwise" in board.incomparable
