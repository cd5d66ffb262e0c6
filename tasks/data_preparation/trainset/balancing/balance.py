"""Even out the classes of the training rows, and hand weights and costs over to training."""

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
    """A way to balance."""

    @property
    def name(self) -> str: ...
    def balance(self, rows: Labelled) -> Balanced: ...


def balance_train(rows: Rows, settings: Balancing, seed: int, folder: Path) -> Rows:
    """Repeat or drop training rows, and write what training should know about the classes.

    Args:
        rows: Split rows.
        settings: Method, weights, costs.
        seed: Of the split, for the repetitions by weight of source.
        folder: Emptied first; gets ``balance.json``, ``vectors.parquet`` after SMOTE, and a manifest.

    Returns:
        The rows with the column ``times`` where a method repeats some; those that left are in ``dropped``.

    Raises:
        PipelineError: No training row has a label though something needs one, or costs name an unknown label.
    """
    places, labelled = _list_labelled(rows, seed)
    before = labelled.count()
    if settings.asked and not before:
        raise PipelineError(
            "balancing: no training row has a label; name the label column in data_preparation.sources or remove "
            "data_preparation.balancing"
        )
    _check_costs(settings.costs, list(before))
    vectors: pa.Table | None = None
    after = before
    if settings.method is not None:
        done = settings.method.balance(labelled)
        vectors = done.vectors
        after = Labelled(labelled.ids, labelled.labels, done.times, labelled.texts).count()
        rows = _apply(rows, seed, places, labelled, done, before, after)
    weights = weigh_classes(after, settings)
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
    if settings.asked:
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
    done: Balanced,
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> Rows:
    times = count_repeats(rows.table, rows, seed)
    reasons: list[str | None] = [None] * rows.table.num_rows
    for place, label, count in zip(places, labelled.labels, done.times, strict=True):
        times[place] = count
        if not count:
            reasons[place] = f"label {label} has more rows than wanted"
    table = rows.table.append_column(TIMES, pa.array(times, pa.int64()))
    notes = {"rows_before": sum(before.values()), "rows_after": sum(after.values()), **(done.notes or {})}
    changed = sum(count > was for count, was in zip(done.times, labelled.times, strict=True))
    return finish_step(rows, STEP, table, reasons, changed=changed, notes=notes)


def _check_costs(costs: Mapping[str, Mapping[str, float]], classes: list[str]) -> None:
    free = [label for label, row in zip(classes, make_costs(costs, classes) or [], strict=False) if not any(row)]
    named = sorted({*costs, *(label for row in costs.values() for label in row)} - set(classes))
    raise_all(
        [
            f'balancing: costs name "{label}", which no training row has; labels are {", ".join(classes[:20])}'
            + (", ..." if len(classes) > 20 else "")
            for label in named
        ]
        + [
            f'balancing: no mistake about "{label}" costs anything, so it would not be learned; give it a cost, or '
            "drop its rows"
            for label in free
        ],
        "balancing",
    )


def weigh_classes(counts: Mapping[str, int], settings: Balancing) -> dict[str, float] | None:
    """Weight of each label, so that the mean over the rows is 1; None without weighting and costs.

    Args:
        counts: Training rows per label, repetitions included; none is 0.
        settings: How to weigh, and what mistakes cost.
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
    """The cost matrix, right label by given label; None where no cost is given."""
    if not costs:
        return None
    return [[0.0 if right == given else costs.get(right, {}).get(given, 1.0) for given in classes] for right in classes]


def _list_classes(rows: Rows, balance: Balance) -> Rows:
    weights = balance.weights or {}
    total, later = sum(balance.before.values()), sum(balance.after.values())
    lines = tuple(
        (
            label,
            balance.before[label],
            f"{balance.before[label] / total:.2%}",
            balance.after[label],
            f"{balance.after[label] / later:.2%}",
            round(weights.get(label, 1.0), 4),
        )
        for label in sorted(balance.classes, key=lambda label: (-balance.before[label], label))
    )
    listing = Listing(
        "Classes of the training rows",
        ("label", "rows before", "share before", "rows after", "share after", "weight"),
        lines,
        note="data/prepared/balance/balance.json holds these figures, weights and costs for training.",
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
