"""The parts of one running gateway, opened and closed together."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from tasks.contracts.errors import PipelineError
from tasks.gateway.adapters import AdapterShelf
from tasks.gateway.api.feedback import FeedbackDesk, FeedbackQuota
from tasks.gateway.api.host import is_loopback
from tasks.gateway.api.keys import Keyring
from tasks.gateway.metrics import Metrics
from tasks.gateway.mixture import MIXTURE
from tasks.gateway.params import Gateway
from tasks.gateway.releases import Releases, Resolve
from tasks.gateway.request_log.store import open_store
from tasks.gateway.request_log.writer import RequestWriter, Retention

logger = logging.getLogger(__name__)

# Conversations encoded at the same time.
ENCODERS = 2
# Requests whose proposals are waited for at the same time, a thread each.
PROPOSING = 64


class Admission:
    """Counts the requests that are being encoded, so that these and the waiting ones together fit the queue.

    Args:
        max_queue: Maximum number of waiting requests.
    """

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue
        self._encoding = 0

    def is_full(self, waiting: int) -> bool:
        """Whether no further request fits beside the waiting ones."""
        return waiting + self._encoding >= self._max_queue

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Count one request while it is encoded."""
        self._encoding += 1
        try:
            yield
        finally:
            self._encoding -= 1


class GatewayState:
    """The shared state of the routes.

    Args:
        params: Settings.
        resolve: Release hash and model folder of the champion.
        host: Address it will listen on; determines whether keys are required.
        store_url: Database of the request log.
        spool: File for rows while the database is unavailable.
        keys: File of the API keys.
        adapters: Folder of the adapters that may be served; None: none may.

    Raises:
        PipelineError: No keys on a public address, no champion, or one that cannot be loaded.
    """

    def __init__(
        self,
        params: Gateway,
        resolve: Resolve,
        host: str,
        store_url: str,
        spool: Path,
        keys: Path,
        adapters: Path | None = None,
    ) -> None:
        self.params = params
        self.keyring = Keyring(keys, required=not is_loopback(host))
        if self.keyring.is_empty() and not is_loopback(host):
            raise PipelineError(
                f"no API keys in {keys}, and {host} can be reached from other machines; run `heptune keys add NAME` "
                "or serve on 127.0.0.1"
            )
        if self.keyring.is_empty() and self.keyring.required:
            logger.warning("%s has no keys, so every request is refused; add one, or delete the file", keys)
        self.admission = Admission(params.max_queue)
        # Encoding has threads of its own, which no wait for the database takes away.
        self.encoders = anyio.CapacityLimiter(ENCODERS)
        self.proposing = anyio.CapacityLimiter(PROPOSING)
        self.shelf = AdapterShelf(adapters, params.adapters)
        store = open_store(store_url)
        # Metrics read the engines and engines report to the metrics, so both are accessed lazily.
        self.metrics = Metrics(lambda: self.releases.load(), lambda: self.writer.state())
        self.releases = Releases(
            resolve,
            lambda folder: self.shelf.equip(params.engine.load(folder, self.metrics.batch.observe)),
            params.poll_s,
            self._record_swap,
            lambda release: self.metrics.refused.inc(),
        )
        self.metrics.show_release(self.releases.release)
        self.since = int(time.time())
        self.writer = RequestWriter(
            store, spool, params.log_queue, retention=Retention(params.log_days, params.log_rows)
        )
        self.desk = FeedbackDesk(self.writer, FeedbackQuota(params.max_feedback_per_hour))
        self._seconds = 0.0

    def _record_swap(self, release: str) -> None:
        self.metrics.swaps.inc()
        self.metrics.show_release(release)
        self.since = int(time.time())

    @property
    def ready(self) -> bool:
        """Whether requests are answered and logged."""
        return self.releases.alive and self.writer.alive

    def list_problems(self) -> list[str]:
        """What does not work at present although requests are answered, a sentence each."""
        log = self.writer.state()
        problems = [] if log.database_up else ["the database of the request log cannot be written"]
        if log.problem:
            problems.append(f"the request log stays in memory ({log.problem})")
        if self.keyring.problem:
            problems.append(f"the keys stay as they were ({self.keyring.problem})")
        return problems

    def list_models(self) -> dict[str, str]:
        """What answers: of the model alone (an empty name) and of each adapter the name in requests."""
        with self.releases.lease() as slot:
            adapters = sorted(slot.engine.adapters)
        name = self.params.model_name
        return {"": name} | {adapter: f"{name}:{adapter}" for adapter in adapters}

    def list_names(self) -> list[str]:
        """All names that requests may ask for."""
        return [*self.list_models().values(), *([name] if (name := self.mixture_name) else [])]

    @property
    def mixture_name(self) -> str | None:
        """The name of the release with the proposals of other models; None where there are none."""
        return None if self.params.mixture is None else f"{self.params.model_name}{MIXTURE}"

    def record_seconds(self, seconds: float) -> None:
        """Update the running mean of the answer time."""
        self._seconds = seconds if self._seconds == 0.0 else 0.9 * self._seconds + 0.1 * seconds

    def expected_wait_s(self) -> int:
        """Expected wait for a free row, whole seconds from 1 to 60."""
        return min(60, max(1, math.ceil(self._seconds)))

    def close(self) -> None:
        """Finish running requests, then write the log. Safe to call twice."""
        self.releases.close()
        self.writer.close()
        self.writer.store.close()
