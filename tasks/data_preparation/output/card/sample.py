"""The rows that the costlier figures of the card are measured on, and how sure a share of them is."""

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
class Drawn:
    """Some of the rows, in their order.

    Attributes:
        table: The rows.
        of: How many there were to choose from.
    """

    table: pa.Table
    of: int

    @property
    def whole(self) -> bool:
        """Whether it is all of them, so that figures are exact."""
        return bool(self.table.num_rows == self.of)

    def name(self) -> str:
        """What the figures are measured on, in words."""
        if self.whole:
            return f"Measured on all {self.of:,} rows."
        return (
            f"Measured on a sample of {self.table.num_rows:,} of {self.of:,} rows, those with the smallest content "
            "hashes; a range in brackets is the 95% interval."
        )

    def show_share(self, count: int, among: int | None = None) -> str:
        """A share of the sample in percent; with its interval where the sample is not the whole."""
        total = self.table.num_rows if among is None else among
        share = f"{count / max(total, 1):.1%}"
        if self.whole or not total:
            return share
        low, high = find_interval(count, total)
        return f"{share} ({low:.1%} to {high:.1%})"


def draw_rows(table: pa.Table, most: int) -> Drawn:
    """The rows with the smallest content hashes; a new row displaces at most one.

    Args:
        table: With ``id``.
        most: Most rows drawn.
    """
    if table.num_rows <= most:
        return Drawn(table, table.num_rows)
    order = np.asarray(pc.sort_indices(table["id"]))[:most]
    return Drawn(table.take(pa.array(np.sort(order))), table.num_rows)


def find_interval(count: int, total: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927, https://doi.org/10.2307/2276774)."""
    share = count / total
    middle = share + Z * Z / (2 * total)
    reach = Z * float(np.sqrt(share * (1 - share) / total + Z * Z / (4 * total * total)))
    scale = 1 + Z * Z / total
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def read_texts(table: pa.Table) -> list[str]:
    """Per row its prompts and then its answers."""
    messages = column_messages(table)
    both = zip(*(join_turns(messages, [role]) for role in ("user", "assistant")), strict=True)
    return ["\n".join(texts).strip() for texts in both]


def count_shapes(rows: Rows) -> dict[str, int]:
    """Shape of the sources to its rows that are left, the most frequent first."""
    shape_of = {
        origin.title: origin.kind if origin.kind == AUGMENTATION else (origin.shape or origin.kind).split(" ")[0]
        for origin in rows.origins
    }
    counts: Counter[str] = Counter()
    for source, count in count_values(rows.table["source"]).items():
        counts[shape_of.get(source, "")] += count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
