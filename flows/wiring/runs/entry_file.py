"""A file of entries as the sender reads it: what MLflow has of it, what is new, and how an ended run is completed."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

from flows.wiring import artifacts
from flows.wiring.runs.recording import SENDER, Entry, copies_of, is_alive
from flows.wiring.versions import lineage

logger = logging.getLogger(__name__)

BATCH = 500
ABANDONED_S = 60.0
# What an entry that creates a run must have.
BEGINNING = {"name", "pipeline", "tags", "time", "uri", "writer", "owner"}


class EntryFile:
    """A file of entries, and how much of it MLflow has.

    Attributes:
        run_id: The MLflow run, once it was created.
        uri: The MLflow server that the entries go to.
        hashes: What the stage read and wrote, by path, once its run has ended.
    """

    def __init__(self, path: Path, adopted_by: str | None = None) -> None:
        self.path = path
        self.state_path = SENDER / f"{path.stem}.json"
        state = self._read_state()
        self.offset: int = state.get("offset", 0)
        self.run_id: str | None = state.get("run")
        self.creating: bool = state.get("creating", False)
        self.attempts: int = state.get("attempts", 0)
        self.created: Entry = {}
        self.finished: Entry = {}
        self.ended = False
        self.hashes: lineage.Hashes = {}, {}
        self._scanned = 0
        self.scan()
        self.uri: str = state.get("uri") or adopted_by or self.created.get("uri", "")

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self.state_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return state

    def save(self) -> None:
        """Note how far MLflow has the file."""
        # The address is kept from the moment that a run may exist there.
        state = {
            "offset": self.offset,
            "run": self.run_id,
            "creating": self.creating,
            "attempts": self.attempts,
            "uri": self.uri if self.creating else None,
        }
        aside = self.state_path.with_suffix(".part")
        aside.write_text(json.dumps(state), encoding="utf-8")
        aside.replace(self.state_path)

    def scan(self) -> None:
        """Look for the entries that begin and end a run among the lines that are new."""
        for line, end in self._lines(self._scanned):
            entry = parse(line) or {}
            if self._scanned == 0 and entry.get("kind") == "create" and entry.keys() >= BEGINNING:
                self.created = entry
            if entry.get("kind") == "finish":
                self.finished = entry
            if entry.get("kind") == "end":
                self.ended = True
                self.hashes = entry.get("deps", {}), entry.get("outs", {})
            self._scanned = end

    def read(self) -> list[tuple[bytes, int]]:
        """The next lines that MLflow does not have, each with the offset behind it."""
        return self._lines(self.offset, BATCH)

    def _lines(self, offset: int, most: int | None = None) -> list[tuple[bytes, int]]:
        found = list[tuple[bytes, int]]()
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n") or len(found) == most:
                    break
                offset += len(line)
                found.append((line, offset))
        return found

    def append(self, *entries: Entry) -> None:
        """Write entries that the run itself did not leave; the run must have ended."""
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        with self.path.open("ab") as stream:
            whole = stream.tell() == 0 or self.path.read_bytes()[-1:] == b"\n"
            stream.write((b"" if whole else b"\n") + text.encode())
        self.scan()

    def is_complete(self) -> bool:
        """Whether nothing more will come: the run has ended, or its first entry is broken or never came."""
        if self.created:
            return self.ended and self._scanned == self.offset
        return self._scanned > 0 or time.time() - self.path.stat().st_mtime > ABANDONED_S

    def set_aside(self, entry: Any, reason: str) -> None:
        """Keep an entry that MLflow does not take, with the reason."""
        artifacts.REFUSED.mkdir(parents=True, exist_ok=True)
        logger.warning("%s: not taken by MLflow: %s", self.path.name, reason)
        with (artifacts.REFUSED / self.path.name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"reason": reason, "run": self.run_id, "entry": entry}) + "\n")

    def remove(self) -> None:
        shutil.rmtree(copies_of(self.path), ignore_errors=True)
        self.path.unlink(missing_ok=True)
        self.state_path.unlink(missing_ok=True)


def parse(line: bytes) -> Entry | None:
    """The entry of a line, or None where it is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "kind" in entry else None


def settle(file: EntryFile) -> None:
    """Complete the entries of a run that has ended: killed without a word, or by the hashes that DVC wrote after it."""
    if file.ended or not file.created:
        return
    if not file.finished:
        if is_alive(file.created["writer"], file.path):
            return
        file.scan()  # it may have finished in between
        if not file.finished:
            file.append({"kind": "finish", "status": "KILLED", "time": int(file.path.stat().st_mtime * 1000)})
    owner, stage = file.created["owner"], file.created["name"]
    if file.ended:
        return
    if owner is None:
        file.append({"kind": "end"})
        return
    if file.finished.get("status") != "FINISHED":
        hashes: lineage.Hashes | None = lineage.find_inputs(stage), {}
    else:
        dvc_ended = not is_alive(owner, file.path)
        hashes = lineage.find_hashes(stage, file.finished.get("written", {}), dvc_ended)
        if hashes is None and not dvc_ended:
            return
    deps, outs = hashes or ({}, {})
    tags = {f"dvc.dep.{path}": digest for path, digest in deps.items()}
    tags |= {f"dvc.out.{path}": digest for path, digest in outs.items()}
    inputs = {path: digest for path, digest in deps.items() if path.startswith("data/")}
    file.append(
        {"kind": "tags", "values": tags},
        {"kind": "inputs", "values": inputs},
        {"kind": "end", "deps": deps, "outs": outs},
    )
