"""The release that answers, and its hot swap without dropping a request.

A new release is loaded while the old one answers. Then new requests go to the new one, running requests finish
on the old one, and the old one is freed after its last request. A release that
cannot be loaded is refused and not tried again until the champion changes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts.errors import PipelineError
from tasks.gateway.engine import Engine, EngineLoad

logger = logging.getLogger(__name__)

Resolve = Callable[[], tuple[str, Path]]


@dataclass(eq=False)
class Slot:
    """A loaded release and the number of requests that use it."""

    release: str
    engine: Engine
    users: int = 0


class Releases:
    """Follows the champion.

    Args:
        resolve: Release hash and model folder of the champion; PipelineError when there is none.
        load: Makes an engine of a model folder; PipelineError when it cannot be served.
        poll_s: Seconds between two checks.
        on_swap: Called with the release after a swap.
        on_refusal: Called with a release that could not be loaded.

    Raises:
        PipelineError: There is no champion, or it cannot be loaded.
    """

    def __init__(
        self,
        resolve: Resolve,
        load: Callable[[Path], Engine],
        poll_s: float = 1.0,
        on_swap: Callable[[str], None] = lambda release: None,
        on_refusal: Callable[[str], None] = lambda release: None,
    ) -> None:
        self._resolve = resolve
        self._load = load
        self._poll_s = poll_s
        self._on_swap = on_swap
        self._on_refusal = on_refusal
        self._lock = threading.Lock()
        self._retired: list[Slot] = []
        self._last_error = ""
        self.refused: str | None = None
        release, folder = resolve()
        self._current = Slot(release, load(folder))
        self._ending = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="releases", daemon=True)
        self._watcher.start()

    @property
    def release(self) -> str:
        """Hash of the release that answers new requests."""
        return self._current.release

    @property
    def alive(self) -> bool:
        """Whether new requests are answered and a new champion is noticed."""
        return self._current.engine.alive and self._watcher.is_alive()

    @contextmanager
    def lease(self) -> Iterator[Slot]:
        """Lease the current release, which is not freed before the lease ends."""
        with self._lock:
            slot = self._current
            slot.users += 1
        try:
            yield slot
        finally:
            with self._lock:
                slot.users -= 1

    def load(self) -> EngineLoad:
        """The total load of all loaded releases."""
        with self._lock:
            loads = [slot.engine.load() for slot in (self._current, *self._retired)]
        return EngineLoad(
            waiting=sum(load.waiting for load in loads),
            running=sum(load.running for load in loads),
            proposed=sum(load.proposed for load in loads),
            accepted=sum(load.accepted for load in loads),
        )

    def close(self) -> None:
        """Stop watching, finish running requests and free every engine."""
        self._ending.set()
        self._watcher.join()
        for slot in (*self._retired, self._current):
            slot.engine.close()

    def _watch(self) -> None:
        while not self._ending.wait(self._poll_s):
            try:
                self._free_retired()
                self._check_champion()
                self._last_error = ""
            # Registry and model folder are external: whatever they raise, the current release keeps answering.
            except Exception as error:  # noqa: BLE001
                self._report(error)

    def _report(self, error: Exception) -> None:
        """Log an error once, not at every check."""
        message = f"{type(error).__name__}: {error}"
        if message != self._last_error:
            known = isinstance(error, PipelineError)
            logger.error(
                "release %s keeps answering: %s", self.release[:12], error if known else message, exc_info=not known
            )
        self._last_error = message

    def _check_champion(self) -> None:
        release, folder = self._resolve()
        if release == self.release:
            self.refused = None
            return
        if release == self.refused:
            return
        try:
            engine = self._load(folder)
        except Exception:
            self.refused = release
            self._on_refusal(release)
            raise
        with self._lock:
            old, self._current = self._current, Slot(release, engine)
            self._retired.append(old)
        self.refused = None
        logger.info("release %s answers, release %s finishes", release[:12], old.release[:12])
        self._on_swap(release)

    def _free_retired(self) -> None:
        with self._lock:
            idle = [slot for slot in self._retired if slot.users == 0]
            self._retired = [slot for slot in self._retired if slot.users > 0]
        for slot in idle:
            slot.engine.close()
            logger.info("release %s is freed", slot.release[:12])
