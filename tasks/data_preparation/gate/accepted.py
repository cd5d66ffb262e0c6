"""Data drift since the last accepted version: its statistics as a file, and the distance of the data from them.

A version is accepted by ``heptune accept`` or when a retrain begins, which write its statistics below ``data/raw``.
They are an input like any other, and the stage remains a function of its files.

Lengths are compared by the Kolmogorov-Smirnov distance, labels by the total variation distance. Both are the share of
the rows whose length or label would have to change, less what sampling alone explains between two samples of this size
from one population: Smirnov's critical value at 1%, 1.63 sqrt(1/n + 1/m), and the expected total variation,
sqrt(k (1/n + 1/m) / 2 pi) for k labels. The default threshold of 0.2 corresponds to a shift of normally distributed
lengths by half a standard deviation, a population stability index of 0.25, which counts as a major shift (Siddiqi 2006,
Credit Risk Scorecards).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, read_manifest, write_json
from tasks.contracts.params import Section

STATISTICS = "statistics.json"
QUANTILES = 101
# Name of a statistic to the column it is computed from.
LENGTH_COLUMNS = {"prompt_lengths": "prompt_characters", "answer_lengths": "answer_characters"}


class LengthDistribution(Section):
    """The lengths of a column at 101 of its quantiles.

    Attributes:
        values: Distinct lengths, ascending.
        below: Per value the share of the rows that are shorter.
        upto: Per value the share of the rows that are as long or shorter.
    """

    values: tuple[int, ...]
    below: tuple[float, ...]
    upto: tuple[float, ...]


class Statistics(Section):
    """Statistics of a version of the data.

    Attributes:
        rows: Rows in all splits.
        lengths: Name of the measure to its distribution over all splits.
        labels: Label to number of rows.
    """

    rows: int
    lengths: dict[str, LengthDistribution]
    labels: dict[str, int]


def measure_version(described: pa.Table) -> Statistics:
    """The statistics of rows described by `describe_rows`."""
    lengths = {name: _measure_lengths(np.asarray(described[column])) for name, column in LENGTH_COLUMNS.items()}
    counts = pc.value_counts(described["label"].drop_null()).to_pylist()
    labels = {pair["values"]: pair["counts"] for pair in sorted(counts, key=lambda pair: str(pair["values"]))}
    return Statistics(rows=described.num_rows, lengths=lengths if described.num_rows else {}, labels=labels)


def _measure_lengths(values: np.ndarray[Any, Any]) -> LengthDistribution:
    ordered = np.sort(values)
    if not len(ordered):
        return LengthDistribution(values=(), below=(), upto=())
    points = np.unique(np.quantile(ordered, np.linspace(0, 1, QUANTILES), method="lower"))
    below = np.searchsorted(ordered, points, "left") / len(ordered)
    upto = np.searchsorted(ordered, points, "right") / len(ordered)
    return LengthDistribution(
        values=tuple(points.tolist()), below=tuple(below.round(6).tolist()), upto=tuple(upto.round(6).tolist())
    )


def compare_versions(accepted: Statistics, described: pa.Table) -> pa.Table:
    """A table of one row with the distances from the accepted version; labels are left out when neither has any.

    Args:
        accepted: Statistics of the accepted version.
        described: The current rows, described by `describe_rows`.
    """
    rows = described.num_rows
    if not rows or not accepted.rows:
        return pa.table({"rows_kept": [0.0]})
    current = measure_version(described)
    sampling_variance = 1 / rows + 1 / accepted.rows
    line: dict[str, float | int] = {"rows_kept": rows / accepted.rows}
    for name, column in LENGTH_COLUMNS.items():
        distance = _compare_lengths(accepted.lengths[name], np.asarray(described[column]))
        line[name] = max(distance - 1.63 * math.sqrt(sampling_variance), 0.0)
    names = accepted.labels.keys() | current.labels.keys()
    if names:
        distance = _compare_labels(accepted, current)
        line["labels"] = max(distance - math.sqrt(len(names) * sampling_variance / (2 * math.pi)), 0.0)
        line["labels_lost"] = len(accepted.labels.keys() - current.labels.keys())
    return pa.table({name: [round(value, 6)] for name, value in line.items()})


def _compare_lengths(accepted: LengthDistribution, values: np.ndarray[Any, Any]) -> float:
    ordered = np.sort(values)
    points = np.array(accepted.values)
    below = np.searchsorted(ordered, points, "left") / len(ordered) - np.array(accepted.below)
    upto = np.searchsorted(ordered, points, "right") / len(ordered) - np.array(accepted.upto)
    return float(np.abs([below, upto]).max())


def _compare_labels(accepted: Statistics, current: Statistics) -> float:
    def share(version: Statistics, name: str) -> float:
        # Rows without a label are compared as one more class, below.
        return version.labels.get(name, 0) / version.rows

    names = sorted(accepted.labels.keys() | current.labels.keys())
    unlabelled = [1 - sum(version.labels.values()) / version.rows for version in (accepted, current)]
    return (sum(abs(share(accepted, n) - share(current, n)) for n in names) + abs(unlabelled[0] - unlabelled[1])) / 2


def read_accepted(path: Path) -> Statistics | None:
    """The statistics of the last accepted version, or None before there is one.

    Raises:
        PipelineError: The file does not contain statistics.
    """
    if not path.is_file():
        return None
    try:
        return Statistics.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise PipelineError(
            f"{path}: not the statistics of a version ({str(error).splitlines()[0]}); delete it, or write it again "
            "with `heptune accept`"
        ) from error


def accept_version(prepared: Path, docs: Path, path: Path) -> Statistics:
    """Make the prepared data the version that later ones are compared with.

    Args:
        prepared: Folder of the prepared data; complete only when the gate passed or a person approved it.
        docs: The data docs of the same run.
        path: The file the statistics are written to.

    Returns:
        The statistics.

    Raises:
        PipelineError: The prepared data are incomplete, or the data docs belong to another run.
    """
    manifest = read_manifest(prepared)
    outcome: Mapping[str, Any] = read_json(docs / "validation.json")
    if not outcome["passed"] or outcome["data"] != manifest.get("data"):
        raise PipelineError(
            f"{docs} does not describe the data in {prepared}; run `heptune run data_preparation` first"
        )
    statistics: Statistics = Statistics.model_validate(read_json(docs / STATISTICS))
    write_json(path, statistics.model_dump(mode="json"))
    return statistics
