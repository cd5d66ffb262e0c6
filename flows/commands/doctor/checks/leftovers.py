"""What killed commands and refused entries left in the checkout."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts
from flows.wiring.processes import RECORDS, has_process, read_mark

OLD_S = 3600


def examine(here: Surroundings) -> Iterator[Finding]:
    now = time.time()
    for part in sorted(artifacts.CHECKPOINTS.glob("*/step-*.part")):
        if part.is_dir() and now - part.stat().st_mtime > OLD_S:
            size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
            found = f"a checkpoint that was not finished, {size / 2**20:,.1f} MiB, which nothing reads"
            yield Finding("warning", str(part), found, "delete it, once no training is at work")
    refused = sum(1 for _ in artifacts.REFUSED.glob("*.jsonl"))
    if refused:
        found = f"{refused} files of entries that MLflow refused, with the reason in each"
        yield Finding("warning", str(artifacts.REFUSED), found, "look into them, then delete them")
    if artifacts.WAITING.is_file():
        yield Finding(
            "note", str(artifacts.WAITING), "a failed gate waits for a decision", "`heptune approve`, or run again"
        )
    for record in sorted(RECORDS.glob("*.json")):
        mark = read_mark(record.stem)
        if mark is not None and mark[2] == socket.gethostname() and not has_process(mark):
            found = f"process {mark[0]} was killed and may have left others"
            yield Finding("note", str(record), found, "the next command ends them")
