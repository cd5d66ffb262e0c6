"""The sample as a file such as a help desk exports, for a first walk with a table instead of the generator."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from tasks.contracts.errors import PipelineError
from tasks.sample_shop.sample import generate_sample

SINGLE = ["user", "assistant"]


def write_example(path: Path, rows: int, intents: int, seed: int) -> int:
    """Write a CSV with the columns ``question``, ``answer`` and ``intent``; planted defects are in it.

    Args:
        path: The file; its folder is made.
        rows: Clean conversations drawn, and about 15% more with defects; those of one question are written.
        intents: Number of intents, the most frequent ones.
        seed: Seed of every choice.

    Returns:
        Number of rows written.

    Raises:
        PipelineError: The file is there already.
    """
    if path.exists():
        raise PipelineError(f"{path} is there already; delete it, or name another file")
    table = generate_sample(rows, seed, intents=intents).table
    kept = [
        (messages[0]["content"], messages[1]["content"], intent)
        for messages, intent in zip(table["messages"].to_pylist(), table["intent"].to_pylist(), strict=True)
        if [message["role"] for message in messages] == SINGLE
    ]
    questions, answers, names = zip(*kept, strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.csv.write_csv(pa.table({"question": questions, "answer": answers, "intent": names}), path)
    return len(kept)
