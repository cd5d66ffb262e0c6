"""Words replaced by others that stand in the same company.

Source: Wei and Zou 2019 (EDA) for the replacement; the neighbours come from word vectors, of a given file, or of the
training prompts themselves: positive pointwise mutual information of words and their neighbours, reduced by an SVD
(Levy and Goldberg 2014), and only between words that are each other's near neighbours. Words in the same company
are not always synonyms ("open", "close"): where rows have labels, a variant that a classifier reads as another label
is refused.

Example: ``{name: synonyms, vectors: data/raw/glove.6B.100d.txt.gz}``. Without ``vectors`` it takes some 1,000 prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.augmentation.material import (
    Material,
    Variant,
    list_words,
    match_case,
    replace_spans,
)

SHORTEST = 3
# The commonest words carry grammar, not meaning; of few words a tenth.
GRAMMAR = 60
RAREST = 5
MOST = 20_000


class Synonyms(Section):
    """Other words in prompts."""

    name: Literal["synonyms"] = "synonyms"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that get a variant")
    words: float = Field(default=0.15, gt=0, le=1, description="share of a prompt's words replaced, at least one")
    similarity: float = Field(default=0.6, gt=0, lt=1, description="least cosine of a word and its replacement")
    vectors: str | None = Field(
        default=None, description="file of word vectors as text (GloVe, word2vec, fastText), plain or compressed"
    )

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """A variant of each chosen row that has a word with a neighbour.

        Raises:
            PipelineError: The file of vectors cannot be read.
        """
        from tasks.data_preparation.trainset.augmentation.word_vectors import (
            find_neighbours,
            learn_vectors,
            read_vectors,
            split_words,
        )

        counts = Counter(word for prompt in material.prompts for word in split_words(prompt))
        commonest = sorted(counts, key=lambda word: (-counts[word], word))
        grammar = set(commonest[: min(GRAMMAR, len(commonest) // 10)])
        names = sorted(word for word, count in counts.items() if count >= (1 if self.vectors else RAREST))
        if self.vectors is None:
            words, points = learn_vectors(material.prompts, names[:MOST])
        else:
            words, points = read_vectors(Path(self.vectors), set(names))
        near = find_neighbours(words, points, self.similarity, grammar)
        made = []
        for row in chosen:
            prompt, rng = material.prompts[row], material.random("synonyms", row)
            there = split_words(prompt)
            options = {
                span: [word for word in near.get(prompt[slice(*span)].casefold(), ()) if word not in there]
                for span in list_words(prompt, material.answers[row], SHORTEST)
            }
            spans = [span for span, words in options.items() if words]
            if spans:
                hit = rng.sample(spans, min(len(spans), max(1, round(self.words * len(there)))))
                news = [match_case(rng.choice(options[span]), prompt[slice(*span)]) for span in hit]
                made.append(Variant(row, replace_spans(prompt, hit, news)))
        return made
