"""Tokens drawn from a model's distribution, for many rows at once, each from random numbers of its own.

A row's numbers come from its seed alone and are used one per token, by inverse transform, so that a row is drawn alike
whatever shares its batch. What a token was drawn with is kept: its log-probability and the entropy of its distribution,
both at the temperature of the draw and before `top_p` leaves anything out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class TokenSampler:
    """Draws the tokens of some rows.

    Args:
        temperature: Divides the logits; above 0.
        top_p: Share of the probability that is drawn from, the most likely tokens first (Holtzman et al. 2019,
            arXiv:1904.09751); 1 is all of it.
        seeds: Of each row; numbers that together name it.
        limit: Most tokens of a row.

    Attributes:
        log_probabilities: Of each row's tokens so far, nats.
        entropies: Of the distributions that they were drawn from, nats.
    """

    def __init__(self, temperature: float, top_p: float, seeds: Sequence[Sequence[int]], limit: int) -> None:
        import numpy as np

        self.temperature, self.top_p = temperature, top_p
        draws = [np.random.default_rng(list(seed)).random(limit) for seed in seeds]
        self._points = np.stack(draws) if draws else np.zeros((0, limit))
        self.log_probabilities: list[list[float]] = [[] for _ in seeds]
        self.entropies: list[list[float]] = [[] for _ in seeds]

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """The next token of some rows.

        Args:
            logits: Shape (rows, vocabulary).
            rows: Which rows they are.

        Returns:
            Token ids, shape (rows,), on the device of the logits.
        """
        import torch

        log_probabilities = torch.log_softmax(logits.double() / self.temperature, dim=-1)
        probabilities = log_probabilities.exp()
        entropies = -(probabilities * log_probabilities.clamp(min=-1e9)).sum(dim=-1)
        numbers = [self._points[row, len(self.log_probabilities[row])] for row in rows]
        points = torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None]
        tokens = _invert(probabilities, points) if self.top_p >= 1 else self._draw_nucleus(probabilities, points)
        taken = log_probabilities.gather(1, tokens[:, None])[:, 0].tolist()
        for row, log_probability, entropy in zip(rows, taken, entropies.tolist(), strict=True):
            self.log_probabilities[row].append(log_probability)
            self.entropies[row].append(entropy)
        return tokens

    def _draw_nucleus(self, probabilities: Tensor, points: Tensor) -> Tensor:
        ranked, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        before = ranked.cumsum(dim=-1) - ranked
        # A token is kept while the mass before it is below top_p, so the most likely one always is.
        kept = ranked.where(before < self.top_p, 0.0)
        return tokens.gather(1, _invert(kept, points)[:, None])[:, 0]


def _invert(masses: Tensor, points: Tensor) -> Tensor:
    """The place in each row where the cumulated mass passes a point of 0 to 1; never one without mass."""
    mass = masses.cumsum(dim=-1)
    places = (mass <= points * mass[:, -1:]).sum(dim=-1, keepdim=True)
    # Rounding may put a point beyond the last mass.
    last = masses.shape[1] - 1 - masses.flip(-1).gt(0).long().argmax(dim=-1, keepdim=True)
    return places.minimum(last)[:, 0]
