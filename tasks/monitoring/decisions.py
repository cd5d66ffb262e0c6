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
DecisionKind = Literal["started", "refused", "promoted", "kept", "failed"]
HOUR, WEEK = 3600.0, 7 * 24 * 3600.0
FINISHED = ("promoted", "kept", "failed")


class Decision(Record):
    """One line of the journal.

    Attributes:
        time: Seconds since the epoch.
        retrain: Id shared by the start and the end of one retrain.
        trigger: What requested it.
        reason: Why it was requested.
        decision: What was decided.
        why: Grounds of the decision.
        versions: What it concerns: feedback versions, window, champion, release, model version, commit.
    """

    time: float
    retrain: str
    trigger: Trigger
    reason: str
    decision: DecisionKind
    why: str
    versions: Mapping[str, Any] = Field(default_factory=dict)


def read_decisions(path: Path) -> list[Decision]:
    """The journal, oldest first. A last line that a crash left incomplete is ignored.

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
            raise PipelineError(f"{path}:{number}: not a decision; correct or remove this line") from error
    return found


def append_decision(path: Path, decision: Decision) -> None:
    """Append a line, synced to disk on return; an incomplete line left by a crash is removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    complete = path.read_bytes().rfind(b"\n") + 1 if path.is_file() else 0
    with path.open("ab") as stream:
        stream.truncate(complete)
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
    changed: bool = True,
) -> tuple[bool, str]:
    """Whether a retrain may start now.

    One requested by hand may where there is anything new. An interrupted retrain counts in the budget but not in the
    cool-down, so that the next one can resume it.

    Args:
        settings: Cool-down, budget and minimum number of new rows.
        history: All earlier decisions.
        trigger: What requests the retrain.
        now: Seconds since the epoch.
        waiting_rows: Corrected rows not used by any finished retrain.
        window: SHA-256 of the window that drifted, if that is why.
        changed: Whether data, params or code changed since the last run, or the retrain is forced.

    Returns:
        Whether it may start, and why.
    """
    if trigger == "hand":
        if not waiting_rows and not changed:
            return False, (
                "no corrected row is waiting, and data, params and code are those of the last run; send corrections to "
                "the gateway's feedback endpoint, or run all the same with `heptune retrain --force`"
            )
        return True, "requested by hand" + ("" if waiting_rows else ", without any new corrected row")
    if window and any(d.decision in ("promoted", "kept") and d.versions.get("window") == window for d in history):
        return False, f"window {window[:12]} has already led to a retrain"
    ended = [d.time for d in history if d.decision in FINISHED]
    if ended and now < (until := max(ended) + settings.cool_down_hours * HOUR):
        return False, f"cooling down after the last retrain until {show_time(until)}"
    started = sum(1 for d in history if d.decision == "started" and now - d.time < WEEK)
    if started >= settings.maximum_per_week:
        return False, f"{started} retrains started in the last seven days; the maximum is {settings.maximum_per_week}"
    if waiting_rows < settings.minimum_new_rows:
        return False, (
            f"{waiting_rows:,} corrected rows are waiting; {settings.minimum_new_rows:,} are needed, "
            "send corrections to the gateway's feedback endpoint"
        )
    return True, f"{waiting_rows:,} corrected rows are waiting"


def count_waiting(history: Sequence[Decision], versions: Mapping[str, Sequence[str]], new_rows: int) -> int:
    """Feedback rows that no finished retrain has used: those not yet written, and those of unused versions.

    A retrain that failed or was interrupted leaves its version to the next one.
    """
    used = {name for d in history if d.decision in ("promoted", "kept") for name in d.versions.get("feedback", ())}
    return new_rows + sum(len(ids) for name, ids in versions.items() if name not in used)


def count_streak(path: Path, window: str, drifted: bool) -> int:
    """Record a window's verdict and count the consecutive windows up to this one that showed drift.

    The same window is recorded once, however often it is monitored.
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
