"""``heptune snapshot``: the newest traffic of the champion and its baseline, frozen as files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from flows.wiring import artifacts
from flows.wiring.lock import one_at_a_time
from flows.wiring.params import read_params
from flows.wiring.releases.registry import Registry, open_registry
from flows.wiring.releases.serving import store_url
from tasks.contracts.errors import PipelineError
from tasks.contracts.records import REQUESTS
from tasks.contracts.tables import read_table
from tasks.gateway.request_log.store import open_store
from tasks.monitoring.traffic import freeze_pair

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A frozen window and baseline.

    Attributes:
        release: Hash of the release that answered.
        window_rows: Requests in the window.
        baseline_rows: Rows of the release's baseline.
    """

    release: str
    window_rows: int
    baseline_rows: int


def snapshot(
    url: str | None = None,
    rows: int | None = None,
    since: float | None = None,
    registry: Registry | None = None,
    folder: Path = artifacts.PRODUCTION,
) -> Snapshot:
    """Freeze the newest requests that the champion answered, and its baseline.

    Requests of earlier releases are excluded, because another model answered them.

    Args:
        url: The request log; by default the one the gateway writes.
        rows: Maximum number of requests, the newest; by default as many as monitoring compares.
        since: Earliest time of receipt, seconds since the epoch.
        registry: Registry of the champion; by default that of ``params.yaml``.
        folder: Folder for the pair of files.

    Raises:
        PipelineError: There is no champion, its baseline is missing, or the log does not answer.
    """
    registry = registry or open_registry()
    champion = registry.resolve_champion()
    if champion is None:
        raise PipelineError(f'"{registry.model}" has no champion, so there is no baseline; run `heptune promote` first')
    release, release_folder = champion
    baseline = read_table(release_folder / artifacts.BASELINE.name, REQUESTS)
    rows = rows or read_params().monitoring.drift.maximum_rows
    store = open_store(url or store_url())
    try:
        window = store.read_window(since=since, limit=rows, release=release)
    finally:
        store.close()
    with one_at_a_time(wait=True):
        freeze_pair(window, baseline, folder)
    logger.info("%s: %d requests in the window, %d in the baseline", folder, window.num_rows, baseline.num_rows)
    return Snapshot(release, window.num_rows, baseline.num_rows)
