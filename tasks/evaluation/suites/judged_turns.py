"""Open questions of one or several turns, scored by a judge, in all and by category.

MT-Bench's form (Zheng et al., NeurIPS 2023, arXiv:2306.05685): rows of ``turns``, what the user says one after the
other, and a ``category``. Each later turn is asked after the model's own answers. Every answer is scored by itself with
the conversation before it (`tasks.evaluation.judges.scored`, whose scale is 0 to 1 here), and a question's score is the
mean over its turns. A question with an answer that got no verdict has failed; a guard does not pass over it.

Good for what no reference answer covers: writing, advice, role play. It is as good as its judge: hold that against
people first (``heptune judge agreement``).

Example:
    ``{name: judged_turns, title: mt bench, files: data/suites/mt_bench.jsonl, judge: {panel: [{writer: {name: openai,
    url: "http://127.0.0.1:8001/v1", model: judge, temperature: 0}}]}}`` with ``{"turns": ["Name a fruit.", "Why?"],
    "category": "writing"}``. Scores of 0.75 and 0.25 for its two answers are 0.5 for the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads
from tasks.evaluation.judges.scored import ScoredJudge
from tasks.evaluation.suites.suite import TITLE, Measure, SuiteScores, SuiteSection, select_questions

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply
    from tasks.evaluation.judges.verdicts import AnswerPair


class JudgedTurns(SuiteSection):
    """Open questions whose answers a judge scores."""

    name: Literal["judged_turns"] = "judged_turns"
    title: str = Field(pattern=TITLE, description="its name in tables and reasons")
    files: Annotated[str, Reads("place")] = Field(description="file or folder of rows with turns and a category")
    judge: ScoredJudge = Field(description="who scores: panel, criteria and how its verdicts are read")
    verdicts: str = Field(default=".heptune/verdicts", description="folder in which verdicts are kept")

    @property
    def key(self) -> str:
        return self.title

    @property
    def measures(self) -> dict[str, Measure]:
        """The score of all, then of each category that the files have."""
        from tasks.evaluation.suites.files import read_rows

        try:
            categories = sorted({str(row["category"]) for row in read_rows(self.files) if row.get("category")})
        except PipelineError:
            categories = []
        return {"score": Measure("judge's score")} | {name: Measure(f"judge's score, {name}") for name in categories}

    def read(self) -> list[Question]:
        from tasks.evaluation.asking.question import Question
        from tasks.evaluation.suites.files import need_columns, read_rows

        found: dict[str, Question] = {}
        for number, row in enumerate(read_rows(self.files), 1):
            need_columns(row, ("turns",), self.files, number)
            turns = [str(turn) for turn in row["turns"]] if isinstance(row["turns"], list) else []
            if not turns or not all(turns):
                raise PipelineError(
                    f"{self.files}: row {number} has turns {row['turns']!r}; expected a list of texts, none empty; "
                    "mend the file"
                )
            key = "\n".join(turns)
            prompt = ({"role": "user", "content": turns[0]},)
            facts = {"category": str(row.get("category") or "")}
            found.setdefault(key, Question(key, prompt=prompt, later=tuple(turns[1:]), texts=tuple(turns), facts=facts))
        return select_questions(list(found.values()), self.items, lambda one: one.key)

    def score(self, questions: Sequence[Question], replies: Sequence[Reply]) -> SuiteScores:
        import numpy as np

        from tasks.evaluation.judges.asking import Panel
        from tasks.evaluation.metrics.metric import Scores

        counted = [place for place, reply in enumerate(replies) if not (reply.problem or reply.unfit)]
        pairs = [(place, pair) for place in counted for pair in list_answers(questions[place], replies[place])]
        panel = Panel.of(self.judge, Path(self.verdicts))
        grades = self.judge.grade([pair for _, pair in pairs], panel)
        of_questions: dict[int, list[float | None]] = {}
        for (place, _), of_panel in zip(pairs, zip(*grades, strict=True), strict=True):
            given = [grade for grade in of_panel if grade is not None]
            complete = len(given) == len(of_panel)
            of_questions.setdefault(place, []).append(float(np.mean(given)) if complete else None)
        reasons = ", ".join(dict.fromkeys(reason for usage in panel.usage for reason in usage.unusable))
        values, weights = np.zeros(len(questions)), np.zeros(len(questions))
        failed: dict[str, str] = {}
        for place, scores in of_questions.items():
            known = [score for score in scores if score is not None]
            if len(known) < len(scores):
                failed[questions[place].key] = f"the judge gave no verdict ({reasons})"
                continue
            values[place], weights[place] = float(np.mean(known)), 1.0
        found = {"score": Scores(values, weights)}
        for category in self.measures:
            inside = np.array([question.facts["category"] == category for question in questions])
            if category != "score":
                found[category] = Scores(values, weights * inside)
        return SuiteScores(found, failed)


def list_answers(question: Question, reply: Reply) -> list[AnswerPair]:
    """Each answer of a conversation with the turns before it."""
    from tasks.evaluation.judges.verdicts import AnswerPair

    turns = [dict(turn) for turn in question.prompt if not isinstance(turn, str)]
    found = []
    for answer, following in zip((reply.text, *reply.later), (*question.later, ""), strict=True):
        found.append(AnswerPair(tuple(turns), answer, ""))
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": following}]
    return found
