"""The frozen window and baseline, and whether there is enough of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.contracts.records import REQUESTS
from tasks.contracts.tables import read_table, write_table

WINDOW = "window.parquet"
BASELINE = "baseline.parquet"
UNFINISHED = "snapshot.part"
STALE = "run `heptune snapshot` to freeze a new pair"


@dataclass(frozen=True)
class FrozenTraffic:
    """The frozen window and baseline.

    Attributes:
        baseline: Answers of the release on held-out prompts, in the form of logged requests.
        window: The newest logged requests, including rejected and failed ones.
        digest: SHA-256 of the window's file, or "" without one.
    """

    baseline: pa.Table
    window: pa.Table
    digest: str


def read_traffic(folder: Path) -> FrozenTraffic:
    """Read the frozen pair; without one there has been no traffic yet.

    Raises:
        PipelineError: One file of the pair is missing, a snapshot was interrupted, or a file is unreadable.
    """
    if (folder / UNFINISHED).exists():
        raise PipelineError(f"{folder}: a snapshot was interrupted, so window and baseline may not match; {STALE}")
    found = [name for name in (WINDOW, BASELINE) if (folder / name).is_file()]
    if not found:
        return FrozenTraffic(REQUESTS.empty_table(), REQUESTS.empty_table(), "")
    if len(found) == 1:
        raise PipelineError(f"{folder}: only {found[0]} is there; expected {WINDOW} and {BASELINE}; {STALE}")
    window, baseline = (read_table(folder / name, REQUESTS) for name in (WINDOW, BASELINE))
    return FrozenTraffic(baseline, window, hash_file(folder / WINDOW))


def freeze_pair(window: pa.Table, baseline: pa.Table, folder: Path) -> None:
    """Write both files, so that a reader gets both or an error about the interruption.

    Raises:
        PipelineError: Rows do not have the schema, or a file cannot be written.
    """
    pending = {folder / f"{name}.next": folder / name for name in (WINDOW, BASELINE)}
    try:
        for (aside, _), table in zip(pending.items(), (window, baseline), strict=True):
            # Prompts of clients are for the owner only.
            write_table(table, aside, REQUESTS, private=True)
        # Until the mark is removed, one file may be new and the other old.
        mark = folder / UNFINISHED
        mark.touch()
        for aside, path in pending.items():
            aside.replace(path)
        mark.unlink()
    except OSError as error:
        raise PipelineError(f"{folder}: cannot write ({error.strerror}); {STALE}") from error
    finally:
        for aside in pending:
            aside.unlink(missing_ok=True)


def answered(table: pa.Table) -> pa.Table:
    """Requests that got an answer (status 200) to a prompt with a user turn."""
    statuses = table["status"].to_pylist()
    prompts = table["messages"].to_pylist()
    mask = [
        status == 200 and any(turn["role"] == "user" for turn in turns)
        for status, turns in zip(statuses, prompts, strict=True)
    ]
    return table.filter(pa.array(mask, type=pa.bool_()))


def take_sample(table: pa.Table, maximum_rows: int, seed: int) -> pa.Table:
    """At most ``maximum_rows`` rows, drawn without replacement, in their order."""
    if table.num_rows <= maximum_rows:
        return table
    chosen = np.random.default_rng(seed).choice(table.num_rows, maximum_rows, replace=False)
    return table.take(pa.array(np.sort(chosen)))


def judge_size(traffic: FrozenTraffic, minimum_rows: int) -> tuple[Literal["no_data", "too_few", "enough"], list[str]]:
    """Whether the pair has enough rows to be compared, and a sentence for each side that does not."""
    if not traffic.digest:
        return "no_data", [f"no traffic has been frozen yet; serve the model, then {STALE}"]
    reasons = []
    for name, table in (("window", traffic.window), ("baseline", traffic.baseline)):
        rows = answered(table).num_rows
        if rows < minimum_rows:
            reasons.append(
                f"the {name} has {rows:,} answered requests; {minimum_rows:,} are needed, {minimum_rows - rows:,} more"
            )
    return ("too_few" if reasons else "enough"), reasons
