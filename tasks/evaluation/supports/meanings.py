"""Which texts mean the same: those that entail each other, as semantic entropy counts meanings.

Kuhn, Gal and Farquhar, "Semantic Uncertainty", ICLR 2023 (arXiv:2302.09664), algorithm 1: a text joins the first
cluster whose first text it entails and is entailed by, else it begins a cluster. Both texts stand after the question
that they answer. Any means of support says what entails what (`tasks.evaluation.supports`): Kuhn et al. take a
classifier of natural language inference, Farquhar et al. (Nature 2024) a language model too. By words there is no
question before the texts, as its words would be those that both have in common.

Example:
    "Paris.", "It is Paris." and "It is in France." after "Where is the Louvre?": the first two entail each other, and
    both entail the third, which does not entail them: clusters 0, 0, 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.evaluation.supports.support import Support, find_distinct


def cluster_meanings(
    support: Support, questions: Sequence[str], answers: Sequence[Sequence[str]], folder: Path | None
) -> list[list[int]]:
    """The cluster of each answer to each question, by number; the pairs of all questions are told together.

    Args:
        support: Says whether a text entails another.
        questions: What was asked.
        answers: Several answers to each.
        folder: Where a judge's verdicts are kept; None keeps none.

    Raises:
        PipelineError: It cannot be told.
    """
    clusters: list[list[int]] = [[] for _ in answers]
    first: list[list[int]] = [[] for _ in answers]

    def show(item: int, place: int) -> str:
        text = answers[item][place]
        return f"{questions[item]}\n{text}" if support.reads_context else text

    for place in range(max(map(len, answers), default=0)):
        open_ones = []
        for item, texts in enumerate(answers):
            if place < len(texts):
                known = (n for n, other in enumerate(first[item]) if is_same_text(texts[other], texts[place]))
                if (number := next(known, None)) is None:
                    open_ones.append(item)
                else:
                    clusters[item].append(number)
        pairs = [
            pair
            for item in open_ones
            for other in first[item]
            for pair in ((show(item, other), show(item, place)), (show(item, place), show(item, other)))
        ]
        entails = find_distinct(support, pairs, folder) if pairs else {}
        for item in open_ones:
            shown = show(item, place)
            same = (
                number
                for number, other in enumerate(first[item])
                if entails[show(item, other), shown] and entails[shown, show(item, other)]
            )
            number = next(same, len(first[item]))
            if number == len(first[item]):
                first[item].append(place)
            clusters[item].append(number)
    return clusters


def is_same_text(first: str, second: str) -> bool:
    """Whether two texts are the same but for white space."""
    return first.split() == second.split()
