"""Runs the code of an answer with the tests that were written with the task, isolated (`tasks.sandbox.code`).

Example: ``{name: python, seconds: 5, memory_mb: 256}``; the task's ``tests`` are lines such as
``assert add(1, 2) == 3``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.sandbox.code import CodeLimits, find_code, run_code
from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known


class PythonCheck(RowCheck):
    """Runs the code blocks of the answer, then the tests."""

    name: Literal["python"] = "python"
    seconds: float = Field(default=5.0, gt=0, le=120, description="maximum run time of one answer")
    memory_mb: int = Field(default=256, ge=64, description="address space of the process")
    processes: int = Field(default=2, ge=1, le=64, description="answers run at once")
    isolated: bool = Field(
        default=True,
        description="no network, files or processes, by Linux namespaces; false: only limits, where there are none",
    )

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("answers",)

    @property
    def fields(self) -> Mapping[str, str]:
        return {"tests": "lines of Python, each an assert that calls the wanted function"}

    @property
    def hint(self) -> str:
        return "Give the code in one block fenced by ```python, standard library only, without reading input."

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        with ThreadPoolExecutor(self.processes) as pool:
            return list(pool.map(self._judge, drafts))

    def _judge(self, draft: Draft) -> str | None:
        blocks = find_code(draft.answer)
        if not blocks:
            return "no code block"
        if "assert" not in draft.fields["tests"]:
            return "no assert in the tests"
        tests = find_code(draft.fields["tests"])
        return self.run("\n".join(blocks), "\n".join(tests) or draft.fields["tests"])

    def run(self, code: str, tests: str) -> str | None:
        """Why code does not pass tests, None when it does.

        Raises:
            PipelineError: The processes cannot be isolated here.
        """
        return run_code(code, tests, CodeLimits(self.seconds, self.memory_mb, self.isolated), "check python")
