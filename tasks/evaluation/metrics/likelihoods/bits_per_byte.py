"""Bits per byte: what the references cost to encode with the model, per byte of their UTF-8 text.

The loss in bits, sum over tokens of -log2 p, divided by bytes instead of tokens, so that models that cut text into
other tokens can be compared (Gao et al., "The Pile", arXiv:2101.00027, section 3.1). The end of turn is a token to be
predicted and has no bytes of its own.

Example:
    A reference of 8 bytes in 2 tokens at a mean loss of ln 16 nats: 2 x 4 bits / 8 bytes = 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome


class BitsPerByte(Section):
    """Bits per byte of the reference answers; lower is better."""

    name: Literal["bits_per_byte"] = "bits_per_byte"
    title: ClassVar[str] = "Bits per byte"
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "references"
    exponentiated: ClassVar[bool] = False

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        sizes = np.array([len(item.reference.encode()) for item in evidence.items], dtype=np.float64)
        return Scores(outcome.losses * outcome.tokens / np.log(2) / sizes, sizes)
