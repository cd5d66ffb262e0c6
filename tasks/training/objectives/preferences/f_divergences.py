"""f-divergences from the reference, as what they make of the log-ratio of an answer (arXiv:2309.16240).

Direct preference optimisation takes f'(t) of the ratio t = pi / ref in place of its logarithm:

=================  ===============================  =================================================================
reverse_kl         ln t                             the usual one
forward_kl         1 - 1 / t
js_divergence      ln 2 + ln s(ln t)                s being the logistic function
alpha_divergence   (t^(a - 1) - 1) / (a - 1)        a = 1 is the reverse divergence
=================  ===============================  =================================================================
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]

LARGEST_EXPONENT = 80.0  # beyond it exp is infinite in fp32


def score_ratio(ratio: torch.Tensor, divergence: Divergence, alpha: float) -> torch.Tensor:
    """f'(t) of a log-ratio.

    Args:
        ratio: ln t, shape (answers,).
        divergence: The divergence.
        alpha: Of the alpha-divergence.
    """
    from torch.nn.functional import logsigmoid

    if divergence == "forward_kl":
        return 1 - (-ratio).exp()
    if divergence == "js_divergence":
        return math.log(2) + logsigmoid(ratio)
    if divergence == "alpha_divergence" and abs(alpha - 1) >= 1e-6:
        return (((alpha - 1) * ratio).clamp(max=LARGEST_EXPONENT).exp() - 1) / (alpha - 1)
    return ratio
