"""A finding in plain words, with the words and prompts that are new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.corpus.text.words import split_terms
from tasks.monitoring.calibration import Finding
from tasks.monitoring.detectors.words import Words, compare_words, count_documents
from tasks.monitoring.sample import Array, Sample

LONGEST_EXAMPLE = 240


@dataclass(frozen=True)
class WordUse:
    """A word that the new traffic uses more or less than the baseline.

    Attributes:
        word: In lower case; ``0`` stands for anything with a digit.
        baseline: Share of baseline prompts that hold it.
        window: Share of window prompts that hold it.
        statistic: Chi-square of the two shares.
    """

    word: str
    baseline: float
    window: float
    statistic: float


def rank_words(sample: Sample, settings: Words) -> list[WordUse]:
    """All words, those whose change is least likely by chance first."""
    vocabulary, matrix = count_documents(sample.prompts, settings.minimum_rows, settings.maximum_words)
    if not vocabulary:
        return []
    reference, window = sample.observed()
    statistics, moved = (values[0] for values in compare_words(matrix, reference, window))
    shares = np.asarray(matrix[: sample.reference_rows].mean(axis=0)).ravel()
    order = sorted(range(len(vocabulary)), key=lambda k: (-round(statistics[k], 9), vocabulary[k]))
    return [WordUse(vocabulary[k], float(shares[k]), float(shares[k] + moved[k]), float(statistics[k])) for k in order]


def find_examples(sample: Sample, words: Sequence[WordUse], count: int, scrub: Callable[[str], str]) -> list[str]:
    """Window prompts most unlike the baseline: full of typical words, then farthest from every baseline prompt.

    Personal data is replaced; prompts that start alike are shown once.
    """
    weights = {word.word: word.statistic for word in words}
    far = distance_to_baseline(sample)
    scored = [
        (-round(sum(weights.get(w, 0.0) for w in set(split_terms(prompt))), 6), -round(float(d), 6), prompt)
        for prompt, d in zip(sample.prompts[sample.reference_rows :], far, strict=True)
    ]
    shown: dict[tuple[str, ...], str] = {}
    for _, _, prompt in sorted(scored):
        if len(shown) == count:
            break
        text = " ".join(scrub(prompt).split())
        key = tuple(split_terms(text)[:4])
        if text and key not in shown:
            shown[key] = text if len(text) <= LONGEST_EXAMPLE else text[: LONGEST_EXAMPLE - 1] + "…"
    return list(shown.values())


def distance_to_baseline(sample: Sample) -> Array:
    """One minus the cosine to the nearest baseline prompt, for every window prompt."""
    reference = sample.embeddings[: sample.reference_rows]
    distances: Array = 1 - (sample.embeddings[sample.reference_rows :] @ reference.T).max(axis=1)
    return distances


def explain(finding: Finding, sample: Sample, strongest: WordUse | None) -> str:
    """One sentence on an alert: what changed, from what to what, and how sure that is."""
    sure = f"chance without drift {show_chance(finding.adjusted)}"
    if finding.detector == "words" and strongest is not None:
        return (
            f"the word “{strongest.word}” is in {percent(strongest.window)} of the prompts, before in "
            f"{percent(strongest.baseline)} ({sure})"
        )
    if finding.detector == "embedding":
        return (
            f"the prompts are about other things, as if {percent(finding.effect)} of them were on subjects the "
            f"baseline does not know ({sure})"
        )
    before, now = averages(finding.subject, sample)
    are_shares = {**sample.numbers, **sample.flags}[finding.subject].max() <= 1
    shown = f"{percent(before)} to {percent(now)}" if are_shares else f"{before:.3g} to {now:.3g}"
    size = f"{finding.effect:+.2f}" if finding.detector != "distance" else f"{finding.effect:.2f}"
    return f"{finding.subject}: on average {shown} ({finding.unit} {size}, {sure})"


def averages(subject: str, sample: Sample) -> tuple[float, float]:
    """Mean of a feature in the baseline and in the window."""
    values = {**sample.numbers, **sample.flags}[subject]
    return float(values[: sample.reference_rows].mean()), float(values[sample.reference_rows :].mean())


def percent(share: float) -> str:
    return f"{100 * share:.1f}%" if 0 < abs(share) < 0.1 else f"{100 * share:.0f}%"


def show_chance(adjusted: float) -> str:
    return f"{adjusted:.4f}" if adjusted < 0.01 else f"{adjusted:.2f}"
