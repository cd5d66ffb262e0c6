"""Passes tests: the answer's code, run as a program, passes the tests of its item; pass@1 of greedy answers.

Chen et al., "Evaluating Large Language Models Trained on Code" (arXiv:2107.03374): of n answers to a problem c pass,
pass@k = 1 - C(n - c, k) / C(n, k); with the one greedy answer that is 0 or 1, and the score the share of problems
solved. The tests are the fenced blocks of the reference that hold an ``assert``, or the reference itself where nothing
is fenced; references without are not scored. The code is what the answer has in fenced blocks, or all of it. It runs in
a process of its own without network, files or privileges and sees neither the tests nor the machine
(`tasks.sandbox.code`).

Example:
    "def add(a, b): return a + b" against "assert add(1, 2) == 3": 1; "def add(a, b): return a - b": 0.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.evaluation.metrics.per_answer import PerAnswer
from tasks.sandbox.code import CodeLimits, find_code, run_code

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class PassesTests(PerAnswer):
    """Share of answers whose code passes the tests in the reference; higher is better."""

    name: Literal["passes_tests"] = "passes_tests"
    title: ClassVar[str] = "Passes tests"
    higher_is_better: ClassVar[bool] = True
    seconds: float = Field(default=5.0, gt=0, le=120, description="maximum run time of one answer")
    memory_mb: int = Field(default=256, ge=64, description="address space of a process")
    processes: int = Field(default=2, ge=1, le=64, description="answers run at once")
    isolated: bool = Field(
        default=True,
        description="no network, files or processes, by Linux namespaces; false: only limits, where there are none",
    )

    def reads(self, item: Item) -> bool:
        return bool(find_tests(item.reference))

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None if any(map(self.reads, evidence.items)) else "no reference has tests (lines with assert)"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        with ThreadPoolExecutor(self.processes) as pool:
            values = list(pool.map(self.measure, evidence.items, outcome.answers))
        read = [float(self.reads(item)) for item in evidence.items]
        return Scores(np.array(values, dtype=np.float64), np.array(read, dtype=np.float64))

    def measure(self, item: Item, answer: str) -> float:
        tests, code = find_tests(item.reference), "\n".join(find_code(answer)) or answer
        if not tests or not code.strip():
            return 0.0
        limits = CodeLimits(self.seconds, self.memory_mb, self.isolated)
        return float(run_code(code, tests, limits, "metric passes_tests") is None)


def find_tests(reference: str) -> str:
    """The tests in a reference; empty where there are none."""
    blocks = find_code(reference) or [reference]
    return "\n".join(block for block in blocks if "assert" in block)
