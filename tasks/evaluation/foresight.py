"""Which verdicts the held-out rows allow, known as soon as the data are split and before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts.power import detectable_share
from tasks.contracts.tables import read_examples
from tasks.evaluation.decisions.reuse import FrozenChampion, HeldOutUse, selection_key, use_held_out

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.evaluation.metrics.metric import Metric
    from tasks.evaluation.params import Evaluation

# A split is drawn by content, so its size varies about its share.
MARGIN = 1.1
# Metrics that score labelled rows alone.
NEED_LABELS = ("intent_accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_recall")
# More than half of the rows are better trained on.
LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class HeldOut:
    """What evaluation will find in the splits, at most.

    Attributes:
        rows: Rows of the test split that have a prompt and an answer, or are documents where those are items; with
            folds those of the training split too.
        labelled: Those of them with a label.
        clusters: Independent ones: near-duplicates count once.
        requests: Those of them with a prompt, so that they are requests as monitoring compares them.
        labels: Labels in the training split.
        all_rows: Rows of the training and the test split.
    """

    rows: int
    labelled: int
    clusters: int
    requests: int
    labels: int
    all_rows: int


def read_held_out(train: Path, test: Path, folds: int | None = None, train_only: Sequence[str] = ()) -> pa.Table:
    """The rows of which items are taken: those of the test split, and with folds of the training split too."""
    if not folds:
        return read_examples(test)
    import pyarrow as pa

    from tasks.evaluation.items import find_items

    found = find_items(read_examples(train), train_only)
    return pa.concat_tables(
        [table.select(["id", "messages", "label", "cluster"]) for table in (read_examples(test), found)]
    )


def count_held_out(
    train: Path, test: Path, folds: int | None = None, train_only: Sequence[str] = (), documents: bool = False
) -> HeldOut:
    """Count the rows that a verdict can rest on.

    Args:
        train: Training split, `Example` rows.
        test: Test split.
        folds: ``evaluation.folds``.
        train_only: ``data_preparation.split.train_only``.
        documents: Plain texts are items too, see `tasks.evaluation.items.select_items`.

    Raises:
        PipelineError: A file is missing or not readable.
    """
    import pyarrow.compute as pc

    table, trained = read_held_out(train, test, folds, train_only), read_examples(train)
    turns = pc.list_value_length(table["messages"])
    answerable = table.filter(pc.greater_equal(turns, 1 if documents else 2))
    return HeldOut(
        rows=answerable.num_rows,
        labelled=answerable.num_rows - answerable["label"].null_count,
        clusters=pc.count_distinct(answerable["cluster"]).as_py(),
        requests=table.filter(pc.greater_equal(turns, 2)).num_rows,
        labels=pc.count_distinct(trained["label"]).as_py(),
        all_rows=trained.num_rows + read_examples(test).num_rows,
    )


@dataclass(frozen=True)
class Foresight:
    """What can be said about the verdicts to come.

    Attributes:
        problems: A sentence for each verdict that is impossible with these sizes, with what to do.
        notes: What decides, and how large an improvement has to be.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]


def foresee_use(
    test: Path,
    champion: FrozenChampion,
    settings: Evaluation,
    train: Path | None = None,
    train_only: Sequence[str] = (),
) -> HeldOutUse | None:
    """What the next decision will take of the held-out rows; None where nothing was decided before.

    Args:
        test: Test split, `Example` rows.
        champion: With the earlier decisions.
        settings: Params of evaluation.
        train: Training split, of which with folds items are taken too.
        train_only: ``data_preparation.split.train_only``.
    """
    if not champion.decisions:
        return None
    rows = read_held_out(train or test, test, settings.folds if train else None, train_only)
    ids = sorted(rows["id"].to_pylist(), key=selection_key)[: settings.items]
    return use_held_out(ids, "", champion.decisions, settings.gate.reuse, settings.bootstrap.confidence)


