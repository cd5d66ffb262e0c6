"""Which benchmarks there are: a section for each in ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.contracts.params import Reads, Section


class Benchmark(Section):
    """A file with the items of a benchmark."""

    title: str = Field(min_length=1, description="its name in reasons and reports")
    path: Annotated[str, Reads("files")] = Field(
        description="JSON, JSON Lines, CSV, TSV, Parquet, text (an item a line), also compressed; file, folder or glob"
    )
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="pin of its content")
    columns: tuple[str, ...] = Field(default=(), description="columns with texts of the items; all when empty")
