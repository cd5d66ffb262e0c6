"""Mixtures of tasks: how often the rows of each are drawn, and which, epoch after epoch.

A task is a source of rows or a label. With n rows of a task, it is drawn in proportion to n^(1/temperature) (Devlin et
al. 2019; Raffel et al. 2020, arXiv:1910.10683, section 3.5.2): 1 is as often as it has rows, a large temperature each
equally often; or in proportion to a weight.

An epoch draws as many rows as there are, of each task its share. A task is gone through in random order, all of its
rows once before any is drawn again, and the next epoch goes on where the last one ended: so at temperature 1 every
epoch has every row once, and a small task with a large share is repeated evenly.

Example: 900 and 100 rows at temperature 2 have shares of 30 to 10, so an epoch of 1,000 draws 750 of the first, five
sixths of its rows, and 250 of the second, each of its rows two or three times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.training.rows import TokenizedRows

UNLABELLED = "(no label)"


class Mixture(Section):
    """Rows drawn by task."""

    by: Literal["source", "label"] = Field(default="source", description="what is a task: title of a source, or label")
    temperature: float = Field(
        default=1.0, ge=1, description="a task of n rows is drawn n^(1/temperature) often; 1: as often as it has rows"
    )
    weights: dict[str, float] | None = Field(
        default=None, description="task to how often it is drawn, relative to the others, whatever its rows"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Mixture:
        if self.weights is not None and self.temperature != 1:
            raise ValueError("temperature and weights are two ways to say how often; leave one out")
        if self.weights is not None and (not self.weights or min(self.weights.values()) <= 0):
            raise ValueError("weights: expected at least one task, each with a weight above 0")
        return self

    def describe(self) -> str:
        """The mixture in words, the middle of a sentence."""
        if self.weights is not None:
            return f"by weight of the {self.by}"
        return f"by {self.by}, temperature {self.temperature:g}"

    def problems(self, counts: Mapping[str, int]) -> list[str]:
        """Why it does not fit the rows of each task."""
        if not counts:
            return []
        if self.by == "label" and set(counts) == {UNLABELLED}:
            return ["mixture.by: label, but no row has a label; set mixture.by: source"]
        if self.weights is None or set(counts) == set(self.weights):
            return []
        missing, unknown = sorted(set(counts) - set(self.weights)), sorted(set(self.weights) - set(counts))
        found = [f"no weight for {', '.join(missing)}"] * bool(missing)
        found += [f"no rows of {', '.join(unknown)}"] * bool(unknown)
        return [f"mixture.weights: {' and '.join(found)}; expected a weight for each of {', '.join(sorted(counts))}"]

    def quotas(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Rows that an epoch draws of each task; their sum is the number of rows. Largest remainders are rounded up."""
        total = sum(counts.values())
        raw = {
            task: count ** (1 / self.temperature) if self.weights is None else self.weights[task]
            for task, count in counts.items()
        }
        exact = {task: total * share / sum(raw.values()) for task, share in raw.items()}
        quotas = {task: int(share) for task, share in exact.items()}
        lacking = total - sum(quotas.values())
        for task in sorted(exact, key=lambda task: (quotas[task] - exact[task], task))[:lacking]:
            quotas[task] += 1
        return quotas


def count_tasks(tasks: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """Rows of each task.

    Args:
        tasks: Number of each row's task, shape (rows,).
        names: Name of each task.
    """
    return {name: int((tasks == number).sum()) for number, name in enumerate(names)}


def draw_epoch(tasks: np.ndarray, quotas: Sequence[int], seed: int, epoch: int) -> np.ndarray:
    """The rows of an epoch, a function of its arguments alone.

    Args:
        tasks: Number of each row's task, shape (rows,).
        quotas: Rows to draw of each task.
        seed: Of the order.
        epoch: Counted from 0.

    Returns:
        Row numbers, in no useful order, shape (sum of quotas,).
    """
    import numpy as np

    drawn = []
    for task, quota in enumerate(quotas):
        members = np.flatnonzero(tasks == task)
        if not quota:
            continue
        first, last = epoch * quota, (epoch + 1) * quota
        passes = range(first // len(members), (last - 1) // len(members) + 1)
        order = np.concatenate([np.random.default_rng([seed, task, number]).permutation(members) for number in passes])
        start = first - passes.start * len(members)
        drawn.append(order[start : start + quota])
    return np.concatenate(drawn)


def add_tasks(rows: TokenizedRows, examples: pa.Table, mixture: Mixture | None) -> TokenizedRows:
    """The rows with their tasks, where tasks are mixed.

    Args:
        rows: Of a split.
        examples: The split, schema `EXAMPLES`, whose ids are those of the rows.
        mixture: Says what is a task; None: nothing is mixed.
    """
    if mixture is None or rows.ids is None:
        return rows
    import numpy as np

    named = examples[mixture.by].to_pylist()
    task_of = {name: task or UNLABELLED for name, task in zip(examples["id"].to_pylist(), named, strict=True)}
    names = tuple(sorted({task_of[name] for name in rows.ids}))
    numbers = {name: number for number, name in enumerate(names)}
    return replace(rows, tasks=np.array([numbers[task_of[name]] for name in rows.ids], np.int64), task_names=names)


def drawing(rows: TokenizedRows, mixture: Mixture | None, seed: int) -> Callable[[int], np.ndarray] | None:
    """What `draw_epoch` draws of these rows, as a function of the epoch; None where nothing is mixed."""
    if mixture is None or rows.tasks is None:
        return None
    tasks = rows.tasks
    quotas = list(mixture.quotas(count_tasks(tasks, rows.task_names)).values())
    return lambda epoch: draw_epoch(tasks, quotas, seed, epoch)


def list_task_figures(rows: TokenizedRows) -> list[str]:
    """Names of the validation losses of single tasks, in the order of their numbers, without the ``eval_``."""
    return [f"loss_of_{name}" for name in rows.task_names]
