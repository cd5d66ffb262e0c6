"""Thresholds from A/A splits: how much two samples without drift differ.

Every A/A split deals the rows of baseline and window out anew, at random, into a baseline and a window of the real
sizes, and computes every probe on them: a permutation test (Fisher 1935; Good 2005). Without drift the real split is
one of these, so the p-value, the share of splits with a statistic at least as large, is exact at every number of rows,
also for what is rare or absent in the baseline. There are many probes, so each p-value is adjusted by the distribution
of the *smallest* p-value over all probes of a split (Westfall and Young 1993, single-step min-P): the share of windows
without drift that raise any alert is then at most the false-alarm rate, however the probes depend on one another. It
holds for rows that are independent of one another; a window in which one client repeats a prompt hundreds of times
differs from a baseline in which it does not. ``benchmarks/drift.py`` measures both rates on real prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tasks.contracts.progress import track
from tasks.monitoring.sample import Array, Probe, TrafficSample

# Splits measured together; bounds the memory.
_SPLITS_PER_CHUNK = 250


@dataclass(frozen=True)
class ProbeFinding:
    """The result of one probe.

    Attributes:
        probe: Its name, ``detector: subject``.
        detector: Name of the detector.
        subject: The feature compared, in words.
        unit: Unit of the effects.
        effect: Effect size measured in the window; may be signed.
        minimum_effect: Smaller effects raise no alert.
        p_value: Probability of a statistic as large without drift, for this probe alone.
        adjusted: The p-value adjusted for all probes.
        alert: Whether the adjusted p-value is within the false-alarm rate and the effect large enough.
        smallest: Smallest true effect that is detected with the stated power.
    """

    probe: str
    detector: str
    subject: str
    unit: str
    effect: float
    minimum_effect: float
    p_value: float
    adjusted: float
    alert: bool
    smallest: float


def measure_probes(probes: Sequence[Probe], reference: Array, window: Array) -> tuple[Array, Array]:
    """Statistics and effects of all probes: splits x probes each."""
    pairs = [probe.measure(reference, window) for probe in probes]
    # Rounded, so that a feature that never varies gives ties instead of a ranking by rounding errors.
    return np.stack([s for s, _ in pairs], axis=1).round(9), np.stack([e for _, e in pairs], axis=1).round(9)


def measure_splits(probes: Sequence[Probe], sample: TrafficSample, splits: int, seed: int) -> Array:
    """Statistics of all probes on A/A splits of the rows: splits x probes."""
    rng = np.random.default_rng(seed)
    sizes = [min(_SPLITS_PER_CHUNK, splits - start) for start in range(0, splits, _SPLITS_PER_CHUNK)]
    parts = []
    for size in track(sizes, "calibrating"):
        order = np.argsort(rng.random((size, sample.rows)), axis=1)
        reference = np.zeros((size, sample.rows))
        np.put_along_axis(reference, order[:, : sample.reference_rows], 1.0, axis=1)
        parts.append(measure_probes(probes, reference, 1.0 - reference)[0])
    return np.concatenate(parts)


def rank(statistics: Array) -> Array:
    """P-values, one a row and probe: share of the rows with a statistic at least as large, the row itself included."""
    ordered = np.sort(statistics, axis=0)
    columns = range(statistics.shape[1])
    smaller = np.stack([np.searchsorted(ordered[:, k], statistics[:, k], side="left") for k in columns], axis=1)
    p_values: Array = (len(statistics) - smaller) / len(statistics)
    return p_values


def judge_probes(
    probes: Sequence[Probe], sample: TrafficSample, splits: int, seed: int, false_alarms: float, power: float
) -> list[ProbeFinding]:
    """Compute every probe on the sample and its p-value from the A/A splits.

    Args:
        probes: The comparisons.
        sample: Baseline and window.
        splits: Number of A/A splits; the smallest possible adjusted p-value is one over their number.
        seed: Seed of the splits.
        false_alarms: Highest share of windows without drift that raise any alert.
        power: Share of windows in which an effect of ``smallest`` is detected.
    """
    sizes = (sample.reference_rows, sample.window_rows)
    null = measure_splits(probes, sample, splits, seed)
    statistics, effects = measure_probes(probes, *sample.observed())
    # The real split is ranked as one among the A/A splits, so that without drift every rank is equally likely.
    ranks = rank(np.concatenate([statistics, null]))
    p_values, smallest_p = ranks[0], ranks.min(axis=1)
    adjusted = np.array([(smallest_p <= p).mean() for p in p_values])
    level = max(float(np.quantile(smallest_p, false_alarms, method="lower")), 1 / (splits + 1))
    z = NormalDist().inv_cdf(power)
    findings = []
    for k, probe in enumerate(probes):
        critical = float(np.quantile(null[:, k], 1 - level, method="higher"))
        floor = max(probe.effect_at(critical, *sizes), probe.minimum_effect)
        effect = float(effects[0, k])
        findings.append(
            ProbeFinding(
                probe=probe.name,
                detector=probe.detector,
                subject=probe.subject,
                unit=probe.unit,
                effect=effect,
                minimum_effect=probe.minimum_effect,
                p_value=float(p_values[k]),
                adjusted=float(adjusted[k]),
                alert=bool(adjusted[k] <= false_alarms and abs(effect) >= probe.minimum_effect),
                smallest=floor + z * probe.noise(floor, *sizes),
            )
        )
    return findings
