"""A draft of a row: proposed, answered, judged, and refused or accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tasks.corpus.similarity.shingles import Array, cut_shingles
from tasks.corpus.text.words import fold_text

NGRAM_SIZE = 4
# Reason of a prompt that passed its checks after enough rows were accepted.
NOT_NEEDED = "not needed any more"


@dataclass(frozen=True)
class Draft:
    """A row that a teacher writes.

    Attributes:
        topic: Its topic.
        seeds: Ids of the rows shown to the teacher as examples.
        instruction: The prompt.
        label: Its class, where rows have one.
        fields: Further fields required by checks, such as ``expected``.
        answer: The answer.
        score: Score of the judge, 1 to 5; None before that, or without a judge.
        critique: Critique of the judge.
        rewrites: Number of rewrites of the answer.
        step: The last step it passed through.
        reason: Why it was refused; None if it was not.
    """

    topic: str
    seeds: tuple[str, ...] = ()
    instruction: str = ""
    label: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""
    score: int | None = None
    critique: str = ""
    rewrites: int = 0
    step: str = "instructions"
    reason: str | None = None

    def refuse(self, step: str, reason: str) -> Draft:
        return replace(self, step=step, reason=reason)


@dataclass
class Group:
    """Existing prompts, with a name for reasons.

    Attributes:
        name: Completes "too similar to ...".
        texts: The prompts.
        held_out: Whether a similar prompt would be a leak rather than a duplicate.
    """

    name: str
    texts: list[str]
    held_out: bool = False
    _index: tuple[int, Array, Array, Array] | None = None

    def find_similar(self, texts: Sequence[str], threshold: float) -> set[int]:
        """Indices of the given texts that are similar to one of the group.

        Every pair is compared: Jaccard similarity of the sets of character 4-grams of the normalised texts.
        """
        if not self.texts:
            return set()
        if self._index is None or self._index[0] != len(self.texts):
            self._index = (len(self.texts), *index_texts(self.texts))
        _, hashes, owners, sizes = self._index
        similar = set()
        for index, text in enumerate(texts):
            own = np.unique(cut_shingles([fold_text(text)], NGRAM_SIZE).hashes)
            starts, ends = np.searchsorted(hashes, own), np.searchsorted(hashes, own, side="right")
            hits = np.concatenate([owners[start:end] for start, end in zip(starts, ends, strict=True)])
            shared = np.bincount(hits, minlength=len(sizes))
            if (shared >= threshold * (sizes + len(own) - shared) - 1e-9).any():
                similar.add(index)
        return similar


def index_texts(texts: Sequence[str]) -> tuple[Array, Array, Array]:
    """The sorted n-grams of texts, the text of each, and the number of distinct n-grams of each text."""
    shingled = cut_shingles([fold_text(text) for text in texts], NGRAM_SIZE)
    rows = np.repeat(np.arange(shingled.rows), np.diff(shingled.offsets))
    order = np.lexsort((rows, shingled.hashes))
    hashes, rows = shingled.hashes[order], rows[order]
    distinct = np.ones(len(rows), dtype=bool)
    distinct[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    return hashes[distinct], rows[distinct], np.bincount(rows[distinct], minlength=len(texts))


@dataclass
class Known:
    """What drafts are compared with.

    Attributes:
        labels: Allowed labels; empty: rows have no labels.
        groups: Existing prompts.
        taken: Prompts of drafts that passed the checks of instructions.
    """

    labels: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    taken: Group = field(default_factory=lambda: Group("another written row", []))


@dataclass(frozen=True)
class Seed:
    """An existing row, as an example for the teacher."""

    id: str
    prompt: str
    answer: str
    label: str | None = None


@dataclass(frozen=True)
class SynthesisResult:
    """The result of a run.

    Attributes:
        accepted: The accepted rows.
        refused: The refused drafts, each with step and reason.
        topics: The topics of the rows.
        ended: Why the run ended.
        steps: Step to calls, tokens, cost and unusable answers.
        prompts: Hash of the prompts' templates.
    """

    accepted: tuple[Draft, ...]
    refused: tuple[Draft, ...]
    topics: tuple[str, ...]
    ended: str
    steps: Mapping[str, Any]
    prompts: str
