"""A row on its way: what was proposed, answered, judged, and why it was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tasks.corpus.similarity import Array, cut_shingles
from tasks.corpus.text.words import fold_text

SIZE = 4
# Why a prompt that passed its checks has no answer: there were rows enough.
NOT_NEEDED = "not needed any more"


@dataclass(frozen=True)
class Draft:
    """A row that a teacher writes.

    Attributes:
        topic: What it is about.
        seeds: Ids of the rows that the teacher saw as examples.
        instruction: The prompt.
        label: Its class, where rows have one.
        fields: What the checks asked the writer of the instruction for, such as ``expected``.
        answer: The answer.
        score: Of the judge, 1 to 5; None before, or without a judge.
        critique: Of the judge.
        rewrites: How often the answer was rewritten.
        step: The last step it went through.
        reason: Why it was refused; None while it stays.
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
    """Prompts that exist, under a name for reasons.

    Attributes:
        name: Completes "too like ...".
        texts: The prompts.
        held_out: Whether a likeness would be a leak rather than a repetition.
    """

    name: str
    texts: list[str]
    held_out: bool = False
    _index: tuple[int, Array, Array, Array] | None = None

    def find_like(self, texts: Sequence[str], threshold: float) -> set[int]:
        """Places of the given texts that are like one of the group.

        Every pair is compared: Jaccard similarity of the sets of character 4-grams of the folded texts.
        """
        if not self.texts:
            return set()
        if self._index is None or self._index[0] != len(self.texts):
            self._index = (len(self.texts), *index_texts(self.texts))
        _, hashes, owners, sizes = self._index
        like = set()
        for place, text in enumerate(texts):
            own = np.unique(cut_shingles([fold_text(text)], SIZE).hashes)
            starts, ends = np.searchsorted(hashes, own), np.searchsorted(hashes, own, side="right")
            hits = np.concatenate([owners[start:end] for start, end in zip(starts, ends, strict=True)])
            shared = np.bincount(hits, minlength=len(sizes))
            if (shared >= threshold * (sizes + len(own) - shared) - 1e-9).any():
                like.add(place)
        return like


def index_texts(texts: Sequence[str]) -> tuple[Array, Array, Array]:
    """The n-grams of texts in order, the text of each, and how many different ones each text has."""
    cut = cut_shingles([fold_text(text) for text in texts], SIZE)
    rows = np.repeat(np.arange(cut.rows), np.diff(cut.offsets))
    order = np.lexsort((rows, cut.hashes))
    hashes, rows = cut.hashes[order], rows[order]
    fresh = np.ones(len(rows), dtype=bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    return hashes[fresh], rows[fresh], np.bincount(rows[fresh], minlength=len(texts))


@dataclass
class Known:
    """What a draft is held against.

    Attributes:
        labels: Labels that may be given; none: rows have no labels.
        groups: Prompts that exist already.
        taken: Prompts of drafts that passed the checks of instructions.
    """

    labels: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    taken: Group = field(default_factory=lambda: Group("another written row", []))


@dataclass(frozen=True)
class Seed:
    """A row that exists, as an example for the teacher."""

    id: str
    prompt: str
    answer: str
    label: str | None = None


@dataclass(frozen=True)
class Written:
    """What a run wrote.

    Attributes:
        accepted: The rows.
        refused: Drafts that were not, each with step and reason.
        topics: What rows were asked about.
        ended: Why no more were written.
        steps: Step to calls, tokens, cost and unusable answers.
        prompts: Hash of the prompts' templates.
    """

    accepted: tuple[Draft, ...]
    refused: tuple[Draft, ...]
    topics: tuple[str, ...]
    ended: str
    steps: Mapping[str, Any]
    prompts: str
