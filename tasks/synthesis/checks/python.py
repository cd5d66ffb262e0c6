"""Runs the code of an answer with the tests that were written with the task.

The code runs in a separate process: no network, no other processes visible and all disks read-only (Linux
namespaces), an empty environment, only the standard library, and limits of time and memory. That prevents accidents
and careless code; it is no defence against an attacker with a kernel exploit. The code can read what the user can
read, but cannot send it anywhere.

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
from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class PythonCheck(RowCheck):
    """Runs the code blocks of the answer, then the tests."""

    name: Literal["python"] = "python"
    seconds: float = Field(default=5.0, gt=0, le=120, description="maximum run time of one answer")
    memory_mb: int = Field(default=256, ge=64, description="address space of the process")
    processes: int = Field(default=2, ge=1, le=64, description="answers run at once")
    isolated: bool = Field(
        default=True,
        description="no network and no writing, by Linux namespaces; false: only limits, where there are none",
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
            return "no code block"
        if "assert" not in draft.fields["tests"]:
            return "no assert in the tests"
        tests = _FENCE.findall(draft.fields["tests"])
        return self.run("\n".join(blocks), "\n".join(tests) or draft.fields["tests"])

    def run(self, code: str, tests: str) -> str | None:
        """Why code does not pass tests, None when it does.

        Raises:
            PipelineError: The process cannot be isolated here.
        """
        # Code that ends the process early cannot forge the result without this token.
        from tasks.synthesis.checks import sandbox

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
        result = out.decode(errors="replace").strip().rpartition("\n")[2]
        if result == "no isolation":
            raise PipelineError(
                "check python: this machine does not allow namespaces, so code cannot be isolated from network and "
                "disk; run on Linux with user namespaces, or set isolated: false inside a separate container"
            )
        if result == f"{token} passed":
            return None
        if result == f"{token} TimeoutError":
            return "its code takes too long"
        if result.startswith(f"{token} "):
            return f"its code fails: {result.split(' ', 1)[1]}"
        return "its code ends the process"
