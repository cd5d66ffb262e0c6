"""Runs the code of an answer with the tests that were written with the task.

Two processes: one holds the answer's code, the other runs the tests and asks the first for values (`remote.py`). What
is expected never leaves the second, so code cannot forge a verdict, only return wrong values. Each is isolated: no
network, no other processes, no files but Python's own, an empty environment, no new processes or privileges (Linux
namespaces and seccomp), and limits of time and memory. That is no defence against an attacker with a kernel exploit.
Tests that look into objects of the answer beyond their use (``type(x) is Stack``, ``unittest.mock``) fail.

Example: ``{name: python, seconds: 5, memory_mb: 256}``; the task's ``tests`` are lines such as
``assert add(1, 2) == 3``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
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

START_S = 10.0
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


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
            PipelineError: The processes cannot be isolated here.
        """
        verdict = self._try(code, tests, own_builtins=False)
        if verdict == "passed hiding":
            # The code defines a name of Python's that the tests use, such as sum: it must pass them with Python's own
            # too, or a function all() that returns True would.
            verdict = self._try(code, tests, own_builtins=True)
        if verdict == "no isolation":
            raise PipelineError(
                "check python: this machine does not allow namespaces, so code cannot be isolated from network, files "
                "and processes; run on Linux with user namespaces, or set isolated: false inside a separate container"
            )
        if verdict in ("passed", "passed hiding"):
            return None
        if verdict == "unused":
            return "the tests use nothing of its code"
        if verdict == "ended":
            return "its code ends the process"
        if verdict == "TimeoutError":
            return "its code takes too long"
        return f"its code fails: {verdict.removeprefix('error ')}"

    def _try(self, code: str, tests: str, own_builtins: bool) -> str:
        """The verdict of the judge's process, the last line that it writes."""
        common = {"seconds": self.seconds, "memory": self.memory_mb * 1024**2, "isolated": self.isolated}
        left, right = socket.socketpair()
        with left, right:
            answer = self._start("answer", left, {**common, "code": code})
            judge = self._start("judge", right, {**common, "tests": tests, "own_builtins": own_builtins})
        try:
            out, _ = judge.communicate(timeout=self.seconds + START_S)
        except subprocess.TimeoutExpired:
            return "TimeoutError"
        finally:
            for process in (answer, judge):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return out.decode().strip().rpartition("\n")[2] or "ended"

    def _start(self, role: str, line: socket.socket, task: Mapping[str, object]) -> subprocess.Popen[bytes]:
        from tasks.synthesis.checks import sandbox

        process = subprocess.Popen(
            [sys.executable, "-I", "-S", sandbox.__file__, role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if role == "judge" else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},
            cwd=Path("/"),
            pass_fds=[line.fileno()],
            start_new_session=True,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stream:
            stream.write(json.dumps({**task, "socket": line.fileno()}).encode())
        process.stdin = None
        return process
