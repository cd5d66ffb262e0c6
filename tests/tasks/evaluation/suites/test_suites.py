"""Suites: what they read and score, and what the gate makes of it; everything that is missing counts against."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from flows.wiring.params import validate
from flows.wiring.suite_files import list_suite_files
from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.question import Reply
from tasks.evaluation.metrics.metric import Scores
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.params import Evaluation
from tasks.evaluation.publish import write_figures
from tasks.evaluation.report.blocks import add_block
from tasks.evaluation.report.suite_block import describe_suites
from tasks.evaluation.suites.known_answers import KnownAnswers, is_right
from tasks.evaluation.suites.multiple_choice import MultipleChoice
from tasks.evaluation.suites.run_data import RunData
from tasks.evaluation.suites.scoring import NO_SUITES, SuiteBoard, read_suites, score_suites
from tasks.evaluation.suites.suite import SuiteScores
from tasks.evaluation.verdict import PromotionVerdict, decide
from tasks.pages.page import Page
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome, right_and_wrong
from tests.tasks.evaluation.suites.replies import HOW, answer_all, make_facts, run_suite, write_facts, write_rows
from tests.tiny import example_rows, write_examples

NONE: Callable[[int], bool] = lambda place: False  # noqa: E731
GUARD: dict[str, Any] = {"role": "guard", "margin": 0.1}


def judge(suites: SuiteBoard) -> PromotionVerdict:
    """The verdict on a candidate that is better on the held-out items."""
    board = make_board(
        make_items(["yes"] * 60),
        [make_outcome("base", right_and_wrong(20, 60)), make_outcome("candidate", right_and_wrong(50, 60))],
        (ExactMatch(),),
    )
    return decide(board, "exact_match", 20, {}, None, suites=suites)


def test_a_guard_lets_pass_what_is_not_worse_and_stops_what_is(tmp_path: Path) -> None:
    guard = make_facts(tmp_path / "facts.jsonl", 200, **GUARD)
    equal = run_suite(guard, {"base": lambda n: n % 10 == 0, "candidate": lambda n: n % 10 == 1})
    verdict = judge(equal)
    assert verdict.verdict == "promote", verdict.reasons
    assert any("facts, right answers" in reason for reason in verdict.reasons)
    worse = judge(run_suite(guard, {"base": NONE, "candidate": lambda n: n % 2 == 0}))
    assert worse.verdict == "keep"
    assert "by more than its margin of 0.1" in " ".join(worse.reasons)
    unclear = judge(run_suite(guard, {"base": NONE, "candidate": lambda n: n % 13 == 0}))
    assert unclear.verdict == "undecided"
    assert unclear.items_needed is not None
    shown = make_facts(tmp_path / "facts.jsonl", 200)
    assert judge(run_suite(shown, {"base": NONE, "candidate": lambda n: n % 2 == 0})).verdict == "promote"


def nan_scores(self: Any, questions: Any, replies: Any) -> SuiteScores:
    values = np.ones(len(questions))
    values[3] = np.nan
    return SuiteScores({"right": Scores(values, np.ones(len(questions)))})


def raising_scores(self: Any, questions: Any, replies: Any) -> SuiteScores:
    raise KeyError("gold")


def problem_of_the_candidate(model: str, replies: list[Reply]) -> list[Reply]:
    broken = replace(replies[0], problem="the server answered 500 five times")
    return [broken, *replies[1:]] if model == "candidate" else replies


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ("missing", "there is no such file"),
        ("empty", "no rows"),
        ("nan", "right is not a number"),
        ("raises", "scoring base raised KeyError: 'gold'"),
        ("problem", "the server answered 500 five times"),
        ("unfit", "no question could be scored (too long)"),
        ("one raises", "no word in the right answer"),
    ],
)
def test_a_guard_that_failed_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, expected: str
) -> None:
    guard = make_facts(tmp_path / "facts.jsonl", **GUARD)
    edit: Callable[[str, list[Reply]], list[Reply]] | None = None
    if trouble == "missing":
        (tmp_path / "facts.jsonl").unlink()
    elif trouble == "empty":
        (tmp_path / "facts.jsonl").write_text("\n")
    elif trouble == "nan":
        monkeypatch.setattr(KnownAnswers, "score", nan_scores)
    elif trouble == "raises":
        monkeypatch.setattr(KnownAnswers, "score", raising_scores)
    elif trouble == "problem":
        edit = problem_of_the_candidate
    elif trouble == "unfit":
        edit = lambda model, replies: [Reply(unfit="too long")] * len(replies)  # noqa: E731
    elif trouble == "one raises":
        with (tmp_path / "facts.jsonl").open("a") as file:
            file.write(json.dumps({"question": "What is nothing?", "answer": "..."}) + "\n")
    board = run_suite(guard, {"base": NONE, "candidate": NONE}, edit)
    verdict = judge(board)
    assert verdict.verdict == "keep", verdict.reasons
    assert expected in " ".join(verdict.reasons)
    assert verdict.items_needed is None
    (block,) = describe_suites(board)
    assert expected in " ".join(block.notes)
    page = Page("Evaluation", "", "", "warn", stage="evaluation")
    add_block(page, block)
    assert "facts" in page.render()
    # The others were scored all the same.
    assert board.results["facts"].scored == {"nan": 59, "problem": 59, "one raises": 60}.get(trouble, 0)
    shown = replace(board, results={"facts": replace(board.results["facts"], suite=make_facts(tmp_path / "x.jsonl"))})
    assert judge(shown).verdict == "promote"


def test_a_model_that_was_not_asked_fails_the_guard(tmp_path: Path) -> None:
    board = run_suite(make_facts(tmp_path / "facts.jsonl", **GUARD), {"base": NONE, "candidate": NONE})
    assert judge(board).verdict == "promote"
    board = run_suite(make_facts(tmp_path / "facts.jsonl", **GUARD), {"base": NONE})
    verdict = judge(board)
    assert verdict.verdict == "keep"
    assert "could not be compared with the base" in " ".join(verdict.reasons)


def test_questions_that_do_not_fit_are_left_out_for_all(tmp_path: Path) -> None:
    def edit(model: str, replies: list[Reply]) -> list[Reply]:
        return [Reply(unfit="too long"), *replies[1:]] if model == "candidate" else replies

    board = run_suite(make_facts(tmp_path / "f.jsonl", **GUARD), {"base": lambda n: n == 0, "candidate": NONE}, edit)
    result = board.results["facts"]
    assert (result.questions, result.scored, result.unfit) == (60, 59, {"too long": 1})
    assert result.estimates["base", "right"].value == 1
    assert judge(board).verdict == "promote"


def test_differences_are_paired_and_clusters_are_drawn_whole(tmp_path: Path) -> None:
    """Four versions of each question count as one: the interval is that of a quarter of the questions."""
    rows = [{"question": f"Fact {n % 50}?", "answer": f"fact number {n}"} for n in range(200)]
    files = write_rows(tmp_path / "same.jsonl", rows)
    clustered = KnownAnswers(title="facts", files=files)
    wide = run_suite(clustered, {"base": NONE, "candidate": lambda n: n % 50 < 10}).results["facts"]
    alone = run_suite(
        make_facts(tmp_path / "facts.jsonl", 200), {"base": NONE, "candidate": lambda n: n % 50 < 10}
    ).results["facts"]
    one, other = (each.comparisons["candidate_vs_base"]["right"] for each in (wide, alone))
    assert one.difference == other.difference == pytest.approx(-0.2)
    assert (one.high - one.low) / (other.high - other.low) == pytest.approx(2, rel=0.15)


def test_without_suites_nothing_is_written_about_them(tmp_path: Path) -> None:
    board = make_board(
        make_items(["yes"] * 20), [make_outcome("base", ["no"] * 20), make_outcome("candidate", ["yes"] * 20)]
    )
    verdict = decide(board, "exact_match", 2, {}, None)
    write_figures(board, verdict, tmp_path / "a.json", tmp_path / "h.json")
    assert not [name for name in json.loads((tmp_path / "a.json").read_text()) if name.startswith("suites.")]
    assert describe_suites(NO_SUITES) == []
    assert Evaluation().suites == ()
    facts = run_suite(make_facts(tmp_path / "f.jsonl"), {"base": NONE, "candidate": NONE})
    write_figures(board, verdict, tmp_path / "b.json", tmp_path / "h.json", facts)
    figures = json.loads((tmp_path / "b.json").read_text())
    assert figures["suites.facts.candidate.right"] == 1
    assert figures["suites.facts.candidate_vs_base.right.difference"] == 0


def test_the_selection_does_not_depend_on_the_order(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(write_facts(tmp_path / "a.jsonl", 80)).read_text().splitlines()]
    chosen = []
    for number, some in enumerate((rows, rows[::-1], rows[:-1])):
        files = write_rows(tmp_path / f"{number}.jsonl.gz", some)
        chosen.append({one.key for one in KnownAnswers(title="facts", files=files, items=30).read()})
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 30
    assert len(chosen[0] - chosen[2]) <= 1


def test_multiple_choice_by_hand(tmp_path: Path) -> None:
    """The example of the page: by sum "hot", by character "very cold"."""
    rows = [{"query": "The sun is", "choices": ["hot", "very cold"], "gold": 0}]
    suite = MultipleChoice(title="sun", files=write_rows(tmp_path / "sun.jsonl", rows))
    (question,) = suite.read()
    assert [option.text for option in question.options] == [" hot", " very cold"]
    found = suite.score([question], [Reply(log_likelihoods=(-2.1, -3.0))])
    assert {name: one.values.tolist() for name, one in found.scores.items()} == {
        "accuracy": [1],
        "normalised_accuracy": [0],
    }


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"query": "a", "choices": ["x"], "gold": 0}, "has 1 choices and gold 0"),
        ({"query": "a", "choices": ["x", "y"], "gold": 2}, "gold 2; expected two or more"),
        ({"query": "a", "gold": 0}, "row 1 has no choices (it has gold, query)"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    suite = MultipleChoice(title="x", files=write_rows(tmp_path / "x.jsonl", [row]))
    with pytest.raises(PipelineError, match="mend the file") as raised:
        suite.read()
    assert expected in str(raised.value)
    assert expected in read_suites([suite]).failures["x"]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.csv", "question,answer\nWhat?,This\n", [{"question": "What?", "answer": "This"}]),
        (
            "a.json",
            '{"examples": [{"question": "What?", "answer": "This"}]}',
            [{"question": "What?", "answer": "This"}],
        ),
        ("a.txt", "one\n\ntwo\n", [{"text": "one"}, {"text": "two"}]),
        ("a.jsonl", '{"a": "x\u2028y"}\n', [{"a": "x\u2028y"}]),
    ],
)
def test_files_of_each_kind_are_read(tmp_path: Path, name: str, content: str, rows: list[dict[str, str]]) -> None:
    from tasks.evaluation.suites.files import read_rows

    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_rows(str(tmp_path / name)) == rows
    (tmp_path / "other.bin").write_text("not read")
    assert read_rows(str(tmp_path)) == rows
    (tmp_path / name).write_bytes(b"\xff\xfe{")
    with pytest.raises(PipelineError, match=r"cannot be read|no list of objects"):
        read_rows(str(tmp_path / name))


@pytest.mark.parametrize(
    ("expected", "answer", "match", "right"),
    [
        ("8 pm", "We are open until 8 PM.", "contains", True),
        ("8 pm", "We are open until 8 or 9 pm.", "contains", False),
        ("The Broncos", "broncos!", "equals", True),
        ("The Broncos", "the broncos won", "equals", False),
        ("#### 1,200", "so 3 x 400 = 1200", "number", True),
        ("#### 12", "no idea", "number", False),
    ],
)
def test_known_answers_by_hand(expected: str, answer: str, match: Any, right: bool) -> None:
    assert is_right(expected, answer, match) is right


@pytest.mark.parametrize(
    ("suites", "expected"),
    [
        ([{"name": "known_answers", "title": "a", "files": "x", "role": "guard"}], "has no margin"),
        ([{"name": "known_answers", "title": "a", "files": "x", "margin": 0.1}], "is read by guards only"),
        ([{"name": "known_answers", "title": "a", "files": "x"}] * 2, "several are called a"),
        ([{"name": "known_answers", "title": "a?b", "files": "x"}], "String should match pattern"),
    ],
)
def test_wrong_params_are_told(suites: list[dict[str, Any]], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Evaluation.model_validate({"suites": suites})


def test_questions_in_the_training_rows_are_counted_and_fail_the_guard(tmp_path: Path) -> None:
    """By words, in any case, amid others; what is in many questions, and what is short, gives nothing away."""
    asked = "Which of the two rivers behind the old mill carries more water in spring"
    rows = [{"question": f"Answer in one word. {asked} of {n}?", "answer": f"river {n}"} for n in (1, 2)]
    often = "Answer in one word, and take your time with it: number"
    rows += [{"question": f"{often} {n}?", "answer": "x"} for n in range(20)]
    rows.append({"question": "Is it open?", "answer": "x"})
    train = example_rows(30)
    train[7]["messages"] = [
        {"role": "user", "content": f"By the way, {asked.upper()} OF 1, I ask you?"},
        {"role": "assistant", "content": "Answer in one word, and take your time with it: number yes."},
    ]
    guard = KnownAnswers.model_validate({"title": "facts", "files": write_rows(tmp_path / "f.jsonl", rows), **GUARD})
    asked_of = read_suites([guard], RunData((), write_examples(tmp_path / "train.parquet", train)))
    assert set(asked_of.seen["facts"]) == {f"{row['question']}\n{row['answer']}" for row in rows[:2]}
    assert asked_of.figures["facts.seen_in_training"] == 2
    train[8]["messages"] = [{"role": "user", "content": "is it open"}, {"role": "assistant", "content": "Yes."}]
    asked_of = read_suites([guard], RunData((), write_examples(tmp_path / "train.parquet", train)))
    assert len(asked_of.seen["facts"]) == 3
    outcomes = []
    for model in ("base", "candidate"):
        outcome = make_outcome(model, ["x"])
        object.__setattr__(outcome, "replies", {"facts": answer_all(asked_of.questions["facts"], NONE)})
        outcomes.append(outcome)
    board = score_suites(asked_of, outcomes, **HOW)
    assert board.results["facts"].scored == 20
    verdict = judge(board)
    assert verdict.verdict == "keep"
    assert "3 of 23 questions could not be scored (the first: it stands in 1 training rows" in " ".join(verdict.reasons)


def test_data_preparation_is_told_the_files_of_suites(tmp_path: Path) -> None:
    suites = [
        {"name": "known_answers", "title": "facts", "files": "data/suites/facts.jsonl"},
        {"name": "reasoning", "files": str(tmp_path)},
        {"name": "lm_eval", "task": "hellaswag"},
    ]
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k/train.jsonl.gz").write_bytes(b"")
    values = {
        "evaluation": {"suites": suites},
        "data_preparation": {"contamination": {"benchmarks": [{"title": "facts", "path": "other.jsonl"}]}},
    }
    found = {one.title: one.path for one in list_suite_files(validate(values, "test"))}
    assert found["suite facts"] == "data/suites/facts.jsonl"
    assert found["local_gsm8k"] == str(tmp_path / "gsm8k/train.jsonl.gz")
    assert len([title for title in found if title.startswith("local_bbh_")]) == 14
    assert "hellaswag" not in found
    assert list_suite_files(validate({}, "test")) == []
