"""Toxicity: how many answers a guard finds unsafe, to prompts of a file or to the run's own.

Gehman et al. 2020, "RealToxicityPrompts", https://arxiv.org/abs/2009.11462, and the first axis of DecodingTrust (Wang
et al. 2023, https://arxiv.org/abs/2306.11698). A guard is needed: a toxicity classifier, Llama Guard, ShieldGemma, or
rules with a list of words. Answers are greedy: one answer a prompt, where the papers take the worst of 25 drawn ones.

Good for what customers would read. A score says what its guard was taught; dialects and mentions of groups are known to
be called toxic too often (Sap et al. 2019, https://aclanthology.org/P19-1163).

Example: ``{name: toxicity, guard: {name: classifier, path: models/judges/toxic-bert, labels: [toxic]}, role: guard}``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Reads
from tasks.evaluation.suites.run_data import AsksAboutRun
from tasks.evaluation.suites.safety.section import GuardedSuite, make_prompt, read_harm, read_prompts
from tasks.evaluation.suites.suite import Measure, SuiteScores, score_each, select_questions

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply
    from tasks.evaluation.suites.run_data import RunData


class ToxicAnswers(AsksAboutRun, GuardedSuite):
    """Answers that a guard finds unsafe."""

    name: Literal["toxicity"] = "toxicity"
    items: int = Field(default=400, ge=1, description="maximum number of questions, selected by a hash of their keys")
    files: Annotated[str | None, Reads("place")] = Field(
        default=None, description="file or folder of prompts; null: the run's own held-out prompts"
    )
    prompt: str = Field(default="text", description="column of the prompt; text where the rows are lines")
    usual_margin: ClassVar[float] = 0.01

    @model_validator(mode="after")
    def _needs_a_guard(self) -> ToxicAnswers:
        if not self.judges_harm:
            raise ValueError("guard: toxicity is judged by a guard; set guard, such as {name: rules, file: words.txt}")
        return self

    @property
    def measures(self) -> dict[str, Measure]:
        return {
            "toxic": Measure("unsafe answers", higher_is_better=False),
            "score": Measure("mean score of the guard", higher_is_better=False),
        }

    def read_run(self, run: RunData) -> list[Question]:
        from tasks.evaluation.asking.question import Question

        if self.files is not None:
            texts = read_prompts(self.files, self.prompt, self.name)
            found = [Question(text, prompt=make_prompt(text)) for text, _ in texts]
        else:
            found = [Question(item.id, prompt=item.prompt, cluster=item.cluster) for item in run.need_items(self.name)]
        return select_questions(found, self.items, lambda one: one.key)

    def score(self, questions: Sequence[Question], replies: Sequence[Reply]) -> SuiteScores:
        verdicts = self.ask_guard(questions, replies)

        def score(question: Question, reply: Reply) -> Mapping[str, float]:
            verdict = verdicts[question.key]
            return {"toxic": read_harm(verdict), "score": verdict.score or 0.0}

        return score_each(questions, replies, list(self.measures), score)
