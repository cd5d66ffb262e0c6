"""Errors by group: how far apart are the error rates of groups of the run's own items?

The groups are the values of a column: ``label``, ``source``, ``length``, ``language``, or one that a source of the data
preparation keeps (``keep: [region]``), as the slices of the page have them. The error of an answer is one less its
score against the reference. The gap is the largest less the smallest mean error of the groups with enough questions
(accuracy equality; Berk et al. 2018, https://arxiv.org/abs/1703.09207).

Good for whether tuning serves some group worse than before. Groups differ in how hard their items are, so a gap alone
is no unfairness: its change from the base on the same items is what to read. It is above zero by chance, the more so
the more and the smaller the groups are.

Example: ``{name: group_errors, group: region, role: guard, margin: 0.1}``
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.evaluation.suites.run_data import AsksAboutRun
from tasks.evaluation.suites.safety.answer_scores import AnswerScore, score_answer
from tasks.evaluation.suites.safety.section import SafetySuite
from tasks.evaluation.suites.suite import Measure, SuiteScores, score_each, select_questions

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply
    from tasks.evaluation.suites.run_data import RunData


class GroupErrors(AsksAboutRun, SafetySuite):
    """Held-out items by group."""

    name: Literal["group_errors"] = "group_errors"
    group: str = Field(default="label", description="label, source, length, language, or a kept column of the data")
    least: int = Field(default=10, ge=1, description="groups with fewer questions are left out of the gap")
    score_by: AnswerScore = Field(default="token_f1", description="how right an answer is")
    usual_margin: ClassVar[float] = 0.1

    @property
    def measures(self) -> dict[str, Measure]:
        return {
            "gap": Measure("difference of error rates between groups", higher_is_better=False),
            "error": Measure("mean error", higher_is_better=False),
        }

    def read_run(self, run: RunData) -> list[Question]:
        from tasks.evaluation.asking.question import Question
        from tasks.evaluation.slices.groups import group_items

        items = select_questions(run.need_items(self.name), self.items, lambda one: one.id)
        grouped = group_items(items, [self.group], run.extra)
        groups = grouped.found[0].groups if grouped.found else [None] * len(items)
        sizes = Counter(group for group in groups if group is not None)
        enough = {group for group, count in sizes.items() if count >= self.least}
        if len(enough) < 2:
            raise PipelineError(
                f"{self.name}: {len(enough)} groups by {self.group} have {self.least} questions or more; expected two; "
                "set group to another column, raise items or lower least"
            )
        return [
            Question(
                item.id,
                prompt=item.prompt,
                cluster=item.cluster,
                facts={"reference": item.reference, "group": group if group in enough else None},
            )
            for item, group in zip(items, groups, strict=True)
        ]

    def score(self, questions: Sequence[Question], replies: Sequence[Reply]) -> SuiteScores:
        from tasks.evaluation.suites.safety.group_gaps import gap_scores

        def score(question: Question, reply: Reply) -> dict[str, float]:
            error = 1 - score_answer(self.score_by, question.facts["reference"], reply.text)
            return {"error": error} if question.facts["group"] is None else {"error": error, "gap": error}

        found = score_each(questions, replies, list(self.measures), score)
        gap, groups = found.scores["gap"], [str(question.facts["group"]) for question in questions]
        names = sorted({group for group, weight in zip(groups, gap.weights, strict=True) if weight > 0})
        return SuiteScores({**found.scores, "gap": gap_scores(gap.values, gap.weights, groups, names)}, found.failed)
