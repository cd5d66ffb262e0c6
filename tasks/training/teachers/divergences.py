"""How far a student's next-token distribution q is from its teacher's p, nats per position.

* ``forward_kl``: sum p ln(p / q) (Hinton et al. 2015, arXiv:1503.02531). The student covers all that the teacher does.
* ``reverse_kl``: sum q ln(q / p) (Gu et al. 2024, arXiv:2306.08543). It keeps to what the teacher finds likely.
* ``jensen_shannon``: beta KL(p, m) + (1 - beta) KL(q, m) with m = beta p + (1 - beta) q, the generalised form of
  GKD (Agarwal et al. 2024, arXiv:2306.13649); near beta 0 it goes like the forward, near 1 like the reverse one.
* ``total_variation``: half the sum of |p - q| (Wen et al. 2023, arXiv:2307.15190); at most 1.

Example: p = (0.5, 0.5), q = (0.75, 0.25). Forward 0.5 ln(2/3) + 0.5 ln 2 = 0.1438, reverse 0.75 ln 1.5 + 0.25 ln 0.5 =
0.1308, total variation 0.25, and with beta 0.5 m = (0.625, 0.375): 0.0322 + 0.0319, halved, 0.0338.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

DivergenceName = Literal["forward_kl", "reverse_kl", "jensen_shannon", "total_variation"]


def diverge(student: torch.Tensor, teacher: torch.Tensor, name: DivergenceName, beta: float = 0.5) -> torch.Tensor:
    """The divergence of each position.

    Args:
        student: Log-probabilities of all outcomes, shape (positions, outcomes).
        teacher: The same of the teacher; an outcome that it excludes has -inf.
        name: Which.
        beta: Of ``jensen_shannon``, between 0 and 1.

    Returns:
        Shape (positions,), not below 0 but for rounding.
    """
    import torch

    if name == "total_variation":
        return (student.exp() - teacher.exp()).abs().sum(-1) / 2
    if name == "forward_kl":
        return _kl(teacher, student)
    if name == "reverse_kl":
        return _kl(student, teacher)
    mixture = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def _kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """KL(one, other), where an outcome without probability adds nothing."""
    import torch

    possible = one > -math.inf
    difference = torch.where(possible, one, 0.0) - torch.where(possible, other, 0.0)
    return (one.exp() * difference).sum(-1)


def narrow(logits: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """A distribution over some tokens and "any other", as log-probabilities.

    Lost is how the rest is divided among the other tokens: a divergence of two narrowed distributions is at most
    that of the whole ones, and equals it where both divide their rest alike.

    Args:
        logits: Of all tokens, shape (positions, vocabulary).
        kept: Token ids, each at most once a position, shape (positions, kept).

    Returns:
        Shape (positions, kept + 1), the rest last; -inf where nothing is left for it.
    """
    import torch

    whole = logits.logsumexp(-1, keepdim=True)
    # Not 1 minus what is kept: of a rest near 0 rounding would leave nothing.
    rest = logits.scatter(-1, kept, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, kept), rest], dim=-1) - whole
