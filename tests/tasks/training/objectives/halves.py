"""A run interrupted in the middle and gone on with, beside one that was not: both have to end with the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.contracts.manifest import hash_folder
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.training.plan import Plan


class Interrupted(Exception):
    """Stands for a kill."""


def run_whole_and_halves(plan: Plan, splits: Splits, initial: Path, folder: Path, until: int, checkpoint: int) -> Run:
    """The run that was not interrupted, once the other is found to be the same.

    Args:
        plan: What to run.
        splits: On which rows.
        initial: The base.
        folder: Where both runs write, ``whole`` and ``halves``.
        until: Step whose metrics interrupt the other run.
        checkpoint: The checkpoint that it has to go on from.
    """

    def stop(step: int, _: Mapping[str, float]) -> None:
        if step >= until:
            raise Interrupted

    def run(name: str, interrupted: bool = False) -> Run:
        places = folder / name / "checkpoints", folder / name / "tuned"
        return fine_tune(plan, splits, initial, *places, on_metrics=stop if interrupted else None)

    whole = run("whole")
    with pytest.raises(Interrupted):
        run("halves", interrupted=True)
    halves = run("halves")
    assert (whole.resumed_at, halves.resumed_at) == (0, checkpoint)
    assert halves.curve == whole.curve
    assert halves.samples == whole.samples
    assert hash_folder(folder / "halves/tuned") == hash_folder(folder / "whole/tuned")
    return whole
