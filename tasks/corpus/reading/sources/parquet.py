"""Parquet files, local or remote, read in batches of a few hundred rows.

Good for: large data sets, and shards of a data set downloaded from the hub by hand.

Example:
    ``{name: parquet, path: data/raw/shards/*.parquet, fields: {prompt: query, answer: reply}}``
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.files import Files, read_files
from tasks.corpus.reading.sources.source import Part, Records
from tasks.corpus.reading.sources.unpack import PARQUET, BrokenFile, refuse_foreign


class Parquet(Files):
    """Parquet."""

    name: Literal["parquet"] = "parquet"

    def read(self, root: Path) -> Records:
        """Read all rows.

        Raises:
            PipelineError: A file is not Parquet, has two columns of the same name, or decompresses to too many bytes.
        """
        return read_files(self, root, (".parquet",), self._parse)

    def _parse(self, path: Path, name: str) -> Iterator[Part]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from tasks.corpus.reading.sources.arrow_rows import (
            UNREADABLE,
            check_claims,
            choose_rows,
            name_classes,
            read_classes,
            spell_out,
            split_table,
        )

        refuse_foreign(path, name, PARQUET)
        try:
            with pq.ParquetFile(path) as file:
                check_claims(file, name, path.stat().st_size, self.max_bytes)
                first_row, read_bytes, classes = 1, 0, read_classes(file.schema_arrow)
                for group in range(file.num_row_groups):
                    for batch in file.iter_batches(choose_rows(path, file, group), row_groups=[group]):
                        table = spell_out(pa.Table.from_batches([batch]))
                        read_bytes += table.nbytes
                        if read_bytes > self.max_bytes:
                            raise PipelineError(
                                f"{name}: unpacks to more than {self.max_bytes:,} bytes; check that it is no "
                                "decompression bomb, then raise max_bytes"
                            )
                        part = split_table(table, first=first_row)
                        name_classes(part, classes)
                        yield part
                        first_row += table.num_rows
        except (*UNREADABLE, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            # The system numbers its errors, such as a file without permission.
            kind = PipelineError if getattr(error, "errno", None) else BrokenFile
            raise kind(f"{name}: not a readable Parquet file ({reason}); fetch it again") from error
