"""A function in a Python file of the project, called with the answers of a batch.

::

    def polite(answers: list[str], prompts: list[list[dict]], references: list[str | None],
               labels: list[str | None], tokens: list[int], finished: list[bool]) -> list[float]:
        return [float("please" in answer.lower()) for answer in answers]

It is given by name what it has parameters for: ``answers``, ``prompts`` (the turns before each, ``role`` and
``content``), ``references`` (the rows' own answers), ``labels``, ``tokens`` and ``finished``; it returns one finite
number per answer. It runs in a process of its own, with a limit of time, and may import what it likes. Its file is part
of the run's fingerprint.

Example: ``{name: function, path: rewards/polite.py, function: polite, timeout_s: 20}``
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.sandbox.functions import FunctionFailed, FunctionFile
from tasks.training.rewards.reward import AnswerAttempt, Bounds, Reference, Scorer, weight_field

GIVEN: Mapping[str, Callable[[AnswerAttempt], Any]] = {
    "answers": lambda attempt: attempt.answer,
    "prompts": lambda attempt: list(attempt.prompt),
    "references": lambda attempt: attempt.reference,
    "labels": lambda attempt: attempt.label,
    "tokens": lambda attempt: attempt.tokens,
    "finished": lambda attempt: attempt.finished,
}


class FunctionReward(Section):
    """Reward by a function of the project."""

    name: Literal["function"] = "function"
    weight: float = weight_field()
    path: Annotated[str, Reads("file")] = Field(pattern=r"\.py$", description="Python file inside the project")
    function: str = Field(min_length=1, description="name of a function in it")
    needs_reference: tuple[Reference, ...] = Field(
        default=(), description="fields without which a row cannot be rewarded; rows that lack one are refused"
    )
    timeout_s: float = Field(default=30.0, gt=0, description="longest time of one call, seconds")

    @property
    def needs(self) -> tuple[Reference, ...]:
        return self.needs_reference

    @property
    def bounds(self) -> Bounds:
        return (-math.inf, math.inf)

    def problems(self) -> list[str]:
        return []

    def files(self) -> list[Path]:
        return [Path(self.path)]

    def describe(self) -> str:
        return f"{self.function} of {self.path}"

    def open(self, cache: Path | None) -> Scorer:
        """Load the file.

        Raises:
            PipelineError: It is outside the project, does not load, has no such function, or the function needs what
                it is not given.
        """
        file = FunctionFile(Path(self.path), "reward function")
        facts = file.describe(self.function)
        if unknown := [name for name in facts.needed if name not in GIVEN]:
            raise PipelineError(
                f"reward function: {self.function} of {self.path} has the parameters {', '.join(unknown)}; expected "
                f"some of {', '.join(GIVEN)}; give others a default"
            )
        names = [name for name in GIVEN if facts.any or name in facts.names]

        def score(attempts: Sequence[AnswerAttempt]) -> list[float]:
            return self._score(file, names, attempts)

        return score

    def _score(self, file: FunctionFile, names: Sequence[str], attempts: Sequence[AnswerAttempt]) -> list[float]:
        def call(some: Sequence[AnswerAttempt]) -> Any:
            arguments = {name: [GIVEN[name](attempt) for attempt in some] for name in names}
            return file.call(self.function, arguments, self.timeout_s)

        try:
            values = call(attempts)
        except FunctionFailed as failure:
            where, why = f"{len(attempts)} answers, the first of row {attempts[0].row}", failure
            if str(failure).startswith("raised"):
                # Only now is it worth a call per answer to find the one that it failed on.
                for attempt in attempts:
                    try:
                        call([attempt])
                    except FunctionFailed as own:
                        where, why = f"row {attempt.row}, answer {attempt.answer[:60]!r}", own
                        break
            raise PipelineError(
                f"reward function: {self.function} of {self.path} {why}, on {where}; fix it"
                + ("" if str(why).startswith("raised") else ", or raise timeout_s")
            ) from failure
        if not isinstance(values, list):
            raise PipelineError(
                f"reward function: {self.function} of {self.path} returned {values!r:.60}; expected a list of "
                f"{len(attempts)} numbers, one per answer; fix it"
            )
        return values
