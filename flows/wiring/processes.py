"""Processes by id and start, so that one can be told from a later one with the same id; and what a killed one left.

A process that starts others (a stage, ``heptune up``) leads them: it leaves a record in ``.heptune/processes/`` until
it ends, and puts its mark into their environment. Killed, it cannot end them; the next command or stage finds the
record and does. A stage is also ended when its owner, the process that runs DVC around it, is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.wiring import artifacts

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)

RECORDS = artifacts.STATE / "processes"
LEADER = "HEPTUNE_LEADER"
# A stage ends itself within less; then it is killed.
END_TIMEOUT_S = 7.0
POLL_S = 0.5

# A process id, when that process began, and the machine or container that it runs on.
ProcessMark = tuple[int, float, str]


def mark_process(pid: int) -> ProcessMark:
    """A process that can be told from a later one with the same id.

    Raises:
        psutil.NoSuchProcess: It has ended.
    """
    return pid, start_of(pid), socket.gethostname()


def start_of(pid: int) -> float:
    """When a process began, seconds: since the machine's start where the kernel says so, which no change of the clock
    moves, else since the epoch.

    Raises:
        psutil.NoSuchProcess: It has ended.
    """
    import psutil

    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return psutil.Process(pid).create_time()


def has_process(mark: ProcessMark) -> bool:
    """Whether the process is still there, and no zombie; one of another machine counts as ended."""
    import psutil

    pid, began, host = mark
    try:
        return (
            host == socket.gethostname()
            and abs(start_of(pid) - began) < 0.1
            and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def show_mark(mark: ProcessMark) -> str:
    """A mark as text for an environment variable or a file's name."""
    return f"{mark[0]}-{mark[1]:.2f}-{mark[2]}"


def read_mark(text: str) -> ProcessMark | None:
    """The mark that `show_mark` wrote, or None where the text is none."""
    pid, _, rest = text.partition("-")
    began, _, host = rest.partition("-")
    try:
        return int(pid), float(began), host
    except ValueError:
        return None


def list_below(pid: int) -> list[psutil.Process]:
    """Processes that one started, and those that they started, without those that were given a session of their own."""
    import psutil

    try:
        found = psutil.Process(pid).children(recursive=True)
        session = os.getsid(pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return []
    below = []
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == session:
                below.append(process)
    return below


def end(processes: Iterable[psutil.Process], timeout_s: float = END_TIMEOUT_S) -> None:
    """Ask processes to end, and kill those that do not in time.

    psutil holds each by id and start, so that none is taken for another.
    """
    import psutil

    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=timeout_s)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=timeout_s)


def end_marked(mark: ProcessMark, timeout_s: float = END_TIMEOUT_S) -> None:
    """End a process and those below it, if it is still the one that was marked."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(mark[0])
        if has_process(mark):
            end([process, *list_below(mark[0])], timeout_s)


@contextmanager
def leading(owner: ProcessMark | None = None) -> Iterator[None]:
    """What this process starts is ended by the next command, should this process be killed.

    Args:
        owner: The process without which this one has no use; None: it stands for itself.
    """
    mark = mark_process(os.getpid())
    path = (RECORDS / f"{show_mark(mark)}.json").resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"owner": owner}), encoding="utf-8")
    os.environ[LEADER] = show_mark(mark)
    try:
        yield
    finally:
        del os.environ[LEADER]
        path.unlink(missing_ok=True)


def end_leftovers() -> None:
    """End what killed processes of this checkout left behind."""
    for path in RECORDS.glob("*.json"):
        mark = read_mark(path.stem)
        if mark is None or mark[2] != socket.gethostname() or mark[0] == os.getpid():
            continue
        owner = _read_owner(path)
        if has_process(mark):
            if owner is None or has_process(owner):
                continue
            logger.info("ending process %d, which a killed command left", mark[0])
            end_marked(mark)
        end(_led_by(path.stem))
        path.unlink(missing_ok=True)


def _read_owner(path: Path) -> ProcessMark | None:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))["owner"]
        return None if owner is None else (int(owner[0]), float(owner[1]), str(owner[2]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _led_by(mark: str) -> list[psutil.Process]:
    """Processes whose environment names a leader."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(LEADER) == mark:
                found.append(process)
    return found


def tie(command: list[str]) -> list[str]:
    """A command that ends with this process, however this process ends."""
    return [sys.executable, "-m", "flows.wiring.processes", show_mark(mark_process(os.getpid())), *command]


def run_tied(mark: ProcessMark, command: list[str]) -> int:
    """Run a command as long as a process lives; the command's exit code."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        while process.poll() is None:
            if not has_process(mark):
                return 1
            time.sleep(POLL_S)
        return process.returncode
    finally:
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            end(list_below(os.getpid()), END_TIMEOUT_S - 2.0)


if __name__ == "__main__":
    above = read_mark(sys.argv[1])
    assert above is not None
    sys.exit(run_tied(above, sys.argv[2:]))
