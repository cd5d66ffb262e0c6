"""Code in an answer, run against tests that it cannot see.

Two processes: one holds the answer's code, the other runs the tests and asks the first for values (`remote.py`). What
is expected never leaves the second, so code cannot forge a verdict, only return wrong values. Each is isolated: no
network, no other processes, no files but Python's own, an empty environment, no new processes or privileges (Linux
namespaces and seccomp), and limits of time and memory. That is no defence against an attacker with a kernel exploit.
Tests that look into objects of the answer beyond their use (``type(x) is Stack``, ``unittest.mock``) fail.

Example: ``run_code("def add(a, b): return a + b", "assert add(1, 2) == 3", CodeLimits(5, 256, True), "check python")``
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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts.errors import PipelineError

START_S = 10.0
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class CodeLimits:
    """What one answer's code may take.

    Attributes:
        seconds: Run time.
        memory_mb: Address space of a process.
        isolated: No network, files or processes, by Linux namespaces; without, limits of time and memory only.
    """

    seconds: float
    memory_mb: int
    isolated: bool


def find_code(text: str) -> list[str]:
    """The blocks of a text that are fenced as Python, or as nothing in particular."""
    return _FENCE.findall(text)


def run_code(code: str, tests: str, limits: CodeLimits, user: str) -> str | None:
    """Why code does not pass tests, None when it does.

    Args:
        code: The answer's.
        tests: Lines of Python with asserts.
        limits: Of both processes.
        user: Who asks, for the error.

    Raises:
        PipelineError: The processes cannot be isolated here.
    """
    verdict = _try(code, tests, limits, own_builtins=False)
    if verdict == "passed hiding":
        # The code defines a name of Python's that the tests use, such as sum: it must pass them with Python's own
        # too, or a function all() that returns True would.
        verdict = _try(code, tests, limits, own_builtins=True)
    if verdict == "no isolation":
        raise PipelineError(
            f"{user}: this machine does not allow namespaces, so code cannot be isolated from network, files and "
            "processes; run on Linux with user namespaces, or set isolated: false inside a separate container"
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


def _try(code: str, tests: str, limits: CodeLimits, own_builtins: bool) -> str:
    """The verdict of the judge's process, the last line that it writes."""
    common = {"seconds": limits.seconds, "memory": limits.memory_mb * 1024**2, "isolated": limits.isolated}
    left, right = socket.socketpair()
    with left, right:
        answer = _start("answer", left, {**common, "code": code})
        judge = _start("judge", right, {**common, "tests": tests, "own_builtins": own_builtins})
    try:
        out, _ = judge.communicate(timeout=limits.seconds + START_S)
    except subprocess.TimeoutExpired:
        return "TimeoutError"
    finally:
        for process in (answer, judge):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return out.decode().strip().rpartition("\n")[2] or "ended"


def _start(role: str, line: socket.socket, task: Mapping[str, object]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("processes.py")), role],
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
