"""Any number of models on the same items: order, differences to the first, and the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts.manifest import read_json
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.metrics.words.number_match import NumberMatch
from tasks.evaluation.outcomes import Outcome
from tasks.evaluation.ranking import ModelRanking, rank_models
from tasks.evaluation.report.differences import MOST_ROWS, OriginChange, find_differences
from tasks.evaluation.report.ranking import describe_ranking, tabulate_differences, write_ranking
from tasks.evaluation.slices.groups import group_items
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome, right_and_wrong

ITEMS = make_items(["yes"] * 80)
HOW = {"resamples": 1_000, "confidence": 0.95, "power": 0.8, "seed": 0}


def rank(*outcomes: Outcome) -> ModelRanking:
    return rank_models(Evidence(ITEMS, None), outcomes, [ExactMatch(), Loss(), NumberMatch()], **HOW)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def three() -> ModelRanking:
    return rank(
        make_outcome("base", right_and_wrong(40, 80), [2.0] * 80),
        make_outcome("version 1", right_and_wrong(41, 80), [1.5] * 80, [2] * 80),
        make_outcome("models/other <b>", right_and_wrong(70, 80), [1.0] * 80),
    )


def test_the_best_stands_first_and_all_are_compared_with_the_first_named(three: ModelRanking) -> None:
    assert three.models == ("models/other <b>", "version 1", "base")
    assert three.reference == "base"
    assert three.comparisons["models/other <b>", "exact_match"].result == "better"
    assert three.comparisons["version 1", "exact_match"].result == "undecided"
    assert ("base", "exact_match") not in three.comparisons
    assert three.figures["models/other <b>.exact_match.difference"] == pytest.approx(30 / 80)
    assert describe_ranking(three) == (
        "3 models on the same 80 held-out items. Best on exact match: models/other <b> (0.875). Proven better than "
        "base: models/other <b>."
    )


def test_other_tokens_are_not_compared_and_what_does_not_apply_is_named(three: ModelRanking) -> None:
    assert ("version 1", "loss") not in three.comparisons
    assert ("models/other <b>", "loss") in three.comparisons
    assert ["version 1", "Loss", "other tokens: not comparable", "–", "–", "–"] in tabulate_differences(three)[1]
    assert three.not_applicable == {"number_match": "no reference has a number"}


def test_the_differences_are_those_of_the_stage(three: ModelRanking) -> None:
    """The same items, draws and tests, whoever asks."""
    board = make_board(
        ITEMS,
        [make_outcome("base", right_and_wrong(40, 80)), make_outcome("candidate", right_and_wrong(70, 80))],
        [ExactMatch()],
    )
    found = three.comparisons["models/other <b>", "exact_match"]
    assert found.difference == board.comparisons["candidate_vs_base"]["exact_match"].difference
    assert found.checks == board.comparisons["candidate_vs_base"]["exact_match"].checks


def test_the_page_tells_it(three: ModelRanking, tmp_path: Path) -> None:
    page, figures = tmp_path / "leaderboard/index.html", tmp_path / "leaderboard/metrics.json"
    write_ranking(three, "Leaderboard", ["Something to know."], page, figures)
    html = page.read_text()
    assert "<b>" not in html.split("models/other")[1][:20]
    assert "Something to know." in html
    assert "no reference has a number" in html
    assert read_json(figures)["models"] == ["models/other <b>", "version 1", "base"]
    alone = rank(make_outcome("base", right_and_wrong(40, 80)))
    write_ranking(alone, "Models compared", [], page, figures)
    assert "Differences" not in page.read_text()
    assert describe_ranking(alone).endswith("Best on exact match: base (0.500).")


def test_two_models_are_compared_answer_by_answer_with_what_is_behind_them(three: ModelRanking, tmp_path: Path) -> None:
    other = "models/other <b>"
    origins = {
        "version 1": ([OriginChange("params", "training_setup.epochs", 2, 3)], "41 settings are the same."),
        other: ([OriginChange("code", f"file {n}", None, "x" * 900) for n in range(MOST_ROWS + 5)], ""),
    }
    groupings = group_items(ITEMS, ("source",))
    found = {one.after: one for one in find_differences(three, origins, groupings, 12)}
    assert list(found) == [other, "version 1"], "in the order of the ranking"
    assert (len(found["version 1"].better), len(found["version 1"].worse)) == (1, 0)
    assert (len(found[other].better), len(found[other].examples)) == (30, 12)
    page, figures = tmp_path / "model_differences/index.html", tmp_path / "model_differences/metrics.json"
    write_ranking(three, "Models compared", [], page, figures, list(found.values()))
    html = page.read_text()
    assert "Behind version 1 and base" in html
    assert "41 settings are the same." in html
    assert "5 more are in metrics.json." in html
    assert "Better: 30 of 80; worse: 0, judged by exact match. 12 are below." in html
    assert "wrong → right" in html
    assert html.count("<article") == 13
    values = read_json(figures)["differences"]
    assert values[1]["origins"] == [{"part": "params", "what": "training_setup.epochs", "before": 2, "after": 3}]
    assert len(values[0]["origins"]) == MOST_ROWS + 5
    assert values[1]["examples"][0]["answers"] == {"base": "no", "version 1": "yes"}
