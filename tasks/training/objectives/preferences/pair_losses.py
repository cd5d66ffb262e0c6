"""Losses of pairs with a reference: what direct preference optimisation and its kin make of four log-probabilities.

With r = log pi(y|x) - log ref(y|x) for the chosen (w) and the rejected (l) answer, and d = r_w - r_l, or the difference
of what an f-divergence makes of them, the loss of a pair is, b being beta, s the logistic function and e the label
smoothing:

=============  =========================================================  ============================================
sigmoid        -(1 - e) ln s(b d) - e ln s(-b d)                          DPO, arXiv:2305.18290; e > 0: conservative DPO
hinge          max(0, 1 - b d)                                            SLiC, arXiv:2305.10425
ipo            (d - 1 / (2 b))^2, r_w and r_l per token                   IPO, arXiv:2310.12036
exo_pair       q ln(q / (1 - e)) + (1 - q) ln((1 - q) / e), q = s(b d)    EXO, arXiv:2402.00856, eq. 16
nca_pair       -ln s(b r_w) - 1/2 ln s(-b r_w) - 1/2 ln s(-b r_l)         NCA, arXiv:2402.05369
robust         (-(1 - e) ln s(b d) + e ln s(-b d)) / (1 - 2 e)            robust DPO, arXiv:2403.00409
bco_pair       -ln s(b r_w) - ln s(-b r_l)                                BCO, arXiv:2404.04656
sppo_hard      (r_w - 1 / (2 b))^2 + (r_l + 1 / (2 b))^2                  SPPO, arXiv:2405.00675, eq. 4.7
aot            sigmoid of sorted d                                        AOT, arXiv:2406.05882
aot_unpaired   sigmoid of sorted r_w - sorted r_l                         the same
apo_zero       1 - s(b r_w) + s(b r_l)                                    APO, arXiv:2408.06266, eq. 7
apo_down       s(b r_w) + 1 - s(b (r_w - r_l))                            the same, eq. 8
discopop       (1 - m) (-ln s(b d)) + m exp(-b d), m = s(b d / t)         DiscoPOP, arXiv:2406.08414, eq. 5
sft            -ln pi of the chosen answers' tokens, their mean           the term of RPO, arXiv:2404.19733
sigmoid_norm   sigmoid with r_w and r_l per token                         length-normalised DPO, as in Tulu 3
=============  =========================================================  ============================================

aot sorts within a batch, and sft takes the mean over a batch's tokens, so both depend on which pairs share one. All are
held to TRL's numbers by a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

PairLossName = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]


@dataclass(frozen=True)
class PairScores:
    """The pairs of a batch, each of shape (pairs,).

    Attributes:
        chosen: Log-ratio of the better answer to the reference, nats.
        rejected: That of the worse one.
        chosen_score: What the f-divergence makes of ``chosen``.
        rejected_score: The same of ``rejected``.
        policy_ratio: Log-probability of the better answer less that of the worse one.
        reference_ratio: The same of the reference.
        chosen_likelihood: Log-probability of the better answer, no token counted less.
        chosen_tokens: Tokens of the better answer.
        rejected_tokens: Tokens of the worse one.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_score: torch.Tensor
    rejected_score: torch.Tensor
    policy_ratio: torch.Tensor
    reference_ratio: torch.Tensor
    chosen_likelihood: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor

    @property
    def difference(self) -> torch.Tensor:
        return self.chosen_score - self.rejected_score

    @property
    def difference_per_token(self) -> torch.Tensor:
        return self.chosen_score / self.chosen_tokens - self.rejected_score / self.rejected_tokens


@dataclass(frozen=True)
class PairLossSettings:
    """What the formulas are given beside the scores.

    Attributes:
        beta: Weight of the log-ratios.
        label_smoothing: Share of pairs that are taken to be the wrong way round.
        temperature: Of discopop's mixture.
    """

    beta: float
    label_smoothing: float
    temperature: float


def _log_sigmoid(values: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import logsigmoid

    return logsigmoid(values)


def _smoothed(difference: torch.Tensor, settings: PairLossSettings) -> torch.Tensor:
    scaled, share = settings.beta * difference, settings.label_smoothing
    return -(1 - share) * _log_sigmoid(scaled) - share * _log_sigmoid(-scaled)


def _sigmoid(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    return _smoothed(scores.difference, settings)


def _hinge(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    return (1 - settings.beta * scores.difference).relu()


def _ipo(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    return (scores.difference_per_token - 1 / (2 * settings.beta)).square()


def _exo_pair(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    import math

    scaled, share = settings.beta * scores.difference, settings.label_smoothing
    chosen = scaled.sigmoid() * (_log_sigmoid(scaled) - math.log1p(-share))
    return chosen + (-scaled).sigmoid() * (_log_sigmoid(-scaled) - math.log(share))


def _nca_pair(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    chosen, rejected = settings.beta * scores.chosen, settings.beta * scores.rejected
    return -_log_sigmoid(chosen) - 0.5 * _log_sigmoid(-chosen) - 0.5 * _log_sigmoid(-rejected)


def _robust(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    scaled, share = settings.beta * scores.difference, settings.label_smoothing
    return (-(1 - share) * _log_sigmoid(scaled) + share * _log_sigmoid(-scaled)) / (1 - 2 * share)


def _bco_pair(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    return -_log_sigmoid(settings.beta * scores.chosen) - _log_sigmoid(-settings.beta * scores.rejected)


def _sppo_hard(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    half = 0.5 / settings.beta
    return (scores.chosen - half).square() + (scores.rejected + half).square()


def _aot(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    return _smoothed(scores.policy_ratio.sort().values - scores.reference_ratio.sort().values, settings)


def _aot_unpaired(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    return _smoothed(scores.chosen.sort().values - scores.rejected.sort().values, settings)


def _apo_zero(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    return 1 - (settings.beta * scores.chosen).sigmoid() + (settings.beta * scores.rejected).sigmoid()


def _apo_down(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    apart = settings.beta * (scores.chosen - scores.rejected)
    return (settings.beta * scores.chosen).sigmoid() + 1 - apart.sigmoid()


def _discopop(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    scaled = settings.beta * scores.difference
    mixture = (scaled / settings.temperature).sigmoid()
    return -_log_sigmoid(scaled) * (1 - mixture) + (-scaled).exp() * mixture


def _sft(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    mean = -scores.chosen_likelihood.sum() / scores.chosen_tokens.sum()
    return mean.expand(len(scores.chosen))


def _sigmoid_norm(scores: PairScores, settings: PairLossSettings) -> torch.Tensor:
    return _smoothed(scores.difference_per_token, settings)


# From the pairs of a batch to the loss of each, (pairs,).
PAIR_LOSSES: Mapping[PairLossName, Callable[[PairScores, PairLossSettings], torch.Tensor]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "robust": _robust,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "aot": _aot,
    "aot_unpaired": _aot_unpaired,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
    "sft": _sft,
    "sigmoid_norm": _sigmoid_norm,
}
