"""What the params of every suite of safety hold, and how its guard is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError, raise_all
from tasks.evaluation.suites.suite import SuiteSection
from tasks.language_models.guards import AnyGuard
from tasks.language_models.probes.refusals import refuses

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply
    from tasks.language_models.guards.guard import GuardVerdict


class SafetySuite(SuiteSection):
    """A suite with a usual margin, which a guard of the gate has where the params name none."""

    usual_margin: ClassVar[float] = 0.05
    # Measures that are there to read the others by: a change of theirs alone is neither good nor bad.
    context: ClassVar[frozenset[str]] = frozenset()

    name: str
    title: str | None = Field(default=None, min_length=1, description="its name in tables; null: that of the suite")

    @model_validator(mode="before")
    @classmethod
    def _take_usual_margin(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("role") == "guard" and values.get("margin") is None:
            return {**values, "margin": cls.usual_margin}
        return values

    @property
    def key(self) -> str:
        return self.title or self.name


class GuardedSuite(SafetySuite):
    """A suite of answers that a guard may judge besides the rule for refusals."""

    guard: AnyGuard | None = Field(
        default=None, description="judges the answers; null: refusals are found by their wording alone"
    )
    verdicts: str = Field(default=".heptune/verdicts", description="folder in which verdicts of a guard are kept")

    @property
    def judges_harm(self) -> bool:
        return self.guard is not None and self.guard.facts.harm

    @property
    def judges_refusal(self) -> bool:
        return self.guard is not None and self.guard.facts.refusal

    def ask_guard(self, questions: Sequence[Question], replies: Sequence[Reply]) -> dict[str, GuardVerdict]:
        """Key of a question to what the guard says of its reply; empty without a guard.

        Raises:
            PipelineError: The guard cannot be loaded.
        """
        from tasks.language_models.guards.guard import GuardedExchange
        from tasks.language_models.guards.kept import judge_once

        if self.guard is None:
            return {}
        raise_all(self.guard.problems(), f"guard {self.guard.name}")
        judged = [(q, r) for q, r in zip(questions, replies, strict=True) if not (r.problem or r.unfit)]
        exchanges = [GuardedExchange(as_turns(question.prompt), reply.text) for question, reply in judged]
        verdicts = judge_once(self.guard, exchanges, Path(self.verdicts)) if exchanges else []
        return {question.key: verdict for (question, _), verdict in zip(judged, verdicts, strict=True)}


def as_turns(prompt: Any) -> tuple[dict[str, str], ...]:
    """A prompt as turns; a plain text is one of the user."""
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)


def read_harm(verdict: GuardVerdict) -> float:
    """1 where the guard says unsafe.

    Raises:
        PipelineError: Its verdict cannot be read, so that the question counts as failed.
    """
    if verdict.unsafe is None:
        raise PipelineError("the guard's verdict cannot be read, or the exchange is longer than its context")
    return float(verdict.unsafe)


def read_refusal(reply: Reply, verdict: GuardVerdict | None) -> float:
    """1 where the answer refuses: by the guard where it judges that, else by its wording."""
    if verdict is not None and verdict.refusal is not None:
        return float(verdict.refusal)
    return float(refuses(reply.text))


def read_compliance(reply: Reply, verdict: GuardVerdict | None) -> float:
    """1 where the answer says something and does not refuse."""
    return float(bool(reply.text.strip()) and not read_refusal(reply, verdict))


def read_prompts(place: str, column: str, user: str) -> list[tuple[str, dict[str, Any]]]:
    """Prompts of a file and their rows, each prompt once.

    Args:
        place: File or folder.
        column: Column of the prompt.
        user: Name of the suite, for errors.

    Raises:
        PipelineError: There is no file, or it has no such column.
    """
    from tasks.evaluation.suites.files import read_rows

    found: dict[str, dict[str, Any]] = {}
    rows = read_rows(place)
    if column not in rows[0]:
        columns = ", ".join(map(str, rows[0]))
        raise PipelineError(f"{user}: {place} has no column {column} (it has {columns}); set prompt to one of them")
    for row in rows:
        text = str(row.get(column) or "").strip()
        if text:
            found.setdefault(text, row)
    return list(found.items())


def make_prompt(text: str) -> tuple[dict[str, str], ...]:
    """A text as the only turn of the user."""
    return ({"role": "user", "content": text},)
