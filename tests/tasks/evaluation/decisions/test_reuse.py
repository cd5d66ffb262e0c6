"""A set that decides again and again has less to decide with, and none when it is worn out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation.decisions.params import HeldOutReuse
from tasks.evaluation.decisions.reuse import (
    EarlierDecision,
    HeldOutUse,
    count_earlier,
    list_decision,
    measure_overlap,
    read_frozen_champion,
    selection_key,
    show_level,
    sketch_items,
    use_held_out,
)
from tasks.evaluation.params import Bootstrap
from tasks.evaluation.verdict import decide
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome, right_and_wrong

IDS = [f"item{place}" for place in range(400)]


def use(
    candidate: str, earlier: Sequence[EarlierDecision] = (), ids: Sequence[str] = IDS, **reuse: object
) -> HeldOutUse:
    return use_held_out(ids, candidate, earlier, HeldOutReuse.model_validate(reuse), 0.95)


def note(found: HeldOutUse) -> EarlierDecision:
    return EarlierDecision(candidate=found.candidate, items=found.items)


def test_all_decisions_of_a_set_spend_one_error_rate() -> None:
    earlier: list[EarlierDecision] = []
    found: list[HeldOutUse] = []
    for number in range(11):
        found.append(use(f"candidate {number}", earlier))
        earlier.append(note(found[-1]))
    assert (found[0].confidence, found[0].describe()) == (0.95, "")
    assert found[0].false_promotion == pytest.approx(0.025)
    assert [one.confidence for one in found[1:]] == pytest.approx([1 - 2 * 0.025 / 9] * 10)
    assert sum(one.false_promotion for one in found) == pytest.approx(0.05)
    for place, one in enumerate(found[:10]):
        assert one.left == pytest.approx(sum(later.false_promotion for later in found[place + 1 :]))
        assert not one.worn_out
    assert found[10].worn_out
    assert "worn out" in found[10].describe()
    assert found[9].describe().endswith("this was the last, and a fresh set is due")
    assert found[1].describe() == (
        "these items have made 1 earlier decision (one had 100% of them): decision 2 of 10 is judged by intervals of "
        "99.4%"
    )
    assert [one.summarize() for one in (found[0], found[9], found[10])] == [
        "decision 1 of 10 at 95%, 9 left",
        "decision 10 of 10 at 99.4%, the last: a fresh set is due",
        "worn out by 10 decisions; a fresh set is due",
    ]


def test_the_same_candidate_again_is_no_new_decision() -> None:
    first = use("a")
    second = use("b", [note(first)])
    assert use("a", [note(first), note(second)]) == first
    assert use("b", [note(first), note(second)]) == second


def test_without_spending_each_decision_is_like_the_first() -> None:
    found = use("b", [note(use("a"))] * 20, spending="none")
    assert (found.confidence, found.decisions, found.worn_out, found.describe()) == (0.95, None, False, "")


def test_sets_are_the_same_by_their_share_of_common_items() -> None:
    """Of 256 hashes a share of 60% is found within 9 points in all but 3 of 1,000 cases."""
    many = [f"item{place}" for place in range(5_000)]
    now, then = sketch_items(many[:2_000]), sketch_items(many[800:2_800])
    assert measure_overlap(now, then) == pytest.approx(0.6, abs=0.09)
    assert measure_overlap(now, now) == 1.0
    assert measure_overlap(now, sketch_items(many[3_000:])) == 0.0
    # A small set is known whole: all of it is in a larger one, and little of the larger one in it.
    small = sketch_items(many[:100])
    assert measure_overlap(small, now) == 1.0
    assert measure_overlap(now, small) < 0.1
    # Where not one of its hashes is among those that are known of the other, it is taken for the same.
    last = max(many[:2_000], key=selection_key)
    assert measure_overlap(sketch_items([last]), now) == 1.0
    assert sketch_items(reversed(many[:2_000])) == now
    earlier = [EarlierDecision(candidate=name, items=then) for name in "ab"]
    assert count_earlier(now, "c", earlier, 0.3)[0] == 2
    assert count_earlier(now, "c", earlier, 0.9)[0] == 0


def test_a_set_with_new_rows_is_worn_as_long_as_most_of_them_are_old() -> None:
    first = note(use("a"))
    grown = [*IDS, *(f"new{place}" for place in range(200))]
    assert use("b", [first], grown).decision == 2
    renewed = [*IDS[:60], *(f"new{place}" for place in range(340))]
    assert use("b", [first], renewed).decision == 1


def test_a_worn_out_set_promotes_nothing() -> None:
    earlier = [note(use(f"candidate {number}")) for number in range(10)]
    items = make_items(["yes"] * 120)
    outcomes = [make_outcome("base", right_and_wrong(10, 120)), make_outcome("candidate", right_and_wrong(90, 120))]
    board = make_board(items, outcomes)
    verdict = decide(board, "exact_match", 100, {}, None, use("new", earlier[:9]))
    assert (verdict.verdict, verdict.held_out and verdict.held_out.decision) == ("promote", 10)
    assert "this was the last" in verdict.reasons[-1]
    worn = use("new", earlier)
    verdict = decide(board, "exact_match", 100, {}, None, worn)
    assert (verdict.verdict, verdict.items_needed) == ("undecided", None)
    assert verdict.reasons[0] == worn.describe()
    assert verdict.reasons[1].startswith("better than the base")
    assert list_decision(verdict.model_dump()) == note(worn)
    assert list_decision({"verdict": "keep"}) is None


def test_more_resamples_where_the_tail_is_thin() -> None:
    assert Bootstrap().at(0.95) == Bootstrap().model_dump()
    assert Bootstrap(resamples=1_000).at(0.95)["resamples"] == 1_000
    later = Bootstrap(resamples=1_000).at(1 - 2 * 0.025 / 9)
    assert (later["resamples"], later["confidence"]) == (7_200, pytest.approx(0.99444, abs=1e-5))


def test_levels_are_shown_with_the_digits_they_need() -> None:
    assert [show_level(one) for one in (0.95, 0.9, 0.99, 1 - 0.05 / 9, 0.9998)] == [
        "95%", "90%", "99%", "99.4%", "99.98%",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"release": ""}', '{"release": 3}', '{"release": null, "decisions": [{"items": "ab"}]}']
)
def test_a_champion_file_that_says_nothing_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "champion.json"
    path.write_text(text)
    with pytest.raises(PipelineError, match=r"champion.json: does not say who is champion .*`heptune retrain`"):
        read_frozen_champion(path)
    with pytest.raises(PipelineError, match="missing"):
        read_frozen_champion(tmp_path / "none.json")


def test_a_champion_file_is_read_with_its_decisions(tmp_path: Path) -> None:
    path = tmp_path / "champion.json"
    path.write_text('{"release": null, "version": null}')
    assert (read_frozen_champion(path).release, read_frozen_champion(path).decisions) == (None, ())
    earlier = note(use("a"))
    path.write_text(json.dumps({"release": "abc", "version": 1, "decisions": [earlier.model_dump()]}))
    assert (read_frozen_champion(path).release, read_frozen_champion(path).decisions) == ("abc", (earlier,))
