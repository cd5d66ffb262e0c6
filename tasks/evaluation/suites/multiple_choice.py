"""Multiple choice by likelihood: the option that the model finds most likely after the question.

Brown et al., "Language Models are Few-Shot Learners", arXiv:2005.14165, 2020, section 2.4. Accuracy is the share of
questions whose right option has the highest log-likelihood; the normalised one divides each by its number of
characters, so that long options are not at a disadvantage (``acc`` and ``acc_norm`` of lm-evaluation-harness).

Good for what a model knows, and for a base that does not follow instructions yet; no answer is generated, so it is
quick. A row of the file has ``query``, ``choices`` (a list) and ``gold`` (the place of the right one, from 0), as the
files of MosaicML's Gauntlet have.

Example:
    ``{name: multiple_choice, title: arc, files: data/suites/arc_easy.jsonl.gz, role: guard, margin: 0.03}``. After
    "The sun is" the options "hot" and "very cold" have -2.1 and -3.0 nats: accuracy takes "hot"; by character
    they have -0.70 and -0.33, so the normalised one takes "very cold".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads
from tasks.evaluation.suites.suite import TITLE, Measure, SuiteScores, SuiteSection, score_each, select_questions

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply


class MultipleChoice(SuiteSection):
    """Questions with options, of which one is right."""

    name: Literal["multiple_choice"] = "multiple_choice"
    title: str = Field(pattern=TITLE, description="its name in tables and reasons")
    files: Annotated[str, Reads("place")] = Field(
        description="file or folder of rows with query, choices and gold, the place of the right one from 0"
    )
    before_question: str = Field(default="", description="text before every question")
    before_option: str = Field(default=" ", description="text between question and option")

    @property
    def key(self) -> str:
        return self.title

    @property
    def measures(self) -> dict[str, Measure]:
        return {"accuracy": Measure("accuracy"), "normalised_accuracy": Measure("accuracy, normalised by length")}

    def read(self) -> list[Question]:
        from tasks.evaluation.asking.question import Option, Question
        from tasks.evaluation.suites.files import need_columns, read_rows

        found: dict[str, Question] = {}
        for number, row in enumerate(read_rows(self.files), 1):
            need_columns(row, ("query", "choices", "gold"), self.files, number)
            query, choices, gold = str(row["query"]), [str(choice) for choice in row["choices"]], int(row["gold"])
            if len(choices) < 2 or not 0 <= gold < len(choices) or not all(choices):
                raise PipelineError(
                    f"{self.files}: row {number} has {len(choices)} choices and gold {gold}; expected two or more, "
                    "none empty, and the place of one of them, from 0; mend the file"
                )
            key = f"{query}\n{choices}"
            options = tuple(Option(f"{self.before_option}{choice}") for choice in choices)
            facts = {"gold": gold, "choices": choices}
            found.setdefault(
                key, Question(key, "choices", self.before_question + query, options, cluster=query, facts=facts)
            )
        return select_questions(list(found.values()), self.items, lambda one: one.key)

    def score(self, questions: Sequence[Question], replies: Sequence[Reply]) -> SuiteScores:
        return score_each(questions, replies, list(self.measures), _score)


def _score(question: Question, reply: Reply) -> Mapping[str, float]:
    sums = reply.log_likelihoods
    by_length = [total / len(choice) for total, choice in zip(sums, question.facts["choices"], strict=True)]
    gold = question.facts["gold"]
    return {
        "accuracy": float(max(range(len(sums)), key=sums.__getitem__) == gold),
        "normalised_accuracy": float(max(range(len(sums)), key=by_length.__getitem__) == gold),
    }
