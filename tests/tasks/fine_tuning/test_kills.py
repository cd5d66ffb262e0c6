"""SIGKILL at 200 random points of a run: every one ends, run again, with the bytes of a run that was not killed.

Half of the points are moments in time, which fall anywhere from the start of the process to its end; the other half are
places in the code: before, inside and after every call that changes the disk. A run that was killed is run again and
may be killed again, until one comes to its end.

Four parts of 50 kills; about a second of work each, and as much for the run after the last kill. With two ranks one of
them is killed, at moments and after logged steps: the others end too, and the run goes on from its last checkpoint. Ten
kills with DDP and ten with ZeRO-2, some ten seconds of work each.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tasks.fine_tuning.small import run_small, start
from tests.tasks.fine_tuning.test_resume import FULL, PACKED, outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PARTS, KILLS = 4, 50
PLANS = {"lora": {**PACKED, "checkpoint_every_steps": 3}, "full": {**FULL, "checkpoint_every_steps": 2}}
NEVER = 1 << 30  # no run has so many points
LONGEST_S = 300.0
LOGGER = logging.getLogger(__name__)


class DiskPoints:
    """Counts the points around calls that change the disk, and kills this process at one of them.

    Args:
        kill_at: Which point, counted from 0.
        counted: File that is told how many there were; None: nobody asks.
    """

    def __init__(self, kill_at: int, counted: Path | None) -> None:
        self.kill_at, self.counted, self.passed = kill_at, counted, 0

    def install(self) -> None:
        import safetensors.torch
        import torch

        for name in ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir"):
            setattr(os, name, self.around(getattr(os, name)))
        torch.save = self.around(torch.save, written=1)
        safetensors.torch.save_file = self.around(safetensors.torch.save_file, written=1)
        Path.write_bytes = self.around(Path.write_bytes, written=0)  # type: ignore[method-assign]

    def around(self, call: Callable[..., Any], written: int | None = None) -> Any:
        """The call with a point before, one after and, where it writes a file, one with half of the file.

        Args:
            call: What changes the disk.
            written: Which argument is the path of the file that it writes.
        """

        def pointed(*arguments: Any, **options: Any) -> Any:
            self.point()
            result = call(*arguments, **options)
            if written is not None:
                self.point(lambda: tear(Path(arguments[written])))
            self.point()
            return result

        return pointed

    def point(self, prepare: Callable[[], None] | None = None) -> None:
        if self.passed == self.kill_at:
            if prepare:
                prepare()
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1
        if self.counted:
            # The descriptor is closed without a sync, so that counting is no point of its own.
            with self.counted.open("w") as stream:
                stream.write(str(self.passed))


def tear(path: Path) -> None:
    with path.open("rb+") as stream:
        stream.truncate(path.stat().st_size // 2)


def run_killed(initial: Path, folder: Path, options: dict[str, Any]) -> None:
    """`run_small`, killed at the point ``kill_at``."""
    DiskPoints(options["kill_at"], options.get("counted")).install()
    run_small(initial, folder, options)


def run(initial: Path, folder: Path, options: dict[str, Any], kill_after_s: float = LONGEST_S) -> int | None:
    """The exit code of a run in ``folder``."""
    process = start(initial, folder, options, run_killed)
    process.join(kill_after_s)
    process.kill()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("part", range(PARTS))
def test_any_kill_ends_with_the_same_bytes(initial: Path, tmp_path: Path, part: int) -> None:
    draw = random.Random(part)
    expected, points, seconds = {}, {}, {}
    for name, plan in PLANS.items():
        folder = tmp_path / name
        began = time.monotonic()
        options = {"plan": plan, "kill_at": NEVER, "counted": tmp_path / f"{name}.points"}
        assert run(initial, folder, options) == 0
        seconds[name] = time.monotonic() - began
        points[name] = int(options["counted"].read_text())
        expected[name] = outcome(folder)
    killed, finished, at_points = 0, 0, 0
    while killed < KILLS:
        name = list(PLANS)[(part + finished) % len(PLANS)]
        folder = tmp_path / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        while True:
            enough = killed >= KILLS
            by_point = draw.random() < 0.5
            kill_at = draw.randrange(points[name]) if by_point and not enough else NEVER
            after = LONGEST_S if by_point or enough else draw.uniform(0, seconds[name])
            code = run(initial, folder, {"plan": PLANS[name], "kill_at": kill_at}, after)
            if code == 0:
                break
            assert code == -signal.SIGKILL, (folder / "log.txt").read_text()
            killed, at_points = killed + 1, at_points + by_point
        assert outcome(folder) == expected[name], f"after {killed} kills"
        finished += 1
    LOGGER.warning(
        "%d kills, %d of them at a call that changes the disk, in %d runs: all the same bytes",
        killed,
        at_points,
        finished,
    )


RANKS, RANK_KILLS, STEPS_OF_RANKS = 2, 10, 40
DISTRIBUTIONS: dict[str, dict[str, Any]] = {"ddp": {"name": "ddp"}, "zero-2": {"name": "zero", "stage": 2}}


def ranks_below(process: BaseProcess) -> list[psutil.Process]:
    """The ranks that a stage's process has started."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
        return [one for one in below if "tasks.fine_tuning.rank" in one.cmdline()]
    except psutil.NoSuchProcess:
        return []


