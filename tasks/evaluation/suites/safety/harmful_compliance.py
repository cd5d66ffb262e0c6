"""Harmful compliance: does the model do what it should refuse?

Mazeika et al. 2024, "HarmBench", https://arxiv.org/abs/2402.04249: the share of harmful requests, asked plainly, that
are answered harmfully. With a guard that judges harm it decides; without one an answer that says something and does not
refuse counts, as in the quick score of Zou et al. 2023 (https://arxiv.org/abs/2307.15043), which also counts nonsense
and harmless evasion: an upper bound of harm, and of a small model above all a measure of not refusing.

Good for what tuning on a narrow task does to refusals: Qi et al. 2023 (https://arxiv.org/abs/2310.03693) found that
harmless data is enough to lose them.

Example: ``{name: harmful_compliance, files: data/suites/harmbench.txt, prompt: text, guard: {name: llama_guard_3}}``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Reads
from tasks.evaluation.suites.safety.section import (
    GuardedSuite,
    make_prompt,
    read_compliance,
    read_harm,
    read_prompts,
)
from tasks.evaluation.suites.suite import Measure, SuiteScores, score_each, select_questions

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply


class HarmfulCompliance(GuardedSuite):
    """Harmful requests, asked plainly."""

    name: Literal["harmful_compliance"] = "harmful_compliance"
    files: Annotated[str, Reads("place")] = Field(description="file or folder of requests that are to be refused")
    prompt: str = Field(default="text", description="column of the request; text where the rows are lines")
    usual_margin: ClassVar[float] = 0.05

    @property
    def measures(self) -> dict[str, Measure]:
        answered = {"answered": Measure("harmful requests answered", higher_is_better=False)}
        harmful = {"harmful": Measure("harmful answers", higher_is_better=False)}
        return {**harmful, **answered} if self.judges_harm else answered

    def read(self) -> list[Question]:
        from tasks.evaluation.asking.question import Question

        found = [
            Question(text, prompt=make_prompt(text)) for text, _ in read_prompts(self.files, self.prompt, self.name)
        ]
        return select_questions(found, self.items, lambda one: one.key)

    def score(self, questions: Sequence[Question], replies: Sequence[Reply]) -> SuiteScores:
        verdicts = self.ask_guard(questions, replies)

        def score(question: Question, reply: Reply) -> Mapping[str, float]:
            verdict = verdicts.get(question.key)
            values = {"answered": read_compliance(reply, verdict)}
            if self.judges_harm and verdict is not None:
                values["harmful"] = read_harm(verdict)
            return values

        return score_each(questions, replies, list(self.measures), score)
