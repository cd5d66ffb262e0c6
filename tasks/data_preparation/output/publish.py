"""Write the outputs of the stage: the splits, the quarantine and the manifest."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.contracts.leftovers import walk_files
from tasks.contracts.manifest import NAME, seal
from tasks.contracts.records import EXAMPLES, QUARANTINE
from tasks.contracts.tables import add_file, add_untrained, write_table
from tasks.corpus.reading.answers import write_answers
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.gate.gate import Verdict, require_passed
from tasks.data_preparation.splitting.methods.assignment import SPLITS
from tasks.data_preparation.splitting.split import repeat_train

log = logging.getLogger(__name__)

EXTRA = "extra.parquet"
BALANCE = "balance"


def write_quarantine(rows: Rows, path: Path) -> None:
    """Write every dropped row with its source, row number, step and reason.

    From here on the folder is incomplete, until `write_splits` seals it.

    Args:
        rows: The rows at the end of the stage.
        path: The Parquet file.
    """
    (path.parent / NAME).unlink(missing_ok=True)
    write_table(rows.dropped, path, QUARANTINE)


def write_splits(rows: Rows, verdict: Verdict, seed: int, folder: Path) -> dict[str, int]:
    """Write the splits and seal the folder, if the gate passed.

    The manifest names every file that the stage writes: the splits, the answers, and, where they are there, the
    quarantine, ``extra.parquet`` and the folder ``balance``. Other files in the folder are named in a warning.

    Args:
        rows: Split rows.
        verdict: Verdict of the gate.
        seed: Seed of the split.
        folder: Folder of ``train.parquet`` and the other files, beside those written before.

    Returns:
        Rows per Parquet file.

    Raises:
        PipelineError: The data did not pass the gate; no split is written.
    """
    require_passed(verdict)
    schema = add_file(add_untrained(EXAMPLES, rows.table), rows.table["file"])
    counts: dict[str, int] = {}
    for name in SPLITS:
        part = rows.table.filter(pc.equal(rows.table["split"], name))
        if name == "train":
            part = repeat_train(part, rows, seed)
        write_table(part, folder / f"{name}.parquet", schema)
        counts[name] = part.num_rows
    counts["answers"] = write_answers(rows, folder / "answers.parquet")
    counts["quarantine"] = rows.dropped.num_rows
    if (folder / EXTRA).is_file():
        counts["extra"] = pq.read_metadata(folder / EXTRA).num_rows
    labels = Counter(label for label in rows.table["label"].to_pylist() if label is not None)
    files = [folder / f"{name}.parquet" for name in counts]
    files += [path for path, reason in walk_files(folder / BALANCE) if reason is None]
    for path, reason in walk_files(folder):
        if reason is None and path not in files and path != folder / NAME:
            log.warning("%s was not written by data preparation and is in no manifest; remove it", path)
    seal(
        folder,
        files,
        {
            "counts": counts,
            "labels": sorted(labels),
            "seed": seed,
            "sources": [
                {name: value for name, value in asdict(origin).items() if name != "listings"} for origin in rows.origins
            ],
            "data": verdict.data,
            "approval": verdict.approval.model_dump(mode="json") if verdict.approved and verdict.approval else None,
        },
    )
    return counts
