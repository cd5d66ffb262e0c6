"""Open questions of several turns: what is asked next, what the judge reads, and the scores by category."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.endpoint import AnswerEndpoint
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.asking.turns import ask_conversations
from tasks.evaluation.remote.answers import answer_with_endpoint
from tasks.evaluation.remote.by_writer import answer_with_writer
from tasks.evaluation.report.suite_block import describe_suites
from tasks.evaluation.suites.judged_turns import JudgedTurns, list_answers
from tasks.evaluation.suites.scoring import read_suites, score_suites
from tests.endpoint import Endpoint, broken
from tests.tasks.evaluation.boards import make_items, make_outcome
from tests.tasks.evaluation.suites.replies import HOW, write_rows

ROWS = [
    {"turns": ["Name a fruit.", "Why?"], "category": "writing"},
    {"turns": ["Name a tree."], "category": "writing"},
    {"turns": ["1 + 1?", "And 1 + 2?", "And 1 + 3?"], "category": "math"},
]


def make_suite(path: Path, server: Endpoint | None = None, **more: Any) -> JudgedTurns:
    url = server.url if server else "http://127.0.0.1:1/v1"
    writer = {"name": "openai", "url": url, "model": "m", "temperature": 0, "retries": 0}
    values = {"title": "open", "files": write_rows(path / "rows.jsonl", ROWS), "verdicts": str(path / "kept")}
    judge = {"panel": [{"writer": writer}], "verdict": "text"}
    return JudgedTurns.model_validate({**values, "judge": judge, **more})


def test_later_turns_are_asked_after_the_models_own_answers(tmp_path: Path) -> None:
    batches: list[list[Question]] = []

    def ask(questions: Sequence[Question], title: str) -> list[Reply]:
        batches.append(list(questions))
        asked = [one.prompt[-1]["content"] for one in questions if not isinstance(one.prompt, str)]
        return [Reply(unfit="too long") if text == "And 1 + 3?" else Reply(f"re {text}", tokens=2) for text in asked]

    questions = make_suite(tmp_path).read()
    replies = ask_conversations(ask, questions, "m")
    assert [len(batch) for batch in batches] == [3, 2, 1]
    assert batches[1][0].prompt == (
        {"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "re Name a fruit."},
        {"role": "user", "content": "Why?"},
    )  # fmt: skip
    assert len(batches[2][0].prompt) == 5
    assert (replies[0].text, replies[0].later, replies[0].tokens) == ("re Name a fruit.", ("re Why?",), 4)
    assert (replies[1].later, replies[1].unfit, replies[2].unfit) == ((), "", "too long")


def test_models_behind_a_url_are_asked_turn_by_turn_and_compared(tmp_path: Path) -> None:
    """Two servers, one of which loses the thread: it has no third turn, and the question fails for both."""
    judge = Endpoint(lambda text: json.dumps({"verdict": 4}))
    kind, lost = Endpoint(lambda text: f"re {text}"), Endpoint(lambda text: f"re {text}")
    try:
        suite = make_suite(tmp_path, judge)
        asked, items = read_suites([suite]), make_items(["x"])
        far = AnswerEndpoint(kind.url, "m", timeout_s=5, retries=0, concurrency=1)
        outcome = answer_with_endpoint("far", far, items, 9, asked.questions)
        whole = [one for one in outcome.replies["open"] if len(one.later) == 2]
        assert [(one.text, *one.later) for one in whole] == [("re 1 + 1?", "re And 1 + 2?", "re And 1 + 3?")]
        assert [turn["content"] for turn in kind.bodies[-1]["messages"]] == [
            "1 + 1?", "re 1 + 1?", "And 1 + 2?", "re And 1 + 2?", "And 1 + 3?",
        ]  # fmt: skip
        # The item, three first turns, two second ones, then the third.
        assert [len(body["messages"]) for body in kind.bodies] == [1, 1, 1, 1, 3, 3, 5]
        writer = suite.judge.panel[0].writer.model_copy(update={"url": lost.url})
        written = answer_with_writer("written", writer, items, None, asked.questions)
        assert written.replies["open"] == outcome.replies["open"]

        def lose_the_thread(text: str) -> str:
            if text == "And 1 + 2?":
                lost.troubles.append(broken)
            return text

        lost.answer = lose_the_thread
        half = answer_with_endpoint("half", replace(far, url=lost.url), items, 9, asked.questions)
        assert [bool(one.problem) for one in half.replies["open"]] == [
            len(one.later) > 1 for one in outcome.replies["open"]
        ]
        board = score_suites(asked, [outcome, written, half], **HOW, reference="far")
        result = board.results["open"]
        assert set(result.comparisons) == {"written_vs_far", "half_vs_far"}
        assert result.comparisons["half_vs_far"]["score"].items == 2
        (block,) = describe_suites(board)
        assert block.tables[0].columns[3:7] == ["model", "against", "result", "score"]
        assert {tuple(row[3:5]) for row in block.tables[0].rows} == {("written", "far"), ("half", "far")}
        (alone,) = describe_suites(score_suites(asked, [outcome], **HOW, reference="far"))
        assert [row[3] for row in alone.tables[0].rows] == ["far"] * 3
        assert {len(row) for row in alone.tables[0].rows} == {len(alone.tables[0].columns)}
    finally:
        for server in (judge, kind, lost):
            server.close()


def test_scores_are_means_over_turns_and_by_category(tmp_path: Path) -> None:
    """Scores of 1 to 5 stand in the answers, so that the judge can read them there."""

    def answer(text: str) -> str:
        found = re.search(r"<answer>\n(\d)", text)
        return json.dumps({"verdict": int(found[1])}) if found else "?"

    server = Endpoint(answer)
    try:
        suite = make_suite(tmp_path, server, role="guard", margin=0.1)
        asked = read_suites([suite])
        given = [Reply("5", later=("1",)), Reply("3"), Reply("2", later=("3", "4"))]
        better = [Reply("5", later=("5",)), Reply("3"), Reply("2", later=("3", "4"))]
        outcomes = [make_outcome("base", ["x"]), make_outcome("candidate", ["x"])]
        for outcome, replies in zip(outcomes, (given, better), strict=True):
            object.__setattr__(outcome, "replies", {"open": replies})
        board = score_suites(asked, outcomes, **HOW)
        found = board.results["open"]
        assert found.failure == ""
        values = {key: one.value for key, one in found.estimates.items()}
        assert values["base", "score"] == pytest.approx((0.5 + 0.5 + 0.5) / 3)
        assert values["candidate", "score"] == pytest.approx((1 + 0.5 + 0.5) / 3)
        assert values["candidate", "writing"] == pytest.approx(0.75)
        assert values["candidate", "math"] == pytest.approx(0.5)
        # Twelve answers, of which five are the same with the same conversation before them.
        assert len(server.asked) == 7
        object.__setattr__(outcomes[1], "replies", {"open": [Reply("good"), *better[1:]]})
        scores = suite.score(asked.questions["open"], [Reply("good", later=("5",)), *better[1:]])
        (reason,) = scores.failed.values()
        assert reason == "the judge gave no verdict (bad JSON)"
    finally:
        server.close()


def test_a_judge_reads_each_answer_with_the_turns_before_it() -> None:
    question = Question("k", prompt=({"role": "user", "content": "a"},), later=("b",))
    first, second = list_answers(question, Reply("x", later=("y",)))
    assert (first.first, [turn["content"] for turn in first.prompt]) == ("x", ["a"])
    assert (second.first, [turn["content"] for turn in second.prompt]) == ("y", ["a", "x", "b"])


def test_rows_without_turns_are_told(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [{"turns": "Name a fruit."}])
    with pytest.raises(PipelineError, match=r"row 1 has turns 'Name a fruit\.'; expected a list of texts"):
        suite.read()
    assert list(suite.measures) == ["score"]
