"""Sections that the data page and the data card both have, made in one place."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.rows import Rows
from tasks.corpus.rows.waterfall import plot_waterfall
from tasks.data_preparation.gate.gate import Verdict
from tasks.data_preparation.output.plots import plot_lengths
from tasks.data_preparation.output.sizes import Sizes, count_values
from tasks.data_preparation.splitting.split import SPLITS, TIMES, count_repeats
from tasks.pages.page import Page


def start_page(title: str, summary: str, verdict: Verdict) -> Page:
    """A page that says beside its title whether the gate let the data pass."""
    return Page(
        title,
        summary,
        verdict="gate approved" if verdict.approved else "gate passed" if verdict.passed else "gate failed",
        tone="warn" if verdict.approved else "good" if verdict.passed else "bad",
    )


def count_labels(table: pa.Table) -> dict[str, int]:
    """Label to rows, the most frequent first."""
    return dict(sorted(count_values(table["label"]).items(), key=lambda item: (-item[1], item[0])))


def add_waterfall(page: Page, rows: Rows) -> None:
    """What each step took or added, as a figure."""
    page.figure(plot_waterfall(rows.steps), "From source to splits", "What each step took or added.")


def add_splits(page: Page, rows: Rows, sizes: Sizes) -> None:
    """The splits with their rows, words and labels, as a table."""
    table = rows.table
    counts = count_values(table["split"])
    learned = sizes.words["assistant"]
    labelled = table["label"].null_count < table.num_rows
    lines = []
    for name in SPLITS:
        here = np.asarray(pc.equal(table["split"], name))
        labels = count_labels(table.filter(pa.array(here)))
        most, least = max(labels.values(), default=0), min(labels.values(), default=0)
        lines.append(
            [
                name,
                counts[name],
                f"{counts[name] / table.num_rows:.1%}",
                int(learned[here].sum()),
                *([len(labels), f"{most / max(sum(labels.values()), 1):.1%}", least] if labelled else []),
            ]
        )
    note = "Rows that are alike never stand in different splits; a row never moves when data is added."
    times = _count_train_lines(rows)
    if times != counts["train"]:
        note += f" train.parquet holds {times:,} lines: balancing or a source's weight repeats some of its rows."
    page.table(
        "Splits",
        [
            "split",
            "examples",
            "share",
            "words to learn",
            *(["labels", "largest label", "rows of the smallest"] if labelled else []),
        ],
        lines,
        note=note,
    )


def _count_train_lines(rows: Rows) -> int:
    train = rows.table.filter(pc.equal(rows.table["split"], "train"))
    if TIMES in train.column_names:
        return int(pc.sum(train[TIMES]).as_py() or 0)
    if all(origin.weight <= 1 for origin in rows.origins):
        return int(train.num_rows)
    # The seed only decides which rows the fraction of a weight repeats; the expected number is shown.
    return sum(count_repeats(train, rows, 0))


def add_lengths(page: Page, sizes: Sizes) -> None:
    """How long prompts and answers of all splits are, as a figure."""
    # Plain text has no prompt.
    prompts = sizes.characters["user"][sizes.characters["user"] > 0].tolist()
    answers = sizes.characters["assistant"].tolist()
    middle = [sorted(lengths)[len(lengths) // 2] if lengths else 0 for lengths in (prompts, answers)]
    asked = f"Half of the prompts have at most {middle[0]:,} characters. " if prompts else ""
    page.figure(
        plot_lengths(prompts, answers),
        "Lengths",
        f"{asked}Half of the answers have at most {middle[1]:,} characters.",
    )
