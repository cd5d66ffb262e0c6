"""The sample of rows for the costlier measurements of the card, and confidence intervals of shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.rows import Rows, column_messages, join_turns
from tasks.data_preparation.output.sizes import count_values
from tasks.data_preparation.trainset.augmentation.augment import AUGMENTATION

# Two-sided 95% of the normal distribution.
Z = 1.959964


@dataclass(frozen=True)
class CardSample:
    """A sample of the rows, in their order.

    Attributes:
        table: The rows.
        population: Number of rows the sample was drawn from.
    """

    table: pa.Table
    population: int

    @property
    def complete(self) -> bool:
        """Whether the sample is all rows, so that measurements are exact."""
        return bool(self.table.num_rows == self.population)

    def describe(self) -> str:
        """A sentence on the rows that were measured."""
        if self.complete:
            return f"Measured on all {self.population:,} rows."
        return (
            f"Measured on a sample of {self.table.num_rows:,} of {self.population:,} rows, chosen by content hash; "
            "ranges in parentheses are 95% confidence intervals."
        )

    def show_share(self, count: int, total: int | None = None) -> str:
        """A share of the sample in percent, with its confidence interval where the sample is not all rows."""
        total = self.table.num_rows if total is None else total
        share = f"{count / max(total, 1):.1%}"
        if self.complete or not total:
            return share
        low, high = find_interval(count, total)
        return f"{share} ({low:.1%} to {high:.1%})"


def draw_rows(table: pa.Table, limit: int) -> CardSample:
    """Draw the rows with the smallest content hashes, so that a new row replaces at most one in the sample.

    Args:
        table: With ``id``.
        limit: Maximum number of rows.
    """
    if table.num_rows <= limit:
        return CardSample(table, table.num_rows)
    order = np.asarray(pc.sort_indices(table["id"]))[:limit]
    return CardSample(table.take(pa.array(np.sort(order))), table.num_rows)


def find_interval(count: int, total: int) -> tuple[float, float]:
    """95% confidence interval of a share (Wilson 1927, https://doi.org/10.2307/2276774)."""
    share = count / total
    centre = share + Z * Z / (2 * total)
    margin = Z * float(np.sqrt(share * (1 - share) / total + Z * Z / (4 * total * total)))
    scale = 1 + Z * Z / total
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def read_texts(table: pa.Table) -> list[str]:
    """Per row the text of its prompts followed by that of its answers."""
    messages = column_messages(table)
    sides = zip(*(join_turns(messages, [role]) for role in ("user", "assistant")), strict=True)
    return ["\n".join(texts).strip() for texts in sides]


def count_shapes(rows: Rows) -> dict[str, int]:
    """Shape of the sources to its number of remaining rows, the most frequent first."""
    shape_of = {
        origin.title: origin.kind if origin.kind == AUGMENTATION else (origin.shape or origin.kind).split(" ")[0]
        for origin in rows.origins
    }
    counts: Counter[str] = Counter()
    for source, count in count_values(rows.table["source"]).items():
        counts[shape_of.get(source, "")] += count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
