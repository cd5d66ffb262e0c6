"""Findings as sentences, with the words and prompts that are new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.corpus.text.words import split_terms
from tasks.corpus.threads import on_one_thread
from tasks.monitoring.calibration import ProbeFinding
from tasks.monitoring.detectors.words import WordFrequency, compare_words, count_documents
from tasks.monitoring.sample import Array, TrafficSample

MAXIMUM_EXAMPLE_CHARACTERS = 240


@dataclass(frozen=True)
class WordUse:
    """A word that the new traffic uses more or less than the baseline.

    Attributes:
        word: In lower case; ``0`` stands for anything with a digit.
        baseline: Share of baseline prompts that contain it.
        window: Share of window prompts that contain it.
        statistic: Chi-square of the two shares.
    """

    word: str
    baseline: float
    window: float
    statistic: float


def rank_words(sample: TrafficSample, settings: WordFrequency) -> list[WordUse]:
    """All words, the most significant change first."""
    vocabulary, matrix = count_documents(sample.prompts, settings.minimum_rows, settings.maximum_words)
    if not vocabulary:
        return []
    reference, window = sample.observed()
    statistics, differences = (values[0] for values in compare_words(matrix, reference, window))
    shares = np.asarray(matrix[: sample.reference_rows].mean(axis=0)).ravel()
    order = sorted(range(len(vocabulary)), key=lambda k: (-round(statistics[k], 9), vocabulary[k]))
    return [
        WordUse(vocabulary[k], float(shares[k]), float(shares[k] + differences[k]), float(statistics[k])) for k in order
    ]


def find_examples(
    sample: TrafficSample, words: Sequence[WordUse], count: int, scrub: Callable[[str], str]
) -> list[str]:
    """Window prompts least like the baseline: with the most of the new words, then farthest from every baseline prompt.

    Personal data is replaced; of prompts with the same first words one is shown.
    """
    weights = {word.word: word.statistic for word in words}
    distances = distance_to_baseline(sample)
    scored = [
        (-round(sum(weights.get(w, 0.0) for w in set(split_terms(prompt))), 6), -round(float(d), 6), prompt)
        for prompt, d in zip(sample.prompts[sample.reference_rows :], distances, strict=True)
    ]
    shown: dict[tuple[str, ...], str] = {}
    for _, _, prompt in sorted(scored):
        if len(shown) == count:
            break
        text = " ".join(scrub(prompt).split())
        key = tuple(split_terms(text)[:4])
        if text and key not in shown:
            shown[key] = (
                text if len(text) <= MAXIMUM_EXAMPLE_CHARACTERS else text[: MAXIMUM_EXAMPLE_CHARACTERS - 1] + "…"
            )
    return list(shown.values())


@on_one_thread
def distance_to_baseline(sample: TrafficSample) -> Array:
    """One minus the cosine to the nearest baseline prompt, for every window prompt."""
    reference = sample.embeddings[: sample.reference_rows]
    distances: Array = 1 - (sample.embeddings[sample.reference_rows :] @ reference.T).max(axis=1)
    return distances


def explain(finding: ProbeFinding, sample: TrafficSample, strongest: WordUse | None) -> str:
    """One sentence on an alert: what changed, from what to what, and its adjusted p-value."""
    p_value = f"adjusted p-value {show_p_value(finding.adjusted)}"
    if finding.detector == "words" and strongest is not None:
        return (
            f"the share of prompts with the word “{strongest.word}” "
            f"{describe_move(strongest.baseline, strongest.window, percent)} ({p_value})"
        )
    if finding.detector == "embedding":
        return (
            f"the meaning of the prompts changed as much as if {percent(finding.effect)} of them were about subjects "
            f"absent from the baseline ({p_value})"
        )
    before, now = averages(finding.subject, sample)
    are_shares = {**sample.numbers, **sample.flags}[finding.subject].max() <= 1
    kind = "share" if finding.subject in sample.flags else "mean"
    change = describe_move(before, now, percent if are_shares else "{:.3g}".format)
    size = f"{finding.effect:+.2f}" if finding.detector != "distance" else f"{finding.effect:.2f}"
    return f"{finding.subject}: the {kind} {change} ({finding.unit} {size}, {p_value})"


def describe_move(before: float, now: float, show: Callable[[float], str]) -> str:
    """Which way a number went: "rose from 12 to 14", or "stayed at 12, its distribution changed"."""
    if show(before) == show(now):
        return f"stayed at {show(now)}, its distribution changed"
    return f"{'rose' if now > before else 'fell'} from {show(before)} to {show(now)}"


def averages(subject: str, sample: TrafficSample) -> tuple[float, float]:
    """Mean of a feature in the baseline and in the window."""
    values = {**sample.numbers, **sample.flags}[subject]
    return float(values[: sample.reference_rows].mean()), float(values[sample.reference_rows :].mean())


def percent(share: float) -> str:
    return f"{100 * share:.1f}%" if 0 < abs(share) < 0.1 else f"{100 * share:.0f}%"


def show_p_value(adjusted: float) -> str:
    return f"{adjusted:.2g}"
