"""A trial in a process of its own: what it allocates, and its crash, end with it.

The process is forked from one that has loaded the libraries once (multiprocessing's ``forkserver``), so that a trial
begins in a fraction of a second. It sends the figures of each logged step through a pipe and waits until they were
seen; who sees that others were better ends it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from tasks.contracts.errors import PipelineError
from tasks.search.trials import DeadTrial, OnFigures, PrunedTrial

A = TypeVar("A")
R = TypeVar("R")

SEEN = "seen"
LOG = "log.txt"
# A trial that is told to end seals a checkpoint first.
END_TIMEOUT_S = 4.0
POLL_S = 0.05
LONGEST_LINE = 200
# The kernel, short of memory, ends the process with the highest score first.
EASIEST_TO_KILL = "1000"


def run_in_child(
    work: Callable[[A, OnFigures], R], argument: A, folder: Path, on_figures: OnFigures, preload: Sequence[str]
) -> R:
    """Call ``work(argument, on_figures)`` in a process of its own.

    Args:
        work: A function at the top of a module; it calls ``on_figures`` in its process.
        argument: What it gets; pickled, and so is what it returns.
        folder: Where its log is written.
        on_figures: Called in this process; what it raises ends the other one.
        preload: Modules that are loaded once for all trials, and compute nothing when loaded.

    Raises:
        PipelineError: ``work`` raised it.
        DeadTrial: The process ended in any other way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, work, argument, folder), name="trial")
    process.start()
    theirs.close()
    try:
        result: R = attend(ours, process, folder / LOG, on_figures)
        return result
    except PrunedTrial:
        ours.close()  # there is nothing to save
        raise
    finally:
        end(process, ours)


def attend(connection: Connection, process: BaseProcess, log: Path, on_figures: OnFigures) -> Any:
    """Answer a trial's process until it has a result."""
    while True:
        try:
            kind, *content = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            raise DeadTrial(describe_end(process.exitcode, log)) from None
        if kind == "result":
            return content[0]
        if kind == "refused":
            raise PipelineError(content[0])
        on_figures(*content)
        connection.send(SEEN)


def end(process: BaseProcess, connection: Connection) -> None:
    """Have a trial's process end: asked first, and answered while it saves, then killed."""
    process.terminate()
    deadline = time.monotonic() + END_TIMEOUT_S
    with suppress(OSError):
        connection.send(SEEN)  # what it told last may have been the reason to end it
    while process.is_alive() and time.monotonic() < deadline:
        try:
            if connection.poll(POLL_S):
                connection.recv()
                connection.send(SEEN)
        except (EOFError, OSError):
            process.join(max(0.0, deadline - time.monotonic()))
    process.kill()
    process.join()
    connection.close()


def describe_end(code: int | None, log: Path) -> str:
    """How a process ended that said nothing: by which signal, or with the last line of its log."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", maybe for lack of memory" if -code == signal.SIGKILL else ""
        return f"its process was ended by {name}{hint}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
    return f"its process ended with exit code {code}: {last[:LONGEST_LINE]}"


def serve(connection: Connection, work: Callable[[A, OnFigures], R], argument: A, folder: Path) -> None:
    """The body of a trial's process."""
    # Ctrl-C in a terminal reaches it too; it is the search that ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(EASIEST_TO_KILL, encoding="ascii")
    log = (folder / LOG).open("a", encoding="utf-8", buffering=1)
    for number in (1, 2):
        os.dup2(log.fileno(), number)
    end_with_search()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=log, force=True)

    def on_figures(step: int, figures: Mapping[str, float]) -> None:
        try:
            connection.send(("figures", step, dict(figures)))
            connection.recv()
        except (EOFError, OSError):  # the search is gone, and nobody waits for the result
            os._exit(1)

    try:
        connection.send(("result", work(argument, on_figures)))
    except PipelineError as error:
        connection.send(("refused", str(error)))
    except BaseException:
        logging.getLogger(__name__).exception("the trial failed")
        sys.stderr.flush()
        os._exit(1)


def end_with_search() -> None:
    """End this process when the search is gone: started again, it trains the same trial in the same folder."""
    search = multiprocessing.parent_process()
    assert search is not None

    def watch() -> None:
        search.join()
        os._exit(1)

    threading.Thread(target=watch, name="search", daemon=True).start()
