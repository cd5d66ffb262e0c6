"""Words replaced by synonyms from a given list.

Source: Wei and Zou 2019 (EDA). The synonyms come from a person, since word vectors do not distinguish a synonym from
an antonym or a related word. Of the 1,234 pairs of similar words by vectors trained on the prompts of the sample, about
30 are synonyms (photo, picture); others are small and large, first and third, oak and pine. Where rows have labels,
variants that change the prediction of a classifier are rejected.

Example: ``{name: synonyms, sets: data/raw/synonyms.txt}``, with lines such as ``parcel, package, shipment``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.params import Reads, Section
from tasks.corpus.text.word_edits import WORD, list_words, replace_spans
from tasks.data_preparation.trainset.augmentation.material import Material, Variant, match_case

# Shorter words are left unchanged.
MIN_LETTERS = 3


class Synonyms(Section):
    """Replaces words of prompts by synonyms."""

    name: Literal["synonyms"] = "synonyms"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that get a variant")
    words: float = Field(default=0.15, gt=0, le=1, description="share of a prompt's words replaced, at least one")
    sets: Annotated[str, Reads("file")] = Field(
        min_length=1, description="file of synonyms, one set per line, separated by commas"
    )

    @model_validator(mode="before")
    @classmethod
    def _needs_no_vectors(cls, given: Any) -> Any:
        if isinstance(given, dict) and {"vectors", "similarity"} & given.keys():
            raise ValueError(
                "vectors and similarity were removed, since word vectors do not distinguish open from close; "
                "use sets, a file of synonyms"
            )
        return given

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """A variant of each chosen row with a word that has synonyms.

        Raises:
            PipelineError: The file cannot be read.
        """
        synonyms = read_synonyms(Path(self.sets))
        variants = []
        for row in chosen:
            prompt, rng = material.prompts[row], material.random("synonyms", row)
            present = [match.casefold() for match in WORD.findall(prompt)]
            options = {
                span: [word for word in synonyms.get(prompt[slice(*span)].casefold(), ()) if word not in present]
                for span in list_words(prompt, material.answers[row], MIN_LETTERS)
            }
            spans = [span for span, words in options.items() if words]
            if spans:
                changed = rng.sample(spans, min(len(spans), max(1, round(self.words * len(present)))))
                replacements = [match_case(rng.choice(options[span]), prompt[slice(*span)]) for span in changed]
                variants.append(Variant(row, replace_spans(prompt, changed, replacements)))
        return variants


def read_synonyms(path: Path) -> dict[str, list[str]]:
    """Word to its synonyms, in lower case and sorted; empty lines and lines that begin with # are skipped.

    Raises:
        PipelineError: The file is missing or not text, or a line has fewer than two words.
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
                f'{path}:{number}: "{line.strip()[:60]}" has no synonym; write two words or more, with commas between'
            )
        for word in words:
            others.setdefault(word, set()).update(words - {word})
    raise_all(problems, "synonyms")
    return {word: sorted(same) for word, same in others.items()}
