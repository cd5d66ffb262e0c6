"""The background thread of the request log, so that no answer waits for the database.

An entry is in memory for at most about `BATCH_INTERVAL_S`; then it is in the database or, while that is
unavailable, in the spool file, and it is replayed when the database is back (also by the next process). Only
a process that is killed loses its entries in memory. Every entry is counted once as written, and also as
spooled, replayed, refused or lost where that applies.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from tasks.contracts.records import RequestLog
from tasks.gateway.spool import Entry, Spool, read_entries
from tasks.gateway.store import Store, feedback_row, request_row

logger = logging.getLogger(__name__)

BATCH_INTERVAL_S = 0.1
BATCH_SIZE = 500
MAXIMUM_RETRY_S = 30.0


@dataclass(frozen=True)
class LogState:
    """Counts of the rows so far.

    Attributes:
        written: Rows written to the database.
        spooled: Rows written to the spool file first.
        replayed: Rows replayed from the file into the database (also counted as written).
        refused: Rows that the database rejects; kept in the file ``refused-*``.
        lost: Rows that could be written to neither database nor disk.
        pending: Rows in memory.
        database_up: Whether the last attempt to write succeeded.
    """

    written: int = 0
    spooled: int = 0
    replayed: int = 0
    refused: int = 0
    lost: int = 0
    pending: int = 0
    database_up: bool = True


class RequestWriter:
    """Writes requests and feedback in the background.

    Args:
        store: The database.
        spool: File for rows while the database is unavailable.
        capacity: Maximum entries in memory; further ones are written to the file at once.
        retry_s: Seconds before the first retry; they double up to half a minute.
    """

    def __init__(self, store: Store, spool: Path, capacity: int = 10_000, retry_s: float = 1.0) -> None:
        self.store = store
        self._spool = Spool(spool)
        self._refused = Spool(spool.with_name(f"refused-{spool.name}"))
        self._queue: queue.Queue[Entry] = queue.Queue(capacity)
        self._retry_s = retry_s
        self._wait_s = retry_s
        self._retry_at = 0.0
        self._lock = threading.Lock()
        self._state = LogState()
        self._pending: set[str] = set()
        self._flushes: list[threading.Event] = []
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    # -- called by the gateway; none of these waits for the database ----------------------------

    def log(self, request: RequestLog) -> None:
        """Log a request."""
        with self._lock:
            self._pending.add(request.id)
        self._put(("request", request_row(request)))

    def feedback(self, request_id: str, correction: str | None, label: str | None) -> None:
        """Log feedback on a request.

        Raises:
            PipelineError: Neither correction nor label.
        """
        self._put(("feedback", feedback_row(request_id, correction, label)))

    def is_pending(self, request_id: str) -> bool:
        """Whether a request is logged but neither in the database nor in the file yet."""
        with self._lock:
            return request_id in self._pending

    def state(self) -> LogState:
        """The current counts."""
        with self._lock:
            return replace(self._state, pending=self._state.pending + self._queue.qsize())

    @property
    def alive(self) -> bool:
        """Whether rows are still being written."""
        return self._thread.is_alive()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything logged so far is in the database or in the file."""
        done = threading.Event()
        with self._lock:
            self._flushes.append(done)
        self._wake.set()
        return done.wait(timeout_s)

    def close(self, timeout_s: float = 30.0) -> None:
        """Flush, then end the thread."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.error(
                "the request log did not end within %s s; %d rows are in memory", timeout_s, self.state().pending
            )

    # -- the thread -----------------------------------------------------------------------------

    def _put(self, entry: Entry) -> None:
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self._write_to_spool([entry])
        if self._queue.qsize() >= BATCH_SIZE:
            self._wake.set()

    def _run(self) -> None:
        # Entries left by an earlier process are replayed first.
        last = False
        while not last:
            last = self._closing
            with self._lock:
                flushes, self._flushes = self._flushes, []
            self._replay()
            while entries := self._take_batch():
                self._write(entries)
            for done in flushes:
                done.set()
            if not last:
                self._wake.wait(BATCH_INTERVAL_S)
                self._wake.clear()

    def _take_batch(self) -> list[Entry]:
        entries: list[Entry] = []
        with self._lock:
            while len(entries) < BATCH_SIZE:
                try:
                    entries.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            self._state = replace(self._state, pending=len(entries))
        return entries

    def _write(self, entries: list[Entry]) -> None:
        # An unavailable database is not tried for every batch, because each attempt may take seconds.
        if time.monotonic() < self._retry_at or not self._insert(entries, replayed=False):
            self._write_to_spool(entries)
        self._count(pending=-len(entries))

    def _write_to_spool(self, entries: Sequence[Entry]) -> None:
        fate = {"spooled": len(entries)}
        if not self._append(self._spool, entries):
            fate = {"lost": len(entries)}
        self._count(**fate)
        with self._lock:
            self._pending.difference_update(row["id"] for kind, row in entries if kind == "request")

    def _append(self, spool: Spool, entries: Sequence[Entry]) -> bool:
        try:
            spool.append(entries)
        except OSError as error:
            logger.error("%d rows of the request log are lost: %s: %s", len(entries), spool.path, error)
            return False
        return True

    def _replay(self) -> None:
        if time.monotonic() < self._retry_at or self._spool.is_empty():
            return
        for path in self._spool.take():
            entries, corrupt = read_entries(path)
            if corrupt:
                logger.error("%s: %d lines were left incomplete by a crash and are lost", path, corrupt)
                self._count(lost=corrupt)
            for start in range(0, len(entries), BATCH_SIZE):
                if not self._insert(entries[start : start + BATCH_SIZE], replayed=True):
                    # Only the rest is replayed again, so that nothing is counted twice.
                    self._spool.shorten(path, entries[start:])
                    return
            path.unlink(missing_ok=True)

    def _insert(self, entries: Sequence[Entry], replayed: bool) -> bool:
        """Whether the database is available; rows that it rejects are set aside."""
        try:
            self._attempt(entries, replayed)
        except (DataError, IntegrityError) as error:
            logger.warning("the request log is written row by row: %s", first_line(error))
            return self._insert_each(entries, replayed)
        except (SQLAlchemyError, OSError) as error:
            self._handle_outage(error)
            return False
        return True

    def _insert_each(self, entries: Sequence[Entry], replayed: bool) -> bool:
        """Insert row by row, so that an invalid row does not block the others."""
        for entry in entries:
            try:
                self._attempt([entry], replayed)
            except (DataError, IntegrityError) as error:
                logger.error("the database rejects a row (%s); it is kept in %s", first_line(error), self._refused.path)
                kept = self._append(self._refused, [entry])
                self._count(**{"refused" if kept else "lost": 1})
            except (SQLAlchemyError, OSError) as error:
                self._handle_outage(error)
                return False
        return True

    def _attempt(self, entries: Sequence[Entry], replayed: bool) -> None:
        requests = [row for kind, row in entries if kind == "request"]
        feedback = [row for kind, row in entries if kind == "feedback"]
        self.store.insert(requests, feedback)
        if not self._state.database_up:
            logger.warning("the store %s answers again", self.store.name)
        self._wait_s = self._retry_s
        with self._lock:
            self._pending.difference_update(row["id"] for row in requests)
            self._state = replace(self._state, database_up=True)
        self._count(written=len(entries), replayed=len(entries) if replayed else 0)

    def _handle_outage(self, error: Exception) -> None:
        if self._state.database_up:
            logger.error(
                "the store %s does not answer (%s); requests are still answered, their rows are written to %s",
                self.store.name,
                first_line(error),
                self._spool.path,
            )
        with self._lock:
            self._state = replace(self._state, database_up=False)
        self.store.forget()
        self._retry_at = time.monotonic() + self._wait_s
        self._wait_s = min(2 * self._wait_s, MAXIMUM_RETRY_S)

    def _count(self, **more: int) -> None:
        with self._lock:
            self._state = replace(
                self._state, **{name: max(0, getattr(self._state, name) + by) for name, by in more.items()}
            )


def first_line(error: Exception) -> str:
    """The database's error message, without the statement."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
