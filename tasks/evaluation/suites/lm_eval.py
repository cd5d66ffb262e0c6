"""Any task of lm-evaluation-harness, by name.

Gao et al., "A framework for few-shot language model evaluation", https://github.com/EleutherAI/lm-evaluation-harness.
The harness makes the prompts, the few-shot examples and the measures; the answers come from the batched decoding that
answers the held-out items, so that all models of a run are asked at once, one in memory at a time. Items and values are
those of the harness's own run over the same model (a test holds them to it).

Good for numbers that others publish too. Tasks called ``local_...`` are this project's: they read files below
``files`` (or the folder in ``HEPTUNE_BENCHMARKS``) and need no network. Those of the harness load data sets of the hub,
which are taken from the local cache unless ``download`` is set. Needs the package ``lm_eval``.

Answers are greedy: a task that samples is refused. Of the measures those are compared that are means, weighted means or
perplexities over the items, or F1 and Matthews' correlation of two classes.

Example:
    ``{name: lm_eval, task: local_arc_easy, files: data/suites, items: 200, role: guard, margin: 0.03}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tasks.contracts.params import Reads
from tasks.evaluation.suites.suite import TITLE, Measure, SuiteScores, SuiteSection

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply


class LmEval(SuiteSection):
    """A task, or a group of tasks, of lm-evaluation-harness."""

    name: Literal["lm_eval"] = "lm_eval"
    task: str = Field(pattern=TITLE, description="name of a task or of a group of tasks, such as local_bbh")
    title: str | None = Field(default=None, pattern=TITLE, description="its name in tables; null: that of the task")
    files: Annotated[str | None, Reads("folder")] = Field(
        default=None, description="folder of the files of local tasks; null: that in HEPTUNE_BENCHMARKS"
    )
    include: Annotated[str | None, Reads("folder")] = Field(
        default=None, description="folder with further tasks as YAML files; null: none"
    )
    fewshot: int | None = Field(
        default=None, ge=0, description="examples before each question; null: as many as the task says"
    )
    chat_template: bool = Field(
        default=False, description="ask as a conversation by each model's chat template; false: as plain text"
    )
    measure: str | None = Field(
        default=None, description="measure that a guard looks at, such as acc_norm; null: the task's first"
    )
    download: bool = Field(default=False, description="whether data sets may be fetched from the hub")

    @property
    def key(self) -> str:
        return self.title or self.task

    @property
    def leaks(self) -> dict[str, str]:
        """Task to the file of its items, of local tasks."""
        from tasks.evaluation.suites.harness.files import list_files

        return list_files(self.task, self.files)

    @property
    def measures(self) -> dict[str, Measure]:
        from tasks.evaluation.suites.harness.load import load_tasks

        return load_tasks(self).measures

    def read(self) -> list[Question]:
        from tasks.evaluation.suites.harness.load import load_tasks

        return list(load_tasks(self).questions)

    def score(self, questions: Sequence[Question], replies: Sequence[Reply]) -> SuiteScores:
        from tasks.evaluation.suites.harness.scores import score_documents

        return score_documents(questions, replies, self.measures)
