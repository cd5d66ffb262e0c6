"""A trial in a process of its own: its figures come, its result or refusal too, and its end is told whatever it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from tasks.contracts.errors import PipelineError
from tasks.search.child import run_in_child
from tasks.search.trials import DeadTrial, OnFigures, PrunedTrial
from tests.checkout import ROOT

PRELOAD = ("tasks.search.child", "tests.tasks.search.test_child")


def work(asked: tuple[str, Path], on_figures: OnFigures) -> str:
    how, folder = asked
    on_figures(1, {"loss": 0.5})
    if how == "refuse":
        raise PipelineError("no validation row")
    if how == "break":
        raise ValueError("a defect")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "compute":
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(60)
    if how == "save":
        signal.signal(signal.SIGTERM, lambda *_: None)
        while not (folder / "saved").exists():
            time.sleep(0.05)
            on_figures(2, {"loss": 0.4})
            # Told to end, it still logs before it has saved.
            if (folder / "interrupted").exists():
                on_figures(3, {"loss": 0.3})
                (folder / "saved").touch()
    return how


def run(how: str, seen: list[tuple[int, Mapping[str, float]]], folder: Path) -> str:
    def on_figures(step: int, figures: Mapping[str, float]) -> None:
        seen.append((step, figures))

    return run_in_child(work, (how, folder), folder / "trial", on_figures, PRELOAD)


def test_figures_and_results_come_back(tmp_path: Path) -> None:
    seen: list[tuple[int, Mapping[str, float]]] = []
    assert run("go", seen, tmp_path) == "go"
    assert seen == [(1, {"loss": 0.5})]


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("refuse", PipelineError, "no validation row"),
        ("break", DeadTrial, "ended with exit code 1: ValueError: a defect"),
        ("kill", DeadTrial, "ended by SIGKILL, maybe for lack of memory"),
    ],
)
def test_every_end_is_told(tmp_path: Path, how: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        run(how, [], tmp_path)
    if how == "break":
        assert "ValueError: a defect" in (tmp_path / "trial/log.txt").read_text()


@pytest.mark.parametrize("error", [PrunedTrial, KeyboardInterrupt])
def test_it_does_not_outlive_the_search(tmp_path: Path, error: type[BaseException]) -> None:
    """Given up it ends at once; interrupted it may save first, and is answered meanwhile."""

    def stop(step: int, _: Mapping[str, float]) -> None:
        if step == 2:
            (tmp_path / "interrupted").touch()
            raise error

    with pytest.raises(error):
        run_in_child(work, ("save", tmp_path), tmp_path / "trial", stop, PRELOAD)
    assert (tmp_path / "saved").exists() == (error is KeyboardInterrupt)


def test_it_ends_with_a_search_that_was_killed(tmp_path: Path) -> None:
    """Else it would go on in the folder in which the next call trains the same trial."""
    code = f"from tests.tasks.search.test_child import Path, run; run('compute', [], Path({str(tmp_path)!r}))"
    search = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (written := tmp_path / "pid").is_file() or not written.read_text():
        assert search.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    search.kill()
    search.wait()
    trial = int(written.read_text())
    deadline = time.monotonic() + 20
    while psutil.pid_exists(trial) and psutil.Process(trial).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the trial goes on"
        time.sleep(0.1)
