"""The languages of a sample, told by lingua, which comes with the extra ``language``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tasks.data_preparation.output.card.sample import Drawn, draw_rows, read_texts

CHARACTERS = 300
MOST = 500
SHORTEST = 20
SUREST = 0.5


@dataclass(frozen=True)
class Languages:
    """What was found.

    Attributes:
        drawn: The rows whose texts were looked at.
        counts: Code (ISO 639-1) to texts, the most frequent first; ``unclear`` where none has half of the confidence.
        judged: Texts long enough to be judged.
        short: Texts that were not.
    """

    drawn: Drawn
    counts: dict[str, int]
    judged: int
    short: int


def tell_languages(drawn: Drawn) -> Languages | None:
    """The language of some conversations by the trigrams of their beginnings; None where lingua is not installed."""
    try:
        from lingua import LanguageDetectorBuilder
    except ImportError:
        return None
    drawn = Drawn(draw_rows(drawn.table, MOST).table, drawn.of)
    starts = [text[:CHARACTERS] for text in read_texts(drawn.table)]
    long = [text for text in starts if sum(map(str.isalpha, text)) >= SHORTEST]
    counts: Counter[str] = Counter()
    if long:
        detector = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
        for values in detector.compute_language_confidence_values_in_parallel(long):
            best = values[0]
            counts[best.language.iso_code_639_1.name.lower() if best.value >= SUREST else "unclear"] += 1
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Languages(drawn, ordered, len(long), len(starts) - len(long))
