"""Any number of models on the same items: order, differences to the first, and the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts.manifest import read_json
from tasks.evaluation.metrics.exact_match import ExactMatch
from tasks.evaluation.metrics.loss import Loss
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.number_match import NumberMatch
from tasks.evaluation.outcomes import Outcome
from tasks.evaluation.ranking import ModelRanking, rank_models
from tasks.evaluation.ranking_report import describe_ranking, tabulate_differences, write_ranking
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
