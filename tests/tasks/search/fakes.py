"""Trials without a training: the loss is a function of the values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.search.params import ParamSearch
from tasks.search.study import TrialStore
from tasks.search.trials import LOSS, OnFigures, SearchTrial, TrialResult

RATE, RANK = "training_setup.learning_rate", "training_setup.method.rank"
SPACE = {RATE: {"log": [1e-4, 1e-2]}, RANK: [8, 16, 32]}
ORIGIN = {"space": "s", "data": "d", "base": "b", "params": "p"}


def make_settings(**changes: Any) -> ParamSearch:
    return ParamSearch.model_validate({"space": SPACE, "method": {"name": "random"}, "trials": 4, **changes})


def open_store(folder: Path, settings: ParamSearch | None = None, **origin: str) -> TrialStore:
    return TrialStore(folder / "trials.db", settings or make_settings(), {**ORIGIN, **origin})


class Bowl:
    """Best at a learning rate of 0.001; the rank matters little. ``trouble`` is raised by the trials it names."""

    def __init__(self, trouble: Mapping[int, BaseException] | None = None) -> None:
        self.trouble = dict(trouble or {})
        self.seen: list[dict[str, Any]] = []
        self.folders: list[Path] = []

    def __call__(self, changes: Mapping[str, Any], folder: Path, on_figures: OnFigures) -> TrialResult:
        self.seen.append(dict(changes))
        self.folders.append(folder)
        folder.mkdir(parents=True, exist_ok=True)
        loss = 1.0 + abs(math.log10(changes[RATE]) + 3) + 0.001 * changes.get(RANK, 0)
        for step in (10, 20):
            on_figures(step, {LOSS: loss + 1.0 / step, "train_loss": 2.0})
            if trouble := self.trouble.pop(len(self.seen) - 1, None):
                raise trouble
        tokens = np.array([10.0, 30.0, 20.0])
        return TrialResult(loss, 30, np.column_stack([tokens * loss + np.array([0.1, -0.2, 0.1]) * loss, tokens]))


class Records:
    """What was shown of trials."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended: list[SearchTrial | None] = []

    def __call__(self, number: int, changes: Mapping[str, Any]) -> Records:
        self.lines.append(f"{number} {sorted(changes)}")
        return self

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.lines.append(f"{step} {sorted(values)}")

    def finish(self, trial: SearchTrial) -> None:
        self.ended.append(trial)

    def stop(self) -> None:
        self.ended.append(None)
