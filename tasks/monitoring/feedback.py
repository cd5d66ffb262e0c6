"""Corrected requests of the log as a new raw version of the training data."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.contracts.leftovers import find_reason
from tasks.contracts.manifest import write_bytes
from tasks.contracts.records import content_id
from tasks.corpus.text.labels import find_label_fault

# Folder of versions with which the data could not be prepared.
REFUSED = "refused"


@dataclass(frozen=True)
class FeedbackRow:
    """One training row made of a logged prompt and its corrected answer.

    Attributes:
        id: Content hash of the messages.
        messages: The prompt, then the corrected answer as the assistant's turn.
        label: Intent given with the feedback, if any.
        request: Id of the logged request.
        key: The key of the client, as logged; None without keys.
    """

    id: str
    messages: tuple[tuple[str, str], ...]
    label: str | None
    request: str
    key: str | None

    @property
    def answer(self) -> str:
        """The corrected answer."""
        return self.messages[-1][1]

    def line(self) -> bytes:
        """The row as a line of JSON; answers before the corrected one, which nobody has checked, are only context."""
        last = len(self.messages) - 1
        turns = [
            {"role": role, "content": content} | ({"weight": 0} if role == "assistant" and place < last else {})
            for place, (role, content) in enumerate(self.messages)
        ]
        row = {"messages": turns} | ({"label": self.label} if self.label else {})
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True)
class SetAside:
    """Feedback that is no training row.

    Attributes:
        request: Id of the request.
        key: The key of the client, as logged.
        reason: Why it is not used.
    """

    request: str
    key: str | None
    reason: str


@dataclass(frozen=True)
class Corrections:
    """The corrected answers of a log.

    Attributes:
        rows: Training rows, each content once, ordered by content hash.
        set_aside: What cannot be used, with its reason.
    """

    rows: list[FeedbackRow]
    set_aside: list[SetAside]


def collect_corrections(log: pa.Table, scrub: Callable[[str], str]) -> Corrections:
    """Rows with a corrected answer, without personal data; what cannot be used is set aside, and stops nothing.

    Of several corrections of a prompt by one key the newest counts; of several keys', the one that most keys agree on,
    and the earliest of those.

    Args:
        log: Logged requests, oldest first.
        scrub: Replaces personal data in a text.
    """
    newest: dict[str, dict[str | None, FeedbackRow]] = {}
    set_aside = []
    for logged in log.to_pylist():
        if logged["correction"] is None:
            continue
        try:
            prompt, row = make_row(logged, scrub)
        # One row must not stop the others, whatever its text does to the code that reads it.
        except Exception as error:  # noqa: BLE001
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} while it was read"
            set_aside.append(SetAside(logged["id"], logged["key"], reason))
            continue
        newest.setdefault(prompt, {})[row.key] = row
    chosen: dict[str, FeedbackRow] = {}
    for by_key in newest.values():
        votes = Counter(row.id for row in by_key.values())
        best = max(votes, key=lambda name: votes[name])
        for row in by_key.values():
            if row.id == best:
                chosen.setdefault(row.id, row)
            else:
                set_aside.append(SetAside(row.request, row.key, "another key's correction of the same prompt counts"))
    return Corrections(sorted(chosen.values(), key=lambda row: row.id), set_aside)


def make_row(logged: dict[str, Any], scrub: Callable[[str], str]) -> tuple[str, FeedbackRow]:
    """Content hash of the prompt, and the training row of a corrected request.

    Raises:
        ValueError: It is no training row; the message says why.
    """
    if not logged["correction"].strip():
        raise ValueError("the correction is blank")
    if logged["label"] and (fault := find_label_fault(logged["label"])):
        raise ValueError(f"the label {fault}")
    prompt = [{"role": turn["role"], "content": scrub(turn["content"] or "")} for turn in logged["messages"]]
    if not any(turn["role"] == "user" and turn["content"].strip() for turn in prompt):
        raise ValueError("the prompt has no text of a user")
    messages = [*prompt, {"role": "assistant", "content": scrub(logged["correction"])}]
    turns = tuple((turn["role"], turn["content"]) for turn in messages)
    row = FeedbackRow(content_id(messages), turns, logged["label"] or None, logged["id"], logged["key"])
    return content_id(prompt), row


def read_versions(folder: Path) -> dict[str, list[str]]:
    """Version name to the content hashes of its rows.

    Raises:
        PipelineError: A version is unreadable.
    """
    versions = {}
    for path in sorted(path for path in folder.glob("*.jsonl") if find_reason(path.name) is None):
        try:
            lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
            versions[path.stem] = [content_id(line["messages"]) for line in lines]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise PipelineError(
                f"{path}: not a feedback version ({type(error).__name__}: {error}); expected JSON lines with "
                '"messages"; restore or remove it'
            ) from error
    return versions


def choose_new(rows: Sequence[FeedbackRow], versions: dict[str, list[str]]) -> list[FeedbackRow]:
    """Rows that are in no version yet."""
    known = {name for ids in versions.values() for name in ids}
    return [row for row in rows if row.id not in known]


def write_version(rows: Sequence[FeedbackRow], folder: Path) -> str:
    """Write rows as a version named by its content; the same rows give the same file.

    Returns:
        The version's name, 12 hex digits, or "" for no rows.

    Raises:
        PipelineError: The file cannot be written.
    """
    if not rows:
        return ""
    content = b"".join(row.line() for row in sorted(rows, key=lambda row: row.id))
    name = hashlib.sha256(content).hexdigest()[:12]
    write_bytes(folder / f"{name}.jsonl", content, private=True)
    return name


def set_version_aside(folder: Path, name: str) -> Path:
    """Move a version to where no source reads it; its rows stay known, so that no later version repeats them.

    Raises:
        OSError: It cannot be moved.
    """
    aside = folder / REFUSED / f"{name}.jsonl"
    aside.parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").replace(aside)
    return aside


def restore_version(folder: Path, name: str) -> None:
    """Undo `set_version_aside`.

    Raises:
        OSError: It cannot be moved.
    """
    (folder / REFUSED / f"{name}.jsonl").replace(folder / f"{name}.jsonl")
