"""BLEU: shared n-grams of one to four words over the whole set, short answers punished.

Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002, with the tokenizers and the
counts of sacrebleu (Post, WMT 2018) and its exponential smoothing of orders without a match. BLEU is a score of a set,
not a mean over items: n-grams are summed over all items, in each resample anew. The value of a single item is
sacrebleu's sentence score. Values run from 0 to 1, where papers write 0 to 100.

Good for translation and other tasks with a typical wording; ROUGE-L and chrF say more about few items.

Example:
    "the cat sat on the mat" against itself: 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Floats, Scores
    from tasks.evaluation.outcomes import Outcome

ORDERS = 4


class Bleu(Section):
    """BLEU of the set; higher is better."""

    name: Literal["bleu"] = "bleu"
    tokenize: Literal["13a", "intl", "zh", "char"] = Field(
        default="13a", description="sacrebleu's tokenizer: 13a of WMT, intl for other scripts, zh, or single characters"
    )
    title: ClassVar[str] = "BLEU"
    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np
        from sacrebleu.metrics.bleu import BLEU

        from tasks.evaluation.metrics.metric import Scores, Tally

        metric = BLEU(tokenize=self.tokenize, effective_order=True)
        found = [
            metric.sentence_score(answer, [item.reference])
            for item, answer in zip(evidence.items, outcome.answers, strict=True)
        ]
        counts = np.array([[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in found], dtype=np.float64)
        return Scores(np.array([one.score / 100 for one in found]), np.ones(len(found)), Tally(counts, combine_bleu))


def combine_bleu(sums: Floats) -> Floats:
    """BLEU from sums of (answer words, reference words, 4 matches, 4 totals), (..., 10) to (...)."""
    import numpy as np

    answer, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    # The k-th order without a match counts half a match, a quarter, and so on.
    missing = np.cumsum((matches == 0) & (totals > 0), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = np.where(matches == 0, 0.5**missing, matches) / totals
        mean = np.exp(np.log(precisions).mean(axis=-1))
        brevity = np.where(answer < reference, np.exp(1 - reference / answer), 1.0)
        # Where nothing matches at all, or answers are shorter than four words, there is no score.
        known = (matches.sum(axis=-1) > 0) & (totals > 0).all(axis=-1)
        return np.asarray(np.where(known, mean * brevity, 0.0), dtype=np.float64)
