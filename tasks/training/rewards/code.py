"""1 where the code of an answer passes the tests of its row, else 0; run isolated (`tasks.sandbox.code`).

The tests are the row's own answer or label: lines of Python with asserts, alone or in a fenced block. The code is
what the answer has in fenced blocks. Code cannot see the tests, nor the machine.

Example: ``{name: code, seconds: 5}`` for a row whose answer is ``assert add(1, 2) == 3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.sandbox.code import CodeLimits, find_code, run_code
from tasks.training.rewards.reward import (
    BINARY,
    AnswerAttempt,
    Bounds,
    Reference,
    Scorer,
    reference_field,
    weight_field,
)


class CodeTests(Section):
    """Reward code that passes tests."""

    name: Literal["code"] = "code"
    weight: float = weight_field()
    reference: Reference = reference_field()
    seconds: float = Field(default=5.0, gt=0, le=120, description="maximum run time of one answer")
    memory_mb: int = Field(default=256, ge=64, description="address space of a process")
    processes: int = Field(default=2, ge=1, le=64, description="answers run at once")
    isolated: bool = Field(
        default=True,
        description="no network, files or processes, by Linux namespaces; false: only limits, where there are none",
    )

    @property
    def needs(self) -> tuple[Reference, ...]:
        return (self.reference,)

    @property
    def bounds(self) -> Bounds:
        return BINARY

    def problems(self) -> list[str]:
        return []

    def files(self) -> list[Path]:
        return []

    def describe(self) -> str:
        return f"code that passes the tests in the row's {self.reference}"

    def open(self, cache: Path | None) -> Scorer:
        return self._score

    def _score(self, attempts: Sequence[AnswerAttempt]) -> list[float]:
        with ThreadPoolExecutor(self.processes) as pool:
            return list(pool.map(self._judge, attempts))

    def _judge(self, attempt: AnswerAttempt) -> float:
        given = attempt.known(self.reference) or ""
        tests = "\n".join(find_code(given)) or given
        if "assert" not in tests:
            raise PipelineError(
                f"reward code: row {attempt.row}: no assert in its {self.reference} ({given[:60]!r}); expected lines "
                "of Python such as assert add(1, 2) == 3; correct the row or set another reference"
            )
        blocks = find_code(attempt.answer)
        if not blocks:
            return 0.0
        limits = CodeLimits(self.seconds, self.memory_mb, self.isolated)
        return float(run_code("\n".join(blocks), tests, limits, "reward code") is None)
