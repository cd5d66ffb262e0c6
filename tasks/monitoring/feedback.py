"""Corrected requests of the log as a new raw version of the training data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_bytes
from tasks.contracts.records import content_id


@dataclass(frozen=True)
class FeedbackRow:
    """One training row made of a logged prompt and its corrected answer.

    Attributes:
        id: Content hash of the messages.
        messages: The prompt, then the corrected answer as the assistant's turn.
        label: Intent given with the feedback, if any.
    """

    id: str
    messages: tuple[tuple[str, str], ...]
    label: str | None

    def line(self) -> bytes:
        """The row as a line of JSON."""
        turns = [{"role": role, "content": content} for role, content in self.messages]
        row = {"messages": turns} | ({"label": self.label} if self.label else {})
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def collect_corrections(log: pa.Table, scrub: Callable[[str], str]) -> list[FeedbackRow]:
    """Rows with a corrected answer, without personal data, each content once, ordered by content hash.

    Args:
        log: Logged requests, oldest first; where a prompt was corrected twice, the newest answer counts.
        scrub: Replaces personal data in a text.
    """
    newest: dict[str, FeedbackRow] = {}
    for row in log.to_pylist():
        if not (row["correction"] or "").strip():
            continue
        prompt = [{"role": turn["role"], "content": scrub(turn["content"] or "")} for turn in row["messages"]]
        messages = [*prompt, {"role": "assistant", "content": scrub(row["correction"])}]
        newest[content_id(prompt)] = FeedbackRow(
            content_id(messages), tuple((m["role"], m["content"]) for m in messages), row["label"] or None
        )
    return sorted({row.id: row for row in newest.values()}.values(), key=lambda row: row.id)


def read_versions(folder: Path) -> dict[str, list[str]]:
    """Version name to the content hashes of its rows.

    Raises:
        PipelineError: A version is unreadable.
    """
    versions = {}
    for path in sorted(folder.glob("*.jsonl")):
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
    write_bytes(folder / f"{name}.jsonl", content)
    return name
