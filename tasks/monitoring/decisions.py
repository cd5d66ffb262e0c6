"""Whether a retrain may start, and the journal of what was decided and why."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field, ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.record import Record
from tasks.monitoring.params import Retraining

Trigger = Literal["hand", "drift", "schedule"]
Outcome = Literal["started", "refused", "promoted", "kept", "failed"]
HOUR, WEEK = 3600.0, 7 * 24 * 3600.0
FINISHED = ("promoted", "kept", "failed")


class Decision(Record):
    """One line of the journal.

    Attributes:
        time: Seconds since the epoch.
        retrain: Id shared by the start and the end of one retrain.
        trigger: What asked for it.
        reason: Why it was asked for.
        decision: What was decided.
        why: On what grounds.
        versions: What it was about: feedback versions, window, champion, release, model version, commit.
    """

    time: float
    retrain: str
    trigger: Trigger
    reason: str
    decision: Outcome
    why: str
    versions: Mapping[str, Any] = Field(default_factory=dict)


def read_decisions(path: Path) -> list[Decision]:
    """The journal, oldest first. A last line that was cut off by a crash is left out.

    Raises:
        PipelineError: Another line is not a decision.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(Decision.model_validate(orjson.loads(line)))
        except (orjson.JSONDecodeError, ValidationError) as error:
            if number == len(lines):
                continue
            raise PipelineError(f"{path}:{number}: not a decision; mend or remove this line") from error
    return found


def append_decision(path: Path, decision: Decision) -> None:
    """Add a line, on disk when this returns; what a crash left of another line is removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.read_bytes().rfind(b"\n") + 1 if path.is_file() else 0
    with path.open("ab") as stream:
        stream.truncate(whole)
        stream.write(orjson.dumps(decision.model_dump(), option=orjson.OPT_APPEND_NEWLINE))
        stream.flush()
        os.fsync(stream.fileno())


def decide(
    settings: Retraining,
    history: Sequence[Decision],
    trigger: Trigger,
    now: float,
    waiting_rows: int,
    window: str = "",
) -> tuple[bool, str]:
    """Whether a retrain may start now.

    A person's order always may. A retrain that was cut off counts in the budget, not in the cool-down, so
    that the next one goes on where it stopped.

    Args:
        settings: Cool-down, budget and rows wanted.
        history: All earlier decisions.
        trigger: What asks.
        now: Seconds since the epoch.
        waiting_rows: Corrected rows that no finished retrain has trained on.
        window: SHA-256 of the window that drifted, if that is why.

    Returns:
        Yes or no, and why.
    """
    if trigger == "hand":
        return True, "ordered by hand"
    if window and any(d.decision in ("promoted", "kept") and d.versions.get("window") == window for d in history):
        return False, f"window {window[:12]} was already answered by a retrain"
    ended = [d.time for d in history if d.decision in FINISHED]
    if ended and now < (until := max(ended) + settings.cool_down_hours * HOUR):
        return False, f"cooling down after the last retrain until {show_time(until)}"
    started = sum(1 for d in history if d.decision == "started" and now - d.time < WEEK)
    if started >= settings.maximum_per_week:
        return False, f"{started} retrains started in the last seven days; at most {settings.maximum_per_week} may"
    if waiting_rows < settings.minimum_new_rows:
        return False, (
            f"{waiting_rows:,} corrected rows are waiting; {settings.minimum_new_rows:,} are needed, "
            "send corrections to the gateway's feedback"
        )
    return True, f"{waiting_rows:,} corrected rows are waiting"


def count_waiting(history: Sequence[Decision], versions: Mapping[str, Sequence[str]], new_rows: int) -> int:
    """Rows of feedback that no finished retrain has trained on: those not yet written, and those left over.

    A retrain that failed or was cut off leaves its version behind for the next.
    """
    used = {name for d in history if d.decision in ("promoted", "kept") for name in d.versions.get("feedback", ())}
    return new_rows + sum(len(ids) for name, ids in versions.items() if name not in used)


def count_streak(path: Path, window: str, drifted: bool) -> int:
    """Note a window's verdict and count the windows in a row, this one last, that showed drift.

    The same window is noted once, however often it is looked at.
    """
    seen = [line.split(" ") for line in path.read_text().splitlines()] if path.is_file() else []
    if not seen or seen[-1][0] != window:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{window} {'drift' if drifted else 'no_drift'}\n")
        seen.append([window, "drift" if drifted else "no_drift"])
    streak = 0
    for entry in reversed(seen):
        if entry[-1] != "drift":
            break
        streak += 1
    return streak


def show_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
