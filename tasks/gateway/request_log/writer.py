"""The background thread of the request log, so that no answer waits for the database.

An entry is in memory for at most about `BATCH_INTERVAL_S`; then it is in the database or, while that is unavailable,
in the spool file, and it is replayed when the database is back (also by the next process). While neither can be
written, entries stay in memory, up to a capacity, and are tried again. Only a process that is killed loses its entries
in memory. Every entry is counted once as written, and also as spooled, replayed, refused or lost where that applies.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tasks.contracts.records import RequestLog
from tasks.gateway.request_log.spool import Entry, RefusedLines, Spool, SpoolBatch, read_batches, to_lines
from tasks.gateway.request_log.store import Store
from tasks.gateway.request_log.tables import check_entry, feedback_row, request_row

logger = logging.getLogger(__name__)

BATCH_INTERVAL_S = 0.1
BATCH_SIZE = 500
MAXIMUM_RETRY_S = 30.0
PURGE_INTERVAL_S = 3600.0
DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class LogState:
    """Counts of the rows so far, and what does not work.

    Attributes:
        written: Rows written to the database.
        spooled: Rows written to the spool file first.
        replayed: Rows replayed from the file into the database (also counted as written).
        refused: Rows and lines that no database accepts; kept with their reason in the file ``refused-*``.
        lost: Rows that were dropped because neither database nor disk could be written for too long.
        purged: Rows deleted because of their age or number.
        pending: Rows in memory.
        database_up: Whether the last attempt to write succeeded.
        problem: Why rows stay in memory: neither database nor disk can be written; empty while they can.
    """

    written: int = 0
    spooled: int = 0
    replayed: int = 0
    refused: int = 0
    lost: int = 0
    purged: int = 0
    pending: int = 0
    database_up: bool = True
    problem: str = ""


@dataclass(frozen=True)
class Retention:
    """How much of the request log is kept.

    Attributes:
        days: Age at which requests are deleted; None: never.
        rows: Number of requests kept, the newest; None: all.
    """

    days: float | None = None
    rows: int | None = None


class RequestWriter:
    """Writes requests and feedback in the background.

    Args:
        store: The database.
        spool: File for rows while the database is unavailable.
        capacity: Maximum entries in memory; further ones are written to the file at once.
        retry_s: Seconds before the first retry; they double up to half a minute.
        retention: What is deleted, at the start and then every hour.
    """

    def __init__(
        self,
        store: Store,
        spool: Path,
        capacity: int = 10_000,
        retry_s: float = 1.0,
        retention: Retention = Retention(),
    ) -> None:
        self.store = store
        self._spool = Spool(spool)
        self._refused = RefusedLines(spool.with_name(f"refused-{spool.name}"))
        self._capacity = capacity
        self._retention = retention
        self._retry_s = retry_s
        self._wait_s = retry_s
        self._retry_at = self._purge_at = 0.0
        self._lock = threading.Lock()
        self._state = LogState()
        self._entries: deque[Entry] = deque()
        # Requests that are not in the database yet, with their keys.
        self._unwritten: dict[str, str | None] = {}
        self._indexed = False
        self._flushes: list[threading.Event] = []
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    # -- called by the gateway; none of these waits for the database ----------------------------

    def log(self, request: RequestLog) -> None:
        """Log a request."""
        with self._lock:
            self._unwritten[request.id] = request.key
        self._put(("request", request_row(request)))

    def feedback(self, request_id: str, correction: str | None, label: str | None, key: str | None = None) -> None:
        """Log feedback on a request.

        Args:
            request_id: The request.
            correction: The right answer, if given.
            label: Intent of the request, if given.
            key: Key that gives it, as logged; it counts only where it is that of the request.

        Raises:
            PipelineError: Neither correction nor label.
        """
        self._put(("feedback", feedback_row(request_id, correction, label, key)))

    def find_owner(self, request_id: str) -> tuple[str | None] | None:
        """The key of a request in memory or in the spool, in a tuple because it may be None; None for any other."""
        with self._lock:
            return (self._unwritten[request_id],) if request_id in self._unwritten else None

    def state(self) -> LogState:
        """The current counts."""
        with self._lock:
            return replace(self._state, pending=self._state.pending + len(self._entries))

    @property
    def alive(self) -> bool:
        """Whether rows are still being written."""
        return self._thread.is_alive()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything logged so far is in the database or in the file, or neither could be written."""
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
        with self._lock:
            is_full = len(self._entries) >= self._capacity
            if not is_full:
                self._entries.append(entry)
            waiting = len(self._entries)
        if is_full:
            try:
                self._write_to_spool([entry])
            except OSError as error:
                self._drop([entry], error)
        elif waiting >= BATCH_SIZE and not self._state.problem:
            self._wake.set()

    def _run(self) -> None:
        last = False
        while not last:
            last = self._closing
            with self._lock:
                flushes, self._flushes = self._flushes, []
            try:
                self._work()
                self._show_problem("")
            # Whatever fails (disk full, no file handle left, no permission), the log goes on and tries again.
            except Exception as error:  # noqa: BLE001
                self._show_problem(f"{type(error).__name__}: {first_line(error)}", error)
            if last:
                self._drop_rest()
            for done in flushes:
                done.set()
            if not last:
                self._wake.wait(BATCH_INTERVAL_S)
                self._wake.clear()

    def _work(self) -> None:
        try:
            if not self._indexed:
                self._index_spool()
            # Entries left by an earlier process are replayed first.
            self._replay()
        finally:
            while entries := self._take_batch():
                self._write(entries)
        self._purge_when_due()

    def _show_problem(self, problem: str, error: Exception | None = None) -> None:
        with self._lock:
            before, self._state = self._state.problem, replace(self._state, problem=problem)
        if problem and problem != before:
            expected = isinstance(error, OSError)
            logger.error("the request log cannot be written: %s", problem, exc_info=None if expected else error)
        elif before and not problem:
            logger.warning("the request log is written again")

    def _index_spool(self) -> None:
        """Know the requests that an earlier process left on disk, so that feedback on them is accepted."""
        for path in (*self._spool.renamed(), self._spool.path):
            if path.is_file():
                for batch in read_batches(path, BATCH_SIZE, check_entry):
                    with self._lock:
                        for kind, row in batch.entries:
                            if kind == "request":
                                self._unwritten.setdefault(row["id"], row["key"])
        self._indexed = True

    def _take_batch(self) -> list[Entry]:
        with self._lock:
            entries = [self._entries.popleft() for _ in range(min(BATCH_SIZE, len(self._entries)))]
            self._state = replace(self._state, pending=len(entries))
        return entries

    def _write(self, entries: list[Entry]) -> None:
        try:
            # An unavailable database is not tried for every batch, because each attempt may take seconds.
            if time.monotonic() < self._retry_at or not self._insert(entries, replayed=False):
                self._write_to_spool(entries)
        except BaseException:
            with self._lock:
                self._entries.extendleft(reversed(entries))
            raise
        finally:
            self._count(pending=-len(entries))

    def _write_to_spool(self, entries: Sequence[Entry]) -> None:
        """Append rows to the spool file.

        Raises:
            OSError: They cannot be written.
        """
        self._spool.append(entries)
        self._count(spooled=len(entries))

    def _drop_rest(self) -> None:
        """At the end, count what could be written nowhere."""
        with self._lock:
            entries, self._entries = list(self._entries), deque()
            problem = self._state.problem
        if entries:
            self._drop(entries, problem)

    def _drop(self, entries: Sequence[Entry], reason: object) -> None:
        logger.error("%d rows of the request log are lost: %s: %s", len(entries), self._spool.path, reason)
        self._count(lost=len(entries))
        self._forget(entries)

    def _forget(self, entries: Sequence[Entry]) -> None:
        with self._lock:
            for kind, row in entries:
                if kind == "request":
                    self._unwritten.pop(row["id"], None)

    def _replay(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        for path in self._spool.take():
            for batch in read_batches(path, BATCH_SIZE, check_entry):
                if batch.entries and not self._insert(batch.entries, replayed=True):
                    # Only the rest is replayed again, so that nothing is counted twice.
                    self._spool.shorten(path, batch.begin)
                    return
                self._refuse_lines(path, batch)
            path.unlink(missing_ok=True)

    def _refuse_lines(self, path: Path, batch: SpoolBatch) -> None:
        if batch.refused:
            reason, line = batch.refused[0]
            logger.error(
                "%s: %d lines are no rows (%s: %s); they are kept in %s",
                path, len(batch.refused), reason, repr(line[:80]), self._refused.path,
            )  # fmt: skip
            self._refused.append(batch.refused)
            self._count(refused=len(batch.refused))

    def _insert(self, entries: Sequence[Entry], replayed: bool) -> bool:
        """Whether the database is available; rows that it rejects are set aside.

        Raises:
            OSError: A rejected row can be kept nowhere.
        """
        try:
            self._attempt(entries, replayed)
        except Exception as error:  # noqa: BLE001 - drivers raise errors of their own for values they cannot convert
            if is_outage(error):
                self._handle_outage(error)
                return False
            logger.warning("the request log is written row by row: %s", first_line(error))
            return self._insert_each(entries, replayed)
        return True

    def _insert_each(self, entries: Sequence[Entry], replayed: bool) -> bool:
        """Insert row by row, so that an invalid row does not block the others."""
        for entry in entries:
            try:
                self._attempt([entry], replayed)
            except Exception as error:  # noqa: BLE001 - as above
                if is_outage(error):
                    self._handle_outage(error)
                    return False
                reason = first_line(error)
                logger.error("the database rejects a row (%s); it is kept in %s", reason, self._refused.path)
                self._refused.append([(reason, to_lines([entry]))])
                self._count(refused=1)
                self._forget([entry])
        return True

    def _attempt(self, entries: Sequence[Entry], replayed: bool) -> None:
        requests = [row for kind, row in entries if kind == "request"]
        feedback = [row for kind, row in entries if kind == "feedback"]
        self.store.insert(requests, feedback)
        if not self._state.database_up:
            logger.warning("the store %s answers again", self.store.name)
        self._wait_s = self._retry_s
        self._forget(entries)
        with self._lock:
            self._state = replace(self._state, database_up=True)
        self._count(written=len(entries), replayed=len(entries) if replayed else 0)

    def _handle_outage(self, error: Exception) -> None:
        if self._state.database_up:
            logger.error(
                "the store %s cannot be written (%s); requests are still answered, their rows are written to %s",
                self.store.name, first_line(error), self._spool.path,
            )  # fmt: skip
        with self._lock:
            self._state = replace(self._state, database_up=False)
        self.store.forget()
        self._retry_at = time.monotonic() + self._wait_s
        self._wait_s = min(2 * self._wait_s, MAXIMUM_RETRY_S)

    def _purge_when_due(self) -> None:
        keep = self._retention
        if (keep.days is None and keep.rows is None) or time.monotonic() < max(self._purge_at, self._retry_at):
            return
        self._purge_at = time.monotonic() + PURGE_INTERVAL_S
        before = None if keep.days is None else time.time() - keep.days * DAY_S
        try:
            purged = self.store.purge(before, keep.rows)
            if before is not None and self._refused.path.is_file() and self._refused.path.stat().st_mtime < before:
                self._refused.path.unlink()
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            logger.warning("old requests could not be deleted (%s); the next try is in an hour", first_line(error))
            return
        if purged:
            logger.info("%d requests deleted that are older or more than the log keeps", purged)
        self._count(purged=purged)

    def _count(self, **more: int) -> None:
        with self._lock:
            self._state = replace(
                self._state, **{name: max(0, getattr(self._state, name) + by) for name, by in more.items()}
            )


def is_outage(error: Exception) -> bool:
    """Whether the database cannot be reached or written, as opposed to a row that it rejects."""
    if isinstance(error, DataError | IntegrityError):
        return False
    return isinstance(error, DBAPIError | PoolTimeoutError | OSError | MemoryError)


def first_line(error: Exception) -> str:
    """The database's error message, without the statement."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
