"""How the frozen window was served: latency, tokens, errors, feedback; a function of the log alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Health:
    """Figures of a window.

    Attributes:
        figures: Name to number, without those that need rows the window does not have.
        statuses: HTTP status to number of requests, 200 first.
        releases: Release hash to number of answered requests.
        corrections: Key as logged, "" without keys, to number of corrections, the most first.
        period: First and last time of receipt, seconds since the epoch; None for an empty window.
    """

    figures: dict[str, float]
    statuses: dict[int, int]
    releases: dict[str, int]
    corrections: dict[str, int] = field(default_factory=dict)
    period: tuple[float, float] | None = None


def measure_health(window: pa.Table) -> Health:
    """Latency percentiles (nearest rank), tokens, error share and feedback of the logged requests."""
    statuses = window["status"].to_numpy()
    answered = statuses == 200
    rows = window.num_rows
    figures: dict[str, float] = {"requests": rows}
    if rows:
        figures["error_share"] = round(float((statuses >= 500).mean()), 6)
        figures["refused_share"] = round(float(((statuses >= 400) & (statuses < 500)).mean()), 6)
        figures["corrected_share"] = round(1 - window["correction"].null_count / rows, 6)
    corrected = window.filter(pc.is_valid(window["correction"]))
    by_key = Counter(key or "" for key in corrected["key"].to_pylist())
    if corrected.num_rows:
        texts = Counter(corrected["correction"].to_pylist())
        figures["largest_share_of_corrections_by_one_key"] = round(max(by_key.values()) / corrected.num_rows, 6)
        figures["largest_share_of_corrections_with_one_text"] = round(max(texts.values()) / corrected.num_rows, 6)
    if answered.any():
        latency = window["latency_ms"].to_numpy()[answered]
        completion_tokens = window["completion_tokens"].to_numpy()[answered]
        for name, q in (("p50", 50), ("p95", 95), ("p99", 99)):
            figures[f"latency_{name}_ms"] = round(float(np.percentile(latency, q, method="inverted_cdf")), 3)
        figures["prompt_tokens_mean"] = round(float(window["prompt_tokens"].to_numpy()[answered].mean()), 3)
        figures["completion_tokens_mean"] = round(float(completion_tokens.mean()), 3)
        figures["completion_tokens_p95"] = round(float(np.percentile(completion_tokens, 95, method="inverted_cdf")), 3)
    releases = count_values(window["release"].to_numpy(False)[answered])
    times = window["received_at"].to_numpy()
    period = (float(times.min()), float(times.max())) if rows else None
    ordered = dict(sorted(by_key.items(), key=lambda k: (-k[1], k[0])))
    return Health(figures, count_values(statuses), releases, ordered, period)


def count_values(values: np.ndarray) -> dict:  # type: ignore[type-arg]
    """How often each value occurs, in the order of the values."""
    found, counts = np.unique(values, return_counts=True)
    return {value: int(count) for value, count in zip(found.tolist(), counts, strict=True)}
