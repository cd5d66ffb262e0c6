"""Agreement with people and between judges, by numbers worked out by hand and published ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.corpus.agreement import measure_alpha
from tasks.evaluation.judges.page import describe_agreement, write_agreement
from tasks.evaluation.judges.people import compare_with_people, read_labelled_pairs


def row(label: int, winners: tuple[str, str] | None = None, first: str = "long answer", **more: Any) -> dict[str, Any]:
    found = {"input": "q", "output_1": first, "output_2": "short", "label": label, **more}
    if winners:
        orders = zip((False, True), winners, strict=True)
        found["results"] = [{f"swap = {swap}": {"winner": winner} for swap, winner in orders}]
    return found


def write(path: Path, rows: Any) -> Path:
    data = json.dumps(rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_recorded_verdicts_are_counted_by_hand(tmp_path: Path) -> None:
    """Right in both orders, wrong in both, always the first shown, a tie and a win, and right with the shorter."""
    rows = [
        row(1, ("1", "1")), row(2, ("1", "1")), row(1, ("1", "2")), row(1, ("tie", "1")), row(2, ("2", "2")),
    ]  # fmt: skip
    labelled = read_labelled_pairs(write(tmp_path / "judge.json.gz", rows))
    found = compare_with_people("recorded", labelled, [one.recorded for one in labelled])
    assert (found.pairs, found.unjudged) == (5, 0)
    assert found.accuracy.value == pytest.approx((1 + 0 + 0.5 + 0.5 + 1) / 5)
    assert found.forward.value == pytest.approx((1 + 0 + 1 + 0.5 + 1) / 5)
    assert found.backward.value == pytest.approx((1 + 0 + 0 + 1 + 1) / 5)
    assert found.position.value == pytest.approx((0.5 + 0.5 + 1 + 0.25 + 0.5) / 5)
    assert found.consistency.value == pytest.approx(3 / 5)
    assert (found.longer.value, found.longer.pairs) == (pytest.approx(2 / 3), 3)
    assert found.people_longer.value == pytest.approx(3 / 5)
    # Decided: (1, 1), (2, 1), (2, 2): agreement 2/3, by chance 1/3 x 2/3 + 2/3 x 1/3 = 4/9.
    assert found.kappa == pytest.approx((2 / 3 - 4 / 9) / (5 / 9))
    # Sure (1.0) of three, right on two; at 0.5 and 0.75 half right.
    assert [(one.confidence, one.right.value) for one in found.reliability] == [
        (0.5, 0.5), (0.75, 0.5), (1.0, pytest.approx(2 / 3)),
    ]  # fmt: skip
    assert found.calibration_error == pytest.approx((0 + 0.25 + 3 * (1 - 2 / 3)) / 5)
    write_agreement(found, tmp_path / "judge.json.gz", [], tmp_path / "index.html", tmp_path / "metrics.json")
    page = (tmp_path / "index.html").read_text()
    assert "recorded agrees with people on 60.0%" in page
    assert page.count("<svg") == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["accuracy"] == pytest.approx(0.6)


def test_a_judge_that_always_says_first_is_described_as_such(tmp_path: Path) -> None:
    labelled = read_labelled_pairs(write(tmp_path / "a.json", [row(1 + n % 2, ("1", "2"), f"a{n}") for n in range(30)]))
    found = compare_with_people("coin", labelled, [one.recorded for one in labelled])
    assert found.accuracy.value == 0.5
    assert "it favours the answer shown first (100% of the shares" in describe_agreement(found)
    assert found.kappa is None


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "no rows; expected rows of input"),
        ({"input": "q"}, "no rows"),
        ([row(1), row(3)], "row 2: expected rows of input, output_1, output_2 and label, 1 or 2; fix the row"),
        ([{**row(1), "output_2": None}], "row 1: expected"),
        (["text"], "row 1: expected"),
    ],
)
def test_files_that_hold_no_pairs(rows: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=why):
        read_labelled_pairs(write(tmp_path / "pairs.json", rows))
    (tmp_path / "pairs.json").write_text("{'a'")
    with pytest.raises(PipelineError, match="neither JSON nor JSON Lines"):
        read_labelled_pairs(tmp_path / "pairs.json")
    with pytest.raises(PipelineError, match="cannot be read"):
        read_labelled_pairs(tmp_path / "none.json")


def test_alpha_is_krippendorffs() -> None:
    """The example of Krippendorff 2011, section E: four observers, twelve units; 0.743 nominal, 0.849 interval."""
    observers = ("123321412---", "1233224125-3", "-3332342251-", "12332441251-")
    units = [
        {str(number): each[unit] for number, each in enumerate(observers) if each[unit] != "-"} for unit in range(12)
    ]
    nominal, interval = measure_alpha(units, 100).value, measure_alpha(units, 100, ordered=True).value
    assert (nominal, interval) == (pytest.approx(0.743, abs=5e-4), pytest.approx(0.849, abs=5e-4))
