"""Open questions of several turns: what is asked next, what the judge reads, and the scores by category."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking import turns as conversations
from tasks.evaluation.asking.ask import AnswerLimits
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.suites.judged_turns import JudgedTurns, list_answers
from tasks.evaluation.suites.scoring import read_suites, score_suites
from tests.endpoint import Endpoint
from tests.tasks.evaluation.boards import make_outcome
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


def test_later_turns_are_asked_after_the_models_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[Question]] = []

    def ask(model: Any, tokenizer: Any, questions: Sequence[Question], limits: AnswerLimits, title: str) -> list[Reply]:
        batches.append(list(questions))
        asked = [one.prompt[-1]["content"] for one in questions if not isinstance(one.prompt, str)]
        return [Reply(unfit="too long") if text == "And 1 + 3?" else Reply(f"re {text}", tokens=2) for text in asked]

    monkeypatch.setattr(conversations, "ask_questions", ask)
    questions = make_suite(tmp_path).read()
    replies = conversations.ask_conversations(None, None, questions, AnswerLimits(8, 4), "m")
    assert [len(batch) for batch in batches] == [3, 2, 1]
    assert batches[1][0].prompt == (
        {"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "re Name a fruit."},
        {"role": "user", "content": "Why?"},
    )  # fmt: skip
    assert len(batches[2][0].prompt) == 5
    assert (replies[0].text, replies[0].later, replies[0].tokens) == ("re Name a fruit.", ("re Why?",), 4)
    assert (replies[1].later, replies[1].unfit, replies[2].unfit) == ((), "", "too long")


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
