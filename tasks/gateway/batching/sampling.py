"""The next token of one row: seeded, by inverse transform, so that it does not depend on the batch."""

from __future__ import annotations

import secrets

import torch

from tasks.gateway.engine import Sampling

SMALLEST_TEMPERATURE = 1.0e-6


def make_generator(sampling: Sampling) -> torch.Generator:
    """The random number generator of one request, randomly seeded where no seed is given."""
    seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    return torch.Generator().manual_seed(seed)


def sample_token(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Draw a token by nucleus sampling (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).

    Args:
        logits: One row, of vocabulary size; finite, or negative infinity for tokens that cannot follow.
        sampling: Temperature above 0 and top_p.
        generator: Draws exactly one number per token, so that a seed reproduces the answer.
    """
    # The largest logit is subtracted first, so that a small temperature does not overflow.
    logits = logits.double()
    scaled = (logits - logits.max()) / max(sampling.temperature, SMALLEST_TEMPERATURE)
    probabilities, tokens = torch.softmax(scaled, dim=-1).sort(descending=True, stable=True)
    mass = probabilities.cumsum(dim=-1)
    # A token is kept while the mass before it is below top_p; the most likely one always is, also where top_p is 0
    # in the precision of the probabilities.
    kept = max(1, int(((mass - probabilities) < sampling.top_p).sum()))
    point = torch.rand((), generator=generator, dtype=torch.float64) * mass[kept - 1]
    drawn = int(torch.searchsorted(mass[:kept], point, right=True))
    return int(tokens[min(drawn, kept - 1)])
