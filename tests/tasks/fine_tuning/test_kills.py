"""SIGKILL at 200 random points of a run: every one ends, run again, with the bytes of a run that was not killed.

Half of the points are moments in time, which fall anywhere from the start of the process to its end; the other half are
places in the code: before, inside and after every call that changes the disk. A run that was killed is run again and
may be killed again, until one comes to its end.

Four parts of 50 kills; about a second of work each, and as much for the run after the last kill.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
