"""Factuality and completeness: which claims of the answer the reference supports, and the other way round.

With c(a) the sentences of the answer, c(r) those of the reference and s the claims that are supported
(`tasks.evaluation.supports`: by words, by a classifier of entailment, or by a judge; ``by`` says which)::

    factuality = |s(r -> c(a))| / |c(a)|        completeness = |s(a -> c(r))| / |c(r)|

the precision of FActScore (Min et al., EMNLP 2023, arXiv:2305.14251) with the reference as what is known, and the
recall of nuggets (Lin and Demner-Fushman, 2006). An answer without a claim has a factuality of 0: it does not get
better by saying nothing. What is right and not in the reference counts as unsupported.

Example:
    Reference "We open at nine. We close at five." and answer "We open at nine. Dogs are welcome.": one of two claims
    each way, factuality 0.5 and completeness 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading
from tasks.evaluation.supports import AnySupport
from tasks.evaluation.supports.support import find_distinct, split_claims
from tasks.evaluation.supports.words import WordSupport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class _ClaimMetric(Section):
    """What both have in common."""

    by: AnySupport = Field(default=WordSupport(), description="how it is told whether a text supports a claim")
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None if any(split_claims(item.reference) for item in evidence.items) else "no reference has a claim"

    def _share(self, evidence: Evidence, pairs: Sequence[tuple[str, str]]) -> Scores:
        """Share of the claims of each second text that the first one supports."""
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        weights = np.array([float(bool(split_claims(item.reference))) for item in evidence.items])
        claims = [split_claims(second) if weight else [] for (_, second), weight in zip(pairs, weights, strict=True)]
        asked = [(first, claim) for (first, _), own in zip(pairs, claims, strict=True) for claim in own]
        supported = find_distinct(self.by, asked, evidence.kept)
        values = [
            sum(supported[first, claim] for claim in own) / len(own) if own else 0.0
            for (first, _), own in zip(pairs, claims, strict=True)
        ]
        return Scores(np.array(values, dtype=np.float64), weights)


class Factuality(_ClaimMetric):
    """Share of the answer's claims that the reference supports; higher is better."""

    name: Literal["factuality"] = "factuality"
    title: ClassVar[str] = "Factuality"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        pairs = zip(evidence.items, outcome.answers, strict=True)
        return self._share(evidence, [(item.reference, answer) for item, answer in pairs])


class Completeness(_ClaimMetric):
    """Share of the reference's claims that the answer supports; higher is better."""

    name: Literal["completeness"] = "completeness"
    title: ClassVar[str] = "Completeness"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        pairs = zip(evidence.items, outcome.answers, strict=True)
        return self._share(evidence, [(answer, item.reference) for item, answer in pairs])
