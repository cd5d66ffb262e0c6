"""Typing errors: neighbouring keys, swapped, missing and doubled letters.

Source: Belinkov and Bisk 2018. The first and last letter of a word are kept, so that it remains readable.

Good for: models whose users type on a keyboard. Example: "Where is my parcel today?" gives "Where is my pracel tofay?"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.word_edits import MIN_LETTERS, list_words, mistype, replace_spans
from tasks.data_preparation.trainset.augmentation.material import Material, Variant


class Characters(Section):
    """Typing errors in prompts."""

    name: Literal["characters"] = "characters"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that get a variant")
    words: float = Field(default=0.15, gt=0, le=1, description="share of a prompt's words with an error, at least one")

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """A variant of each chosen row that has a word to change."""
        variants = []
        for row in chosen:
            prompt, rng = material.prompts[row], material.random("characters", row)
            spans = list_words(prompt, material.answers[row], MIN_LETTERS)
            if spans:
                changed = rng.sample(spans, max(1, round(self.words * len(spans))))
                words = [mistype(prompt[start:end], rng) for start, end in changed]
                variants.append(Variant(row, replace_spans(prompt, changed, words)))
        return variants