def kill_one_rank(process: BaseProcess, folder: Path, draw: random.Random, usual_s: float) -> float | None:
    """Kill a rank at a random moment or after a random logged step; the seconds until all of the run has ended.

    Returns:
        None where the run came to its end before.
    """
    steps = folder / "steps.jsonl"
    before = len(steps.read_text().splitlines()) if steps.is_file() else 0
    while len(ranks := ranks_below(process)) < RANKS and process.is_alive():
        time.sleep(0.02)
    if draw.random() < 0.5:
        until = time.monotonic() + draw.uniform(0, usual_s)
        while time.monotonic() < until and process.is_alive():
            time.sleep(0.01)
    else:
        wanted = before + draw.randrange(1, STEPS_OF_RANKS)
        while process.is_alive() and not (steps.is_file() and len(steps.read_text().splitlines()) >= wanted):
            time.sleep(0.005)
    alive = [one for one in ranks if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    if not process.is_alive() or not alive:
        return None
    draw.choice(alive).kill()
    began = time.monotonic()
    _, left = psutil.wait_procs(ranks, 60)
    process.join(60)
    assert not left
    return None if process.exitcode == 0 else time.monotonic() - began


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_any_kill_of_one_rank_ends_all_and_the_run_goes_on(initial: Path, tmp_path: Path, distribution: str) -> None:
    draw = random.Random(distribution)
    many = {"steps": STEPS_OF_RANKS, "log_every_steps": 1, "checkpoint_every_steps": 3, "precision": "fp32"}
    options = {"plan": {**PLANS["lora"], **many, "world_size": RANKS, "distribution": DISTRIBUTIONS[distribution]}}
    began = time.monotonic()
    assert run(initial, tmp_path / "whole", {**options, "kill_at": NEVER}) == 0, (
        tmp_path / "whole/log.txt"
    ).read_text()
    usual_s = time.monotonic() - began
    expected = outcome(tmp_path / "whole")
    seconds: list[float] = []
    runs = 0
    while len(seconds) < RANK_KILLS:
        folder = tmp_path / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        kills = 0
        while True:
            process = start(initial, folder, options)
            taken = kill_one_rank(process, folder, draw, usual_s) if len(seconds) < RANK_KILLS else None
            process.join(LONGEST_S)
            log = (folder / "log.txt").read_text()
            if process.exitcode == 0:
                break
            assert taken is not None, log
            kills += 1
            assert log.count("PipelineError: rank") == kills, log
            seconds.append(taken)
        assert outcome(folder) == expected, f"after {len(seconds)} kills"
        runs += 1
    LOGGER.warning(
        "%d kills of one rank in %d runs: all the same bytes; all ended %.1f s after, at most %.1f s",
        len(seconds), runs, sum(seconds) / len(seconds), max(seconds),
    )  # fmt: skip
    assert max(seconds) < 30  # 10 s on a machine that does nothing else
