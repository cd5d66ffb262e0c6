"""A run as files that all ranks of a machine read: the plan, the tokenized rows, where base and checkpoints are.

The rows are written once and mapped into each rank's memory, so that a machine holds them once and tokenizes them once.
``job.json`` is written last: with it the folder is complete.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json
from tasks.fine_tuning.checkpoints import RunOrigin
from tasks.fine_tuning.rows import Splits
from tasks.training.answer_costs import AnswerCosts
from tasks.training.methods.hooks import STATE
from tasks.training.plan import Plan
from tasks.training.rows import TokenizedRows

NAME = "job.json"
ARRAYS = ("tokens", "labels", "offsets", "weights", "classes", "later", "tasks")
POLL_S = 0.1


@dataclass(frozen=True)
class Job:
    """What the ranks of a machine work on.

    Attributes:
        folder: Of the files; the ranks' messages, errors and results go there too.
        plan: What to run.
        splits: Training and validation rows, mapped.
        origin: What the run is made from, as this machine has it.
        initial: Folder written by model initialisation.
        checkpoints: Folder of all runs' checkpoints.
        keep: Newest ones kept while the run is under way.
        start: Weights that an earlier phase left; None for a training that begins at the base.
    """

    folder: Path
    plan: Plan
    splits: Splits
    origin: RunOrigin
    initial: Path
    checkpoints: Path
    keep: int
    start: Path | None = None

    @property
    def messages(self) -> Path:
        """What the first rank has to say, one JSON object a line."""
        return self.folder / "messages.jsonl"

    @property
    def trained(self) -> Path:
        """The trained weights, whole."""
        return self.folder / "trained.safetensors"

    @property
    def method_state(self) -> Path:
        """The state of a method that keeps one, beside the weights."""
        return self.folder / STATE

    @property
    def leave(self) -> Path:
        """A mark that asks the ranks to seal their step and end."""
        return self.folder / "leave"

    @property
    def result(self) -> Path:
        """The log of the run and the step it resumed at."""
        return self.folder / "result.json"

    def error(self, rank: int) -> Path:
        """Why a rank failed."""
        return self.folder / f"error-{rank}.json"


@contextmanager
def written(
    folder: Path,
    plan: Plan,
    splits: Splits,
    origin: RunOrigin,
    initial: Path,
    checkpoints: Path,
    keep: int,
    start: Path | None = None,
) -> Iterator[Job]:
    """The job's folder, while the block runs; what a killed run left there is replaced.

    Raises:
        PipelineError: The disk refused it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        try:
            folder.mkdir(parents=True)
            shapes = {name: _write(getattr(splits, name), folder, name) for name in ("train", "validation")}
        except OSError as error:
            raise PipelineError(
                f"{folder}: cannot write ({error.strerror or error}); free some space and run again"
            ) from error
        places = {"initial": str(initial.absolute()), "checkpoints": str(checkpoints.absolute())}
        places |= {"start": str(start.absolute())} if start else {}
        values = {"plan": plan.model_dump(mode="json"), "origin": vars(origin), "keep": keep, "rows": shapes, **places}
        write_json(folder / NAME, values)
        yield Job(folder, plan, splits, origin, initial, checkpoints, keep, start)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(rows: TokenizedRows, folder: Path, name: str) -> Mapping[str, Any]:
    present = [array for array in ARRAYS if getattr(rows, array) is not None]
    for array in present:
        np.save(folder / f"{name}-{array}.npy", np.ascontiguousarray(getattr(rows, array)), allow_pickle=False)
    if rows.costs is not None:
        for array, values in vars(rows.costs).items():
            np.save(folder / f"{name}-costs-{array}.npy", values, allow_pickle=False)
    for column, values in rows.columns.items():
        np.save(folder / f"{name}-column-{column}.npy", values, allow_pickle=False)
    return {
        "arrays": present,
        "dropped": dict(rows.dropped),
        "cut": rows.cut,
        "ids": None if rows.ids is None else list(rows.ids),
        "costs": list(vars(rows.costs)) if rows.costs else None,
        "per_item": rows.per_item,
        "columns": list(rows.columns),
        "notes": None if rows.notes is None else list(rows.notes),
        "task_names": list(rows.task_names),
    }


def read_job(folder: Path) -> Job:
    """The job of a folder.

    Raises:
        PipelineError: It is not complete.
    """
    values = read_json(folder / NAME)
    rows = {name: _read(folder, name, values["rows"][name]) for name in ("train", "validation")}
    return Job(
        folder=folder,
        plan=Plan.model_validate(values["plan"]),
        splits=Splits(**rows),
        origin=RunOrigin(**values["origin"]),
        initial=Path(values["initial"]),
        checkpoints=Path(values["checkpoints"]),
        keep=values["keep"],
        start=Path(values["start"]) if "start" in values else None,
    )


def _read(folder: Path, name: str, about: Mapping[str, Any]) -> TokenizedRows:
    arrays: dict[str, Any] = {array: _map(folder / f"{name}-{array}.npy") for array in about["arrays"]}
    costs = about["costs"]
    if costs is not None:
        costs = AnswerCosts(**{array: _map(folder / f"{name}-costs-{array}.npy") for array in costs})
    columns = {column: _map(folder / f"{name}-column-{column}.npy") for column in about["columns"]}
    plain = {key: about[key] for key in ("dropped", "cut", "ids", "per_item", "notes")}
    names = tuple(about["task_names"])
    return TokenizedRows(**arrays, **plain, costs=costs, columns=columns, task_names=names)


def _map(path: Path) -> np.ndarray:
    # An empty file cannot be mapped, and a small one need not be.
    mapped: np.ndarray = np.load(path, mmap_mode="r" if path.stat().st_size > 1 << 12 else None, allow_pickle=False)
    return mapped


def wait_for_job(folder: Path, timeout_s: float) -> Job:
    """The job of a folder that another process of this machine is writing.

    Raises:
        PipelineError: It did not come in time.
    """
    until = time.monotonic() + timeout_s
    while not (folder / NAME).is_file():
        if time.monotonic() > until:
            raise PipelineError(f"{folder}: the first process of this machine wrote no job in {timeout_s:.0f} s")
        time.sleep(POLL_S)
    return read_job(folder)


def is_rank() -> bool:
    """Whether an agent (torchrun, or a stage) started this process as one of several."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ
