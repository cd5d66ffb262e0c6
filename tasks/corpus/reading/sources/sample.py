"""The sample source: customer help of Fernhollow, an invented shop for outdoor and home gear.

Good for: a first run without any data, tests and benchmarks, because the truth about every row is known.
Example: ``sources: [{name: sample, rows: 6000, seed: 20261}]`` reads 6,000 clean rows of 44 intents, and
15.5% more rows with planted defects on top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.corpus.reading.sources.pins import check_row_pin
from tasks.corpus.reading.sources.source import Records, Source


class Sample(Source):
    """Rows from the built-in generator."""

    name: Literal["sample"] = "sample"
    rows: int = Field(default=6000, ge=1, description="clean rows; planted defects come on top")
    seed: int = Field(default=20261, ge=0, description="same seed, same bytes")
    intents: int | None = Field(
        default=None, ge=2, le=44, description="number of intents, the most frequent ones; null: all 44"
    )
    dirt: bool = Field(default=True, description="plant duplicates, PII, HTML, broken text and wrong labels")
    license: str = Field(default="Apache-2.0", description="licence of the rows for the data card")
    origin: str = Field(default="generated: an invented shop's customer help", description="where the rows come from")

    def read(self, root: Path) -> Records:
        """The raw rows: ``messages`` and ``intent``. ``root`` is not used, since nothing is read from disk.

        Raises:
            PipelineError: The rows are not the pinned ones.
        """
        from tasks.corpus.reading.sources.arrow_rows import split_table
        from tasks.sample_shop.sample import generate_sample

        parts = [split_table(generate_sample(self.rows, self.seed, self.dirt, self.intents).table)]
        return Records(check_row_pin(self, self.name, parts))
