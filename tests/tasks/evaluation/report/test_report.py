"""The page as a reader sees it: the verdict in plain English, what would change it, and never too large to open."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts.manifest import read_json
from tasks.evaluation.items import ItemSet
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.metrics.words.rouge_l import RougeL
from tasks.evaluation.report.answer_table import tabulate_answers
from tasks.evaluation.report.background import Background, thin
from tasks.evaluation.report.blocks import MAXIMUM_ROWS, BlockTable, ReportBlock
from tasks.evaluation.report.page import MAXIMUM_SLICES, write_report
from tasks.evaluation.report.sentences import list_turning_points, summarise
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.slices.groups import group_items
from tasks.evaluation.slices.scores import score_slices
from tasks.evaluation.verdict import PromotionVerdict, decide
from tasks.pages.text import show_score
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome, right_and_wrong

MARGINS = {"loss": 0.05}
LARGEST = 5_000_000


def judge(right: int, loss: float = 1.0) -> tuple[Scoreboard, PromotionVerdict]:
    """A champion that is right on 100 of 200 items, and a candidate on so many."""
    items = make_items(["yes"] * 200)
    losses = [loss + 0.001 * (n % 5) for n in range(200)]
    outcomes = [
        make_outcome("base", right_and_wrong(20, 200), [2.0] * 200),
        make_outcome("champion", right_and_wrong(100, 200), [1.0 + 0.002 * (n % 3) for n in range(200)]),
        make_outcome("candidate", right_and_wrong(right, 200), losses),
    ]
    board = make_board(items, outcomes, [ExactMatch(), Loss()])
    return board, decide(board, "exact_match", 100, MARGINS, "abc")


def test_a_promotion_says_by_how_much_and_how_far_it_is_from_not_being_one() -> None:
    board, verdict = judge(150)
    assert summarise(board, verdict).startswith(
        "Promote it: on the same 200 held-out items the candidate's exact match is 0.750 and the champion's 0.500; "
        "with 95% confidence it is better by 0.1"
    )
    assert summarise(board, verdict).endswith(", and nothing that must not worsen did.")
    lead, loss = list_turning_points(board, verdict, 100, MARGINS)
    low = board.against_opponent["exact_match"].low
    assert lead.startswith(f"About {-(-low * 200 // 1):.0f} of the candidate's right answers on 200 items being wrong")
    worst = board.against_opponent["loss"].possible_worsening
    assert loss == (
        f"Loss {show_score(0.05 - worst)} worse than it came out: it may be {show_score(worst)} worse at most, and "
        "0.05 worse is allowed."
    )


def test_what_keeps_a_candidate_out_is_what_would_have_to_change() -> None:
    board, verdict = judge(90)
    assert verdict.verdict == "keep"
    assert summarise(board, verdict).startswith("Keep the champion: ")
    assert "it is worse by" in summarise(board, verdict)
    board, verdict = judge(150, loss=1.2)
    assert verdict.verdict == "keep"
    assert summarise(board, verdict).endswith("but another of its rules keeps it out.")
    points = list_turning_points(board, verdict, 100, MARGINS)
    assert points[0].startswith("Loss that is proven to be no more than 0.05 worse; it may be 0.2")
    assert points[-1] == "A person with a reason: `heptune promote --force --reason ...`."


def test_an_undecided_one_says_how_many_items_would_settle_it() -> None:
    board, verdict = judge(102)
    assert verdict.verdict == "undecided"
    sentence = summarise(board, verdict)
    assert "Undecided, so the champion stays in use" in sentence
    assert f"; about {verdict.items_needed:,} items would settle it." in sentence
    assert "anything from " in sentence
    points = list_turning_points(board, verdict, 300, MARGINS)
    assert points[0] == "At least 300 scored items; there are 200."
    assert "A true gain in exact match of " in points[1]
    assert "what was found is 0.0100 more." in points[1]
    assert f"About {verdict.items_needed:,} held-out items instead of 200" in points[2]


def write_large(folder: Path, items: int, answer: str) -> tuple[Path, Path]:
    """A page over items whose texts are long and need many bytes, with a label each and blocks of many rows."""
    texts = [f"{answer} {n}" for n in range(items)]
    chosen = make_items(texts, [f"label <{n}> " + "\U0001f600" * 80 for n in range(items)])
    turns = tuple({"role": "user", "content": answer} for _ in range(30))
    chosen = tuple(replace(item, prompt=turns) for item in chosen)
    outcomes = [
        make_outcome("base", ["<x>" * 500] * items),
        make_outcome("champion", ["&\u0301" * 500 if n % 2 else texts[n] for n in range(items)]),
        make_outcome("candidate", [texts[n] if n % 2 else answer for n in range(items)]),
    ]
    board = make_board(chosen, outcomes, [ExactMatch()])
    verdict = decide(board, "exact_match", 10, {}, None if items < 0 else "abc")
    groupings = group_items(chosen, ("source", "label", "length"))
    slices = score_slices(board, "exact_match", groupings.found, 1_000, 0)
    rows = [[answer[:200], n] for n in range(1000)]
    block = ReportBlock("Benchmarks", "Many.", (BlockTable("Rows", ["a", "b"], rows, "All."),), values={"rows": 1000})
    curve = [{"step": n, "loss": 1 / (n + 1), "eval_loss": 2 / (n + 1)} for n in range(20_000)]
    settings = {"gate": {"minimum_items": 10, "must_not_worsen": {}}, "examples": 200}
    background = Background(curve, {"text": "It fell.", "marked_step": 5, "shape": "falling"})
    page = folder / "index.html"
    write_report(ItemSet(chosen, items, 0, 0), board, verdict, groupings, slices, background, settings, [block], page)
    return page, page.with_name("report.json")


def test_page_and_json_are_bounded_whatever_the_items_hold(tmp_path: Path) -> None:
    page, everything = write_large(tmp_path, 400, "<b>\U0001f600&</b> " * 100)
    assert page.stat().st_size < LARGEST
    assert everything.stat().st_size < LARGEST
    html = page.read_text()
    assert html.count("<article") >= 20
    assert "of them are below, the largest changes first" in html
    assert f"{1000 - MAXIMUM_ROWS:,} more rows are in report.json." in html
    assert "24 earlier turns" in html
    assert "<b>\U0001f600" not in html
    found = read_json(everything)
    assert found["blocks"] == [{"title": "Benchmarks", "summary": "Many.", "rows": 1000}]
    assert found["scores"]["candidate"]["exact_match"]["items"] == 400
    assert {one["by"] for one in found["slices"]} == {"source", "label", "length"}


def test_the_table_for_mlflow_has_what_changed_first_and_is_bounded() -> None:
    board, _ = judge(150)
    columns = tabulate_answers(board, "exact_match")
    assert columns["change"][:51] == ["better"] * 50 + ["same"]
    assert columns["candidate"][:51] == ["yes"] * 51
    assert columns["champion"][0] == "no"
    assert columns["exact_match, champion"][0] == 0.0
    assert {len(values) for values in columns.values()} == {200}
    large = make_items(["x" * 3000] * 1500)
    outcomes = [make_outcome(name, ["y" * 3000] * 1500) for name in ("base", "candidate")]
    board = make_board(large, outcomes, [ExactMatch()])
    text = json.dumps(tabulate_answers(board, "exact_match"))
    assert 1_000_000 < len(text) < 2_000_000
    nothing_asked = tuple(replace(item, prompt=()) for item in large)
    assert tabulate_answers(replace(board, items=nothing_asked), "exact_match") == {}


def test_few_short_items_are_all_there(tmp_path: Path) -> None:
    page, everything = write_large(tmp_path, 30, "yes")
    assert page.read_text().count("<article") == 30
    assert "of them are below" not in page.read_text()
    assert page.read_text().count("<td>too small</td>") >= MAXIMUM_SLICES, "labels of one item each"
    assert len(read_json(everything)["examples"]) == 30


@pytest.mark.parametrize(("count", "kept"), [(5, 5), (400, 400), (401, 201), (20_000, 400)])
def test_a_long_curve_is_thinned_to_its_end(count: int, kept: int) -> None:
    found = thin(list(range(count)))
    assert len(found) == kept
    assert found[-1] == count - 1


def test_metrics_that_are_no_shares_are_not_called_right_or_wrong(tmp_path: Path) -> None:
    items = make_items(["the cat sat on the mat"] * 30)
    outcomes = [
        make_outcome("base", ["the cat"] * 30),
        make_outcome("candidate", ["the cat sat"] * 20 + ["dog"] * 10),
    ]
    board = make_board(items, outcomes, [RougeL()])
    verdict = decide(board, "rouge_l", 10, {}, None)
    groupings = group_items(items, ("source",))
    slices = score_slices(board, "rouge_l", groupings.found, 1_000, 0)
    settings = {"gate": {"minimum_items": 10, "must_not_worsen": {}}, "examples": 3}
    page = tmp_path / "index.html"
    write_report(ItemSet(items, 30, 0, 0), board, verdict, groupings, slices, Background(), settings, [], page)
    html = page.read_text()
    assert "Better: 20 of 30; Worse: 10 of 30, judged by ROUGE-L." in html
    assert "0.500 → 0.667" in html
