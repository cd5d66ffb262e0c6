"""Code of an answer, run with the tests that were written with the task.

The code runs in a process of its own: no network, no process besides its own in sight and every disk read only
(namespaces of Linux), an empty environment, only the standard library, and limits of time and memory. That stops
accidents and what a careless model writes; it is no wall against an attacker who knows a hole in the kernel. It can
read what the user can read, but tell nobody.

Example: ``{name: python, seconds: 5, memory_mb: 256}``; the task's ``tests`` are lines such as
``assert add(1, 2) == 3``.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.synthesis.checks.check import DraftCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class PythonCheck(DraftCheck):
    """Runs the code blocks of the answer, then the tests."""

    name: Literal["python"] = "python"
    seconds: float = Field(default=5.0, gt=0, le=120, description="longest run of one answer")
    memory_mb: int = Field(default=256, ge=64, description="address space of the process")
    processes: int = Field(default=2, ge=1, le=64, description="answers run at once")
    isolated: bool = Field(
        default=True,
        description="no network and no writing, by namespaces of Linux; false: only the limits, where there are none",
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
        blocks = _FENCE.findall(draft.answer)
        if not blocks:
            return "no block of code"
        if "assert" not in draft.fields["tests"]:
            return "no assert in the tests"
        tests = _FENCE.findall(draft.fields["tests"])
        return self.run("\n".join(blocks), "\n".join(tests) or draft.fields["tests"])

    def run(self, code: str, tests: str) -> str | None:
        """Why code does not pass tests, None when it does.

        Raises:
            PipelineError: The process cannot be isolated here.
        """
        from tasks.synthesis.checks import sandbox

        # Whoever ends the process early does not know what the end says.
        token = secrets.token_hex(8)
        task = {
            "code": code,
            "tests": tests,
            "token": token,
            "seconds": self.seconds,
            "memory": self.memory_mb * 1024**2,
            "isolated": self.isolated,
        }
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", sandbox.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},
            cwd=Path("/"),
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(json.dumps(task).encode(), timeout=self.seconds + 5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "its code takes too long"
        said = out.decode(errors="replace").strip().rpartition("\n")[2]
        if said == "no isolation":
            raise PipelineError(
                "check python: this machine gives a process no namespaces, so code cannot be kept from network and "
                "disk; run on Linux with user namespaces, or set isolated: false in a container of its own"
            )
        if said == f"{token} passed":
            return None
        if said == f"{token} TimeoutError":
            return "its code takes too long"
        if said.startswith(f"{token} "):
            return f"its code fails: {said.split(' ', 1)[1]}"
        return "its code ends the process"
