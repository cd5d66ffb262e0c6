"""Prometheus metrics of one gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tasks.gateway.engine import EngineLoad
from tasks.gateway.request_log.writer import LogState

LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one gateway, in its own registry so that several can run in one process.

    Args:
        load: Returns the load of the serving engine.
        log: Returns the state of the request log.
    """

    def __init__(self, load: Callable[[], EngineLoad], log: Callable[[], LogState]) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "heptune_requests", "Chat requests by HTTP status.", ["status", "stream"], registry=registry
        )
        self.errors = Counter(
            "heptune_errors", "Refused and failed requests of any kind, by code.", ["code"], registry=registry
        )
        self.seconds = Histogram(
            "heptune_request_seconds",
            "From the last byte of a request to the last of its answer.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.first_token = Histogram(
            "heptune_first_token_seconds",
            "Until the first text of an answer.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.tokens_in = Counter("heptune_prompt_tokens", "Tokens of answered prompts.", registry=registry)
        self.tokens_out = Counter("heptune_completion_tokens", "Tokens generated.", registry=registry)
        self.batch = Histogram(
            "heptune_batch_size", "Requests decoded together, per step.", buckets=BATCH_SIZE_BUCKETS, registry=registry
        )
        self.feedback = Counter("heptune_feedback", "Corrections and labels received.", registry=registry)
        self.swaps = Counter("heptune_swaps", "Releases swapped in while serving.", registry=registry)
        self.refused = Counter("heptune_refused_releases", "Releases that could not be loaded.", registry=registry)
        self._release = Gauge("heptune_release", "1 for the release that answers.", ["release"], registry=registry)
        registry.register(Scrape(load, log))

    def show_release(self, release: str) -> None:
        """Make a release the current one."""
        self._release.clear()
        self._release.labels(release).set(1)

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class Scrape:
    """Metrics computed at each scrape."""

    def __init__(self, load: Callable[[], EngineLoad], log: Callable[[], LogState]) -> None:
        self._load = load
        self._log = log

    def collect(self) -> Iterator[Metric]:
        """One family per metric."""
        load, log = self._load(), self._log()
        yield GaugeMetricFamily("heptune_queue_depth", "Requests waiting in the queue.", value=load.waiting)
        yield GaugeMetricFamily("heptune_running", "Requests being decoded.", value=load.running)
        drafted = CounterMetricFamily(
            "heptune_draft_tokens", "Tokens that a draft proposed, and those that were chosen.", labels=["fate"]
        )
        drafted.add_metric(["proposed"], load.proposed)
        drafted.add_metric(["accepted"], load.accepted)
        yield drafted
        rows = CounterMetricFamily("heptune_log_rows", "Rows of the request log by fate.", labels=["fate"])
        for fate in ("written", "spooled", "replayed", "refused", "lost", "purged"):
            rows.add_metric([fate], getattr(log, fate))
        yield rows
        yield GaugeMetricFamily("heptune_log_pending", "Rows not yet in database or file.", value=log.pending)
        yield GaugeMetricFamily("heptune_log_up", "1 while the database can be written.", value=int(log.database_up))
        yield GaugeMetricFamily(
            "heptune_log_stuck", "1 while neither database nor spool can be written.", value=int(bool(log.problem))
        )
