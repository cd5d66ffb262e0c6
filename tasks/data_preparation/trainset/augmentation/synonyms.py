"""Words replaced by others that mean the same, from a list of yours.

Source: Wei and Zou 2019 (EDA). Which words mean the same a person says: word vectors do not tell a synonym from an
opposite or from another member of a list. Of the 1,234 pairs of near words that vectors learned from the sample's
prompts gave, some 30 mean the same (photo, picture); the others are small and large, first and third, oak and pine. Of
what is left, a variant that a classifier reads as another label is refused, where rows have labels.

Example: ``{name: synonyms, sets: data/raw/synonyms.txt}``, whose lines are such as ``parcel, package, shipment``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.params import Section
from tasks.data_preparation.trainset.augmentation.material import (
    WORD,
    Material,
    Variant,
    list_words,
    match_case,
    replace_spans,
)

SHORTEST = 3


class Synonyms(Section):
    """Other words in prompts."""

    name: Literal["synonyms"] = "synonyms"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that get a variant")
    words: float = Field(default=0.15, gt=0, le=1, description="share of a prompt's words replaced, at least one")
    sets: str = Field(min_length=1, description="file with words that mean the same, a set a line, separated by commas")

    @model_validator(mode="before")
    @classmethod
    def _needs_no_vectors(cls, given: Any) -> Any:
        if isinstance(given, dict) and {"vectors", "similarity"} & given.keys():
            raise ValueError(
                "vectors and similarity are gone, since word vectors do not tell open from close; "
                "give sets, a file with words that mean the same"
            )
        return given

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """A variant of each chosen row that has a word of the file.

        Raises:
            PipelineError: The file cannot be read.
        """
        synonyms = read_synonyms(Path(self.sets))
        made = []
        for row in chosen:
            prompt, rng = material.prompts[row], material.random("synonyms", row)
            there = [match.casefold() for match in WORD.findall(prompt)]
            options = {
                span: [word for word in synonyms.get(prompt[slice(*span)].casefold(), ()) if word not in there]
                for span in list_words(prompt, material.answers[row], SHORTEST)
            }
            spans = [span for span, words in options.items() if words]
            if spans:
                hit = rng.sample(spans, min(len(spans), max(1, round(self.words * len(there)))))
                news = [match_case(rng.choice(options[span]), prompt[slice(*span)]) for span in hit]
                made.append(Variant(row, replace_spans(prompt, hit, news)))
        return made


def read_synonyms(path: Path) -> dict[str, list[str]]:
    """Word to the others of its lines, in lower case and sorted; empty lines and those that begin with # are skipped.

    Raises:
        PipelineError: The file is missing or no text, or a line holds fewer than two words.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"synonyms: {path} cannot be read ({error}); correct sets") from error
    others: dict[str, set[str]] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        words = {" ".join(word.split()).casefold() for word in line.split(",")} - {""}
        if not words or line.lstrip().startswith("#"):
            continue
        if len(words) < 2:
            problems.append(
                f'{path}:{number}: "{line.strip()}" alone; give a line two words or more, with commas between'
            )
        for word in words:
            others.setdefault(word, set()).update(words - {word})
    raise_all(problems, "synonyms")
    return {word: sorted(same) for word, same in others.items()}
