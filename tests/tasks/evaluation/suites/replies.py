"""Made-up suites, replies and models for the tests of suites."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.suites.known_answers import KnownAnswers
from tasks.evaluation.suites.scoring import SuiteBoard, read_suites, score_suites
from tasks.evaluation.suites.suite import Suite
from tests.tasks.evaluation.boards import make_outcome

HOW: dict[str, Any] = {"resamples": 1_000, "confidence": 0.95, "power": 0.8, "seed": 0}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON Lines, packed where the name says so."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def write_facts(path: Path, count: int) -> str:
    return write_rows(path, [{"question": f"What is fact {n}?", "answer": f"fact number {n}"} for n in range(count)])


def make_facts(path: Path, count: int = 60, **params: Any) -> KnownAnswers:
    """A suite whose right answers are "fact number 0" and so on."""
    return KnownAnswers.model_validate({"title": "facts", "files": write_facts(path, count), **params})


def answer_all(questions: Sequence[Question], wrong: Callable[[int], bool]) -> list[Reply]:
    """The right answers, but where ``wrong`` says so of the place."""
    return [
        Reply("I do not know." if wrong(place) else f"It is {one.facts['answer']}.", tokens=5)
        for place, one in enumerate(questions)
    ]


def run_suite(
    suite: Suite,
    wrong: Mapping[str, Callable[[int], bool]],
    edit: Callable[[str, list[Reply]], list[Reply]] | None = None,
) -> SuiteBoard:
    """Score made-up replies of models, by name to which of their answers are wrong."""
    asked = read_suites([suite])
    outcomes = []
    for model, places in wrong.items():
        replies = {key: answer_all(found, places) for key, found in asked.questions.items()}
        if edit:
            replies = {key: edit(model, found) for key, found in replies.items()}
        outcome = make_outcome(model, ["x"])
        object.__setattr__(outcome, "replies", replies)
        outcomes.append(outcome)
    return score_suites(asked, outcomes, **HOW)
