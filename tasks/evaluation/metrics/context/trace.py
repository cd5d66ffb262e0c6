"""The four measures of TRACe, for rows that carry the context that the answer is to come from.

Friel et al., "RAGBench: Explainable Benchmark for Retrieval-Augmented Generation Systems", 2024 (arXiv:2407.11005),
section 4. Of a context d cut into sentences, R are those that are relevant to the right answer and U those that the
answer uses; with lengths in characters::

    relevance = Len(R) / Len(d)    utilisation = Len(U) / Len(d)    completeness = Len(R and U) / Len(R)
    attribution (their adherence) = share of the answer's sentences that the context supports

A sentence is relevant where it and a sentence of the reference support one another, one way or the other, and used
where it and a sentence of the answer do (`tasks.evaluation.supports`; ``by`` says by what means). TRACe has a language
model mark them; ``by: {name: judge, ...}`` comes near to that, at many calls an item.

A row carries its context in its prompt, as the model reads it: where data preparation reads a column of contexts, it
stands before the question, a blank line between them. ``context`` is the pattern that finds it in the last turn.
Relevance is about the context alone: it is the same for all models, and says how much of it retrieval could leave out.

Example:
    Context "We open at nine. Dogs are welcome." (16 and 17 characters), reference "At nine.", answer "Dogs are
    welcome. We sell tea.": R is the first sentence, U the second; relevance 16/33, utilisation 17/33, completeness 0,
    attribution 1/2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading
from tasks.evaluation.supports import AnySupport
from tasks.evaluation.supports.support import TextAndClaim, find_distinct, split_claims
from tasks.evaluation.supports.words import WordSupport

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Evidence, Floats, Scores
    from tasks.evaluation.outcomes import Outcome

BEFORE_THE_LAST_BLANK_LINE = r"(?s)\A(?P<context>.+)\n[ \t]*\n.+?\Z"


class ContextMetric(Section):
    """What the four have in common."""

    context: str = Field(
        default=BEFORE_THE_LAST_BLANK_LINE,
        description="pattern with a group named context, searched in the last turn of the prompt; by default what "
        "stands before its last blank line",
    )
    by: AnySupport = Field(default=WordSupport(), description="how it is told whether a text supports a claim")
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    @field_validator("context")
    @classmethod
    def _names_a_context(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error}); mend it") from error
        if "context" not in groups:
            raise ValueError(f"{pattern!r} has no group named context; write (?P<context>...) around what it is")
        return pattern

    def find_context(self, item: Item) -> list[str]:
        """The sentences of an item's context; none where it has no context."""
        found = re.search(self.context, item.prompt[-1]["content"]) if item.prompt else None
        return split_claims(found["context"] or "") if found else []

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        if any(map(self.find_context, evidence.items)):
            return None
        return "no prompt has a context (metrics: context says where it stands)"

    def _find_related(self, evidence: Evidence, texts: Sequence[str]) -> list[list[bool]]:
        """For each sentence of each item's context whether it and a sentence of the item's text support one another."""
        contexts = [self.find_context(item) for item in evidence.items]
        claims = [split_claims(text) for text in texts]
        asked: list[TextAndClaim] = [
            pair
            for sentences, own in zip(contexts, claims, strict=True)
            for sentence in sentences
            for claim in own
            for pair in ((sentence, claim), (claim, sentence))
        ]
        supported = find_distinct(self.by, asked, evidence.kept)
        return [
            [any(supported[sentence, claim] or supported[claim, sentence] for claim in own) for sentence in sentences]
            for sentences, own in zip(contexts, claims, strict=True)
        ]

    def _find_relevant(self, evidence: Evidence) -> list[list[bool]]:
        return self._find_related(evidence, [item.reference for item in evidence.items])

    def _measure(self, evidence: Evidence, chosen: Sequence[Sequence[bool]], among: Sequence[Sequence[bool]]) -> Scores:
        """Length of the chosen sentences of each item, as a share of the length of those they are among."""
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        lengths = [np.array([len(sentence) for sentence in self.find_context(item)]) for item in evidence.items]
        whole = _sum_lengths(lengths, among)
        parts = _sum_lengths(lengths, chosen)
        return Scores(parts / np.maximum(whole, 1), (whole > 0).astype(np.float64))


def _sum_lengths(lengths: Sequence[Floats], chosen: Sequence[Sequence[bool]]) -> Floats:
    import numpy as np

    return np.array([float((own * np.array(which)).sum()) for own, which in zip(lengths, chosen, strict=True)])


def _all_of(related: Sequence[Sequence[bool]]) -> list[list[bool]]:
    return [[True] * len(each) for each in related]


class ContextRelevance(ContextMetric):
    """Share of the context that is relevant to the right answer; the same for all models."""

    name: Literal["context_relevance"] = "context_relevance"
    title: ClassVar[str] = "Context relevance"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        relevant = self._find_relevant(evidence)
        return self._measure(evidence, relevant, _all_of(relevant))


class ContextUtilisation(ContextMetric):
    """Share of the context that the answer uses."""

    name: Literal["context_utilisation"] = "context_utilisation"
    title: ClassVar[str] = "Context utilisation"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        used = self._find_related(evidence, outcome.answers)
        return self._measure(evidence, used, _all_of(used))


class ContextCompleteness(ContextMetric):
    """Share of the relevant context that the answer uses; items without any do not count."""

    name: Literal["context_completeness"] = "context_completeness"
    title: ClassVar[str] = "Context completeness"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        relevant, used = self._find_relevant(evidence), self._find_related(evidence, outcome.answers)
        both = [[a and b for a, b in zip(*pair, strict=True)] for pair in zip(relevant, used, strict=True)]
        return self._measure(evidence, both, relevant)


class Attribution(ContextMetric):
    """Share of the answer's sentences that the context supports; an answer without any has none."""

    name: Literal["attribution"] = "attribution"
    title: ClassVar[str] = "Attribution"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        contexts = [" ".join(self.find_context(item)) for item in evidence.items]
        claims = [split_claims(answer) for answer in outcome.answers]
        asked = [(context, claim) for context, own in zip(contexts, claims, strict=True) if context for claim in own]
        supported = find_distinct(self.by, asked, evidence.kept)
        values = [
            sum(supported[context, claim] for claim in own) / len(own) if own and context else 0.0
            for context, own in zip(contexts, claims, strict=True)
        ]
        return Scores(np.array(values, dtype=np.float64), np.array([float(bool(context)) for context in contexts]))
