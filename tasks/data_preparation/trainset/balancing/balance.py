"""Balance the classes of the training rows, and write class weights and costs for training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.balance import VECTORS, VECTORS_FILE, Balance, write_balance
from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import seal
from tasks.contracts.tables import write_table
from tasks.corpus.rows.rows import Listing, Rows, column_messages, finish_step, join_turns
from tasks.data_preparation.splitting.split import TIMES, count_repeats
from tasks.data_preparation.trainset.balancing.balancer import Balanced, Labelled
from tasks.data_preparation.trainset.balancing.params import Balancing

STEP = "balancing"


class Balancer(Protocol):
    """A method of class balancing."""

    @property
    def name(self) -> str: ...
    def balance(self, rows: Labelled) -> Balanced: ...


def balance_train(rows: Rows, settings: Balancing, seed: int, folder: Path) -> Rows:
    """Repeat or drop training rows, and write weights and costs of the classes for training.

    Args:
        rows: Split rows.
        settings: Method, weights, costs.
        seed: Seed of the split, for the repetitions by the weight of a source.
        folder: Emptied first; receives ``balance.json``, ``vectors.parquet`` with SMOTE, and a manifest.

    Returns:
        The rows, with the column ``times`` if there is a method; dropped rows are in ``dropped``.

    Raises:
        PipelineError: No training row has a label although a setting needs labels, or costs name an unknown label.
    """
    places, labelled = _list_labelled(rows, seed)
    before = labelled.count()
    if settings.needs_labels and not before:
        raise PipelineError(
            "balancing: no training row has a label; name the label column in data_preparation.sources or remove "
            "data_preparation.balancing"
        )
    _check_costs(settings.costs, list(before))
    vectors: pa.Table | None = None
    after = before
    if settings.method is not None:
        balanced = settings.method.balance(labelled)
        vectors = balanced.vectors
        after = Labelled(labelled.ids, labelled.labels, balanced.times, labelled.texts).count()
        rows = _apply(rows, seed, places, labelled, balanced, before, after)
    weights = weight_classes(after, settings)
    balance = Balance(
        classes=list(before),
        before=before,
        after=after,
        weighting=settings.weights,
        weights=weights,
        costs=make_costs(settings.costs, list(before)),
        batches="stratified" if settings.stratified_batches else "any",
        vectors=None if vectors is None else VECTORS_FILE,
    )
    if settings.needs_labels:
        rows = _list_classes(rows, balance)
    _write(balance, vectors, folder)
    return rows


def _list_labelled(rows: Rows, seed: int) -> tuple[list[int], Labelled]:
    chosen = pc.and_(pc.equal(rows.table["split"], "train"), pc.is_valid(rows.table["label"]))
    places = np.flatnonzero(np.asarray(chosen.combine_chunks())).tolist() if rows.table.num_rows else []
    part = rows.table.take(pa.array(places, pa.int64()))
    texts = join_turns(column_messages(part), ["user"])
    times = count_repeats(part, rows, seed)
    return places, Labelled(part["id"].to_pylist(), part["label"].to_pylist(), times, texts)


def _apply(
    rows: Rows,
    seed: int,
    places: list[int],
    labelled: Labelled,
    balanced: Balanced,
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> Rows:
    times = count_repeats(rows.table, rows, seed)
    reasons: list[str | None] = [None] * rows.table.num_rows
    for place, label, count in zip(places, labelled.labels, balanced.times, strict=True):
        times[place] = count
        if not count:
            reasons[place] = f"label {label} has more rows than wanted"
    table = rows.table.append_column(TIMES, pa.array(times, pa.int64()))
    notes = {"rows_before": sum(before.values()), "rows_after": sum(after.values()), **(balanced.notes or {})}
    changed = sum(count > previous for count, previous in zip(balanced.times, labelled.times, strict=True))
    return finish_step(rows, STEP, table, reasons, changed=changed, notes=notes)


def _check_costs(costs: Mapping[str, Mapping[str, float]], classes: list[str]) -> None:
    without_cost = [
        label for label, row in zip(classes, make_costs(costs, classes) or [], strict=False) if not any(row)
    ]
    unknown = sorted({*costs, *(label for row in costs.values() for label in row)} - set(classes))
    raise_all(
        [
            f'balancing: costs name "{label}", which no training row has; labels are {", ".join(classes[:20])}'
            + (", ..." if len(classes) > 20 else "")
            for label in unknown
        ]
        + [
            f'balancing: all costs of mistakes on "{label}" are 0, so it would not be learned; set a cost, or '
            "drop its rows"
            for label in without_cost
        ],
        "balancing",
    )


def weight_classes(counts: Mapping[str, int], settings: Balancing) -> dict[str, float] | None:
    """Weight of each label in the loss, with a mean of 1 over the rows; None without weights and costs.

    Args:
        counts: Training rows per label, including repetitions; all above 0.
        settings: Weighting and costs.
    """
    if settings.weights == "none" and not settings.costs:
        return None
    if settings.weights == "inverse":
        raw = {label: 1 / count for label, count in counts.items()}
    elif settings.weights == "effective":
        raw = {label: (1 - settings.beta) / (1 - settings.beta**count) for label, count in counts.items()}
    else:
        raw = dict.fromkeys(counts, 1.0)
    if costs := make_costs(settings.costs, list(counts)):
        raw = {label: weight * sum(row) for (label, weight), row in zip(raw.items(), costs, strict=True)}
    mean = sum(raw[label] * count for label, count in counts.items()) / sum(counts.values())
    return {label: weight / mean for label, weight in raw.items()}


def make_costs(costs: Mapping[str, Mapping[str, float]], classes: list[str]) -> list[list[float]] | None:
    """The cost matrix, right label by predicted label; None where no cost is set."""
    if not costs:
        return None
    return [[0.0 if right == given else costs.get(right, {}).get(given, 1.0) for given in classes] for right in classes]


def _list_classes(rows: Rows, balance: Balance) -> Rows:
    weights = balance.weights or {}
    rows_before, rows_after = sum(balance.before.values()), sum(balance.after.values())
    lines = tuple(
        (
            label,
            balance.before[label],
            f"{balance.before[label] / rows_before:.2%}",
            balance.after[label],
            f"{balance.after[label] / rows_after:.2%}",
            round(weights.get(label, 1.0), 4),
        )
        for label in sorted(balance.classes, key=lambda label: (-balance.before[label], label))
    )
    listing = Listing(
        "Classes of the training rows",
        ("label", "rows before", "share before", "rows after", "share after", "weight"),
        lines,
        note="data/prepared/balance/balance.json contains these counts, and the weights and costs for training.",
    )
    if rows.steps[-1].name == STEP:
        last = replace(rows.steps[-1], listings=(listing,))
        return replace(rows, steps=(*rows.steps[:-1], last))
    return finish_step(rows, STEP, rows.table, listings=[listing])


def _write(balance: Balance, vectors: pa.Table | None, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [write_balance(balance, folder)]
    if vectors is not None:
        write_table(vectors, folder / VECTORS_FILE, VECTORS)
        files.append(folder / VECTORS_FILE)
    seal(folder, files, {"classes": len(balance.classes), "rows": sum(balance.after.values())})
