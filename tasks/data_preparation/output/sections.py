"""Sections that the report and the data card share."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.rows import Rows
from tasks.corpus.rows.waterfall import plot_waterfall
from tasks.data_preparation.gate.gate import Verdict
from tasks.data_preparation.output.plots import plot_lengths
from tasks.data_preparation.output.sizes import Sizes, count_values
from tasks.data_preparation.splitting.methods.assignment import SPLITS
from tasks.data_preparation.splitting.passages import MAX_ROWS, MIN_PARAGRAPH
from tasks.data_preparation.splitting.split import PASSAGE_IN_TRAIN, TIMES, WIDE_TEXT_IN_TRAIN, count_repeats
from tasks.pages.page import Page


def start_page(title: str, summary: str, verdict: Verdict) -> Page:
    """A page with the verdict of the gate beside its title."""
    return Page(
        title,
        summary,
        verdict="gate approved" if verdict.approved else "gate passed" if verdict.passed else "gate failed",
        tone="warn" if verdict.approved else "good" if verdict.passed else "bad",
        stage="data_preparation",
    )


def count_labels(table: pa.Table) -> dict[str, int]:
    """Label to number of rows, the most frequent first."""
    return dict(sorted(count_values(table["label"]).items(), key=lambda item: (-item[1], item[0])))


def add_waterfall(page: Page, rows: Rows) -> None:
    """The rows that each step dropped or added, as a plot."""
    page.figure(plot_waterfall(rows.steps), "From the sources to the splits", "Rows that each step dropped or added.")


def add_splits(page: Page, rows: Rows, sizes: Sizes) -> None:
    """Rows, supervised words and labels of each split, as a table."""
    table = rows.table
    counts = count_values(table["split"])
    supervised = sizes.words["assistant"]
    labelled = table["label"].null_count < table.num_rows
    lines = []
    for name in SPLITS:
        in_split = np.asarray(pc.equal(table["split"], name))
        labels = count_labels(table.filter(pa.array(in_split)))
        most, least = max(labels.values(), default=0), min(labels.values(), default=0)
        lines.append(
            [
                name,
                counts[name],
                f"{counts[name] / table.num_rows:.1%}",
                int(supervised[in_split].sum()),
                *([len(labels), f"{most / max(sum(labels.values()), 1):.1%}", least] if labelled else []),
            ]
        )
    note = "Similar rows are always in the same split, and appending data never moves a row to another split."
    note += _describe_shared(rows)
    times = _count_repeated_train_rows(rows)
    if times != counts["train"]:
        note += f" train.parquet contains {times:,} rows, as balancing or the weight of a source repeats some of them."
    page.table(
        "Splits",
        [
            "split",
            "examples",
            "share",
            "words in answers",
            *(["labels", "share of the largest label", "rows of the smallest label"] if labelled else []),
        ],
        lines,
        note=note,
    )


def _describe_shared(rows: Rows) -> str:
    notes = next((step.notes for step in rows.steps if step.name == "split"), {})
    passages, wide = int(notes.get(PASSAGE_IN_TRAIN, 0)), int(notes.get(WIDE_TEXT_IN_TRAIN, 0))
    count = f"{passages:,}" if passages else "No"
    sentence = f" {count} held-out rows share a passage of {MIN_PARAGRAPH['user']} words or more with train."
    if wide:
        sentence += (
            f" Further {wide:,} share a text with it that more than {MAX_ROWS} rows have: a template or instructions, "
            "or a document whose rows only the split method grouped keeps together."
        )
    return sentence


def _count_repeated_train_rows(rows: Rows) -> int:
    train = rows.table.filter(pc.equal(rows.table["split"], "train"))
    if TIMES in train.column_names:
        return int(pc.sum(train[TIMES]).as_py() or 0)
    if all(origin.weight <= 1 for origin in rows.origins):
        return int(train.num_rows)
    # The seed only decides which rows a fractional weight repeats, not how many on average.
    return sum(count_repeats(train, rows, 0))


def add_lengths(page: Page, sizes: Sizes) -> None:
    """The lengths of prompts and answers of all splits, as a plot."""
    # Plain texts have no prompt.
    prompts = sizes.characters["user"][sizes.characters["user"] > 0].tolist()
    answers = sizes.characters["assistant"].tolist()
    medians = [sorted(lengths)[len(lengths) // 2] if lengths else 0 for lengths in (prompts, answers)]
    of_prompts = f"Median length of the prompts: {medians[0]:,} characters. " if prompts else ""
    page.figure(
        plot_lengths(prompts, answers),
        "Lengths",
        f"{of_prompts}Median length of the answers: {medians[1]:,} characters.",
    )
