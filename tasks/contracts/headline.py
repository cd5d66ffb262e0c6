"""The few figures of a stage by which runs are told apart: what ``dvc metrics show`` and ``dvc exp show`` list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.contracts.manifest import write_json


def write_headline(path: Path, figures: Mapping[str, float]) -> dict[str, float]:
    """Write a stage's headline figures; all others are in its ``metrics.json``.

    They have four significant digits, because DVC shows all stages in one table, and that has to fit a terminal of 80
    columns.

    Args:
        path: The file to write.
        figures: Short name to number.

    Returns:
        The figures as written.
    """
    rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
    write_json(path, rounded)
    return rounded