def foresee_verdicts(
    found: HeldOut,
    settings: Evaluation,
    test_share: float | None,
    drift_rows: int,
    use: HeldOutUse | None = None,
    rewards: Sequence[Metric] = (),
    gives: str = "",
) -> Foresight:
    """What evaluation's gate and monitoring can find out with so many held-out rows.

    Args:
        found: Sizes.
        settings: Params of evaluation.
        test_share: ``data_preparation.split.test``; None where the method of the split takes none.
        drift_rows: ``monitoring.drift.minimum_rows``, which the baseline, the answers to the held-out rows, needs too.
        use: What the next decision takes of the held-out rows; None: they have not decided before.
        rewards: Metrics of the rewards that are asked for instead of answers; empty where answers are.
        gives: What the release gives instead of answers, in words; empty where it answers.
    """
    problems, notes = [], []
    metrics = tuple(rewards) or settings.metrics
    wanted = [rewards[0].name] if rewards else settings.gate.primaries
    why = why_without_labels(found) if any(name in NEED_LABELS for name in wanted) else None
    names = [name for name in wanted if why is None or name not in NEED_LABELS]
    if not names:
        names = [metric.name for metric in metrics if metric.name not in NEED_LABELS]
    if not names:
        problems.append(f"no model can be compared: {why}; add exact_match or loss to evaluation.metrics")
    else:
        primary = next(metric for metric in metrics if metric.name == names[0])
        if why is not None:
            without = " and ".join(name for name in wanted if name in NEED_LABELS)
            notes.append(f"{without} does not apply ({why}), so {primary.name} decides about promotion")
        rows = found.labelled if primary.name in NEED_LABELS else found.rows
        scored, needed = min(rows, settings.items), settings.gate.minimum_items
        effect = ""
        if primary.bounded and scored:
            confidence = use.confidence if use else settings.bootstrap.confidence
            share = detectable_share(min(scored, found.clusters), confidence, settings.bootstrap.power)
            if settings.folds:
                from tasks.evaluation.held_out.folds import find_widening

                share = min(1.0, find_widening(settings.folds) * share)
            effect = (
                f"on {scored:,} held-out rows an improvement of {primary.name} by {share:.2g} is found with a "
                f"probability of {settings.bootstrap.power:.0%}, a smaller one less often"
            )
        if scored < needed:
            graded = "" if rewards or primary.name == "loss" else "primary: loss, "
            other = f", or judge by fewer rows (evaluation.gate: {{{graded}minimum_items: {scored}}})" * (scored >= 2)
            problems.append(
                f"no candidate can be promoted: evaluation.gate.minimum_items is {needed:,}, and {primary.name} is "
                f"scored on {scored:,} held-out rows; {suggest(found, rows, needed, test_share)}{other}"
            )
        if effect:
            notes.append(effect)
    if use and (worn := use.describe()):
        (problems if use.worn_out else notes).append(worn)
    baseline = min(found.requests, settings.items)
    if gives:
        notes.append(f"the release gives {gives} and answers no requests, so monitoring has none to look for drift in")
    elif found.rows and not found.requests:
        notes.append("documents are no requests, so monitoring has no baseline to look for drift with")
    elif baseline < drift_rows:
        remedy = (
            "raise evaluation.items"
            if found.requests >= drift_rows
            else suggest(found, baseline, drift_rows, test_share)
        )
        problems.append(
            f"no drift can be found: monitoring.drift.minimum_rows is {drift_rows:,}, and the baseline, the answers to "
            f"the held-out rows, has {baseline:,}; {remedy}"
        )
    return Foresight(tuple(problems), tuple(notes))


def why_without_labels(found: HeldOut) -> str | None:
    """Why intent accuracy will not apply; None where it will."""
    if found.labels < 2:
        return "the training split has fewer than two labels"
    return "no held-out row has a label" if not found.labelled else None


def suggest(found: HeldOut, rows: int, needed: int, test_share: float | None) -> str:
    """How to come to as many held-out rows as are needed."""
    if not rows:
        return f"hold out {needed:,} rows that can be scored"
    if test_share is None:
        return f"hold out {needed:,} rows"
    wanted = math.ceil(100 * MARGIN * test_share * needed / rows) / 100
    if wanted <= LARGEST_SHARE:
        return f"raise data_preparation.split.test from {test_share:g} to {wanted:g}"
    more = round(found.all_rows * (MARGIN * needed / rows - 1))
    return f"add about {more:,} rows, or fewer with a larger data_preparation.split.test (now {test_share:g})"
