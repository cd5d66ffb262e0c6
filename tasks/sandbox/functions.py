"""Functions of a Python file of the user's own, called in a process of their own with a limit of time.

A function that never returns would hang a training; in a process it is ended. The process is started once, so that
what the file loads is loaded once, and started again after a call that was ended.

Example: ``FunctionFile(Path("rewards.py"), "reward function").call("polite", {"answers": ["Thank you."]}, 10)``
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError

START_S = 60.0


class FunctionFailed(Exception):
    """A call that gave no value; the message says what was raised, or that it took too long."""


@dataclass(frozen=True)
class FunctionFacts:
    """What a function takes.

    Attributes:
        names: Its parameters.
        needed: Those without a default.
        any: It takes further keyword arguments.
        types: Parameter to the name of its annotation.
        doc: Its docstring.
    """

    names: tuple[str, ...]
    needed: tuple[str, ...]
    any: bool
    types: Mapping[str, str]
    doc: str


class FunctionFile:
    """A Python file inside the project, in a process that lives as long as this object or its process.

    Args:
        path: The file, absolute or from the working folder.
        user: Who calls, for errors.
    """

    def __init__(self, path: Path, user: str) -> None:
        self.path, self.user = path, user
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def describe(self, function: str) -> FunctionFacts:
        """What a function takes.

        Raises:
            PipelineError: The file lies outside the project, does not load, or has no such function.
        """
        found = self._ask({"about": True, "function": function, "arguments": {}}, START_S)
        if "missing" in found:
            raise PipelineError(
                f'{self.user}: {self.path} has no function "{function}"; it has {", ".join(found["missing"]) or "none"}'
            )
        return FunctionFacts(
            tuple(found["names"]), tuple(found["needed"]), found["any"], found["types"], str(found["doc"])
        )

    def call(self, function: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        """What a function returns; arrays come as lists.

        Args:
            function: Its name.
            arguments: Keyword arguments that JSON can hold.
            timeout_s: Longest time of the call, seconds.

        Raises:
            FunctionFailed: It raised, took too long, or ended its process.
            PipelineError: The file does not load.
        """
        return self._ask({"about": False, "function": function, "arguments": dict(arguments)}, timeout_s)

    def close(self) -> None:
        """End the process."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._line = self._process = None

    def _ask(self, message: Mapping[str, Any], timeout_s: float) -> Any:
        line = self._line or self._start()
        try:
            line.settimeout(timeout_s)
            data = json.dumps(message).encode()
            line.sendall(len(data).to_bytes(4, "big") + data)
            return self._receive(line)
        except TimeoutError as error:
            self.close()
            raise FunctionFailed(f"took longer than {timeout_s:g} s and was ended") from error
        except (ConnectionError, EOFError) as error:
            self.close()
            raise FunctionFailed("ended its process") from error

    def _receive(self, line: socket.socket) -> Any:
        data = b""
        wanted = 4
        while len(data) < wanted:
            part = line.recv(wanted - len(data))
            if not part:
                raise EOFError
            data += part
            if wanted == 4 and len(data) == 4:
                wanted += int.from_bytes(data, "big")
        found = json.loads(data[4:])
        if "error" in found:
            raise FunctionFailed(f"raised {found['error']}")
        return found["value"]

    def _start(self) -> socket.socket:
        project, path = Path.cwd().resolve(), self.path.resolve()
        if not path.is_relative_to(project):
            raise PipelineError(f"{self.user}: {self.path} lies outside the project; move it into {project.name}/")
        if not path.is_file():
            raise PipelineError(f"{self.user}: {self.path} is missing; correct path")
        own, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).with_name("function_process.py")),
                    str(other.fileno()),
                    str(path),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )
        self._line = own
        own.settimeout(START_S)
        try:
            self._receive(own)
        except (FunctionFailed, TimeoutError, EOFError) as error:
            why = f"takes longer than {START_S:g} s" if isinstance(error, TimeoutError) else str(error)
            if isinstance(error, EOFError):
                why = "ends its process"
            self.close()
            raise PipelineError(
                f"{self.user}: {self.path} does not load ({why.removeprefix('raised ')}); fix it"
            ) from error
        return own
