"""The arithmetic of policy gradients: advantages, importance ratios and their clipping, over tokens in one flat row.

Tokens of all answers of a batch stand one after another, shape (tokens,), and ``sequences`` says of each which answer
it is of. Formulas are pinned in the tests against TRL's trainers and worked examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Scale = Literal["group", "batch", "none"]
EPSILON = 1e-4  # added to a standard deviation, as TRL does


def group_advantages(rewards: torch.Tensor, samples: int, scale: Scale, deviation: float | None = None) -> torch.Tensor:
    """Rewards less the mean of the answers to the same prompt (GRPO, Shao et al. 2024, arXiv:2402.03300).

    Args:
        rewards: Of each answer, those to a prompt together, shape (prompts x samples,).
        samples: Answers to a prompt.
        scale: Divide by the standard deviation of the group, by that of the batch, or not at all, which does not weigh
            easy and hard prompts more (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783).
        deviation: That of the batch, over all processes; only with ``batch``.
    """
    grouped = rewards.view(-1, samples)
    centred = grouped - grouped.mean(dim=1, keepdim=True)
    if scale == "group":
        centred = centred / (grouped.std(dim=1, keepdim=True) + EPSILON)
    if scale == "batch":
        assert deviation is not None, "the deviation of the batch is needed"
        centred = centred / (deviation + EPSILON)
    return centred.flatten()


def leave_one_out_advantages(rewards: torch.Tensor, samples: int) -> torch.Tensor:
    """Rewards less the mean of the other answers to the same prompt (RLOO, Ahmadian et al. 2024, arXiv:2402.14740)."""
    grouped = rewards.view(-1, samples)
    others = (grouped.sum(dim=1, keepdim=True) - grouped) / (samples - 1)
    return (grouped - others).flatten()


def generalised_advantages(
    rewards: Sequence[torch.Tensor], values: Sequence[torch.Tensor], discount: float, trace: float
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Advantages and returns of each token (GAE, Schulman et al. 2015, arXiv:1506.02438).

    With d_t = r_t + discount V_{t+1} - V_t, where V after the last token is 0: A_t = d_t + discount trace A_{t+1}, and
    the return is A_t + V_t.

    Args:
        rewards: Of the tokens of each answer.
        values: What was expected before each of them.
        discount: Of the next token's value.
        trace: Lambda: 0 trusts the values, 1 the rewards.
    """
    import torch

    advantages = []
    for own_rewards, own_values in zip(rewards, values, strict=True):
        found = torch.zeros_like(own_rewards)
        following, next_value = 0.0, 0.0
        for place in range(len(own_rewards) - 1, -1, -1):
            difference = float(own_rewards[place]) + discount * next_value - float(own_values[place])
            following = difference + discount * trace * following
            next_value = float(own_values[place])
            found[place] = following
        advantages.append(found)
    return advantages, [a + v for a, v in zip(advantages, values, strict=True)]


def mean_of_sequences(values: torch.Tensor, sequences: torch.Tensor, count: int) -> torch.Tensor:
    """The mean over the tokens of each answer, shape (answers,)."""
    import torch

    sums = values.new_zeros(count).index_add(0, sequences, values)
    return sums / torch.bincount(sequences, minlength=count).clamp(min=1)


def clipped_terms(
    ratios: torch.Tensor, advantages: torch.Tensor, low: float, high: float, most: float | None = None
) -> torch.Tensor:
    """What is minimised: -min(ratio A, clip(ratio, 1 - low, 1 + high) A) (Schulman et al. 2017, arXiv:1707.06347).

    Args:
        ratios: Probability under the policy by that under the one that wrote the answer.
        advantages: Of the same shape.
        low: How far a ratio may fall.
        high: How far it may rise; more than ``low`` lets unlikely tokens grow (DAPO, Yu et al. 2025, arXiv:2503.14476).
        most: Largest ratio for tokens of a negative advantage too; None: no limit.
    """
    import torch

    clipped = ratios.clamp(1 - low, 1 + high) * advantages
    bounded = ratios if most is None else ratios.clamp(max=most)
    return -torch.min(bounded * advantages, clipped)


def clipped_share(ratios: torch.Tensor, advantages: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Which of them give no gradient since they have gone far enough, as 0 and 1."""
    return (((ratios < 1 - low) & (advantages < 0)) | ((ratios > 1 + high) & (advantages > 0))).float()


def estimate_kl(log_probabilities: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """KL of the policy from a reference for each token drawn from the policy, never negative and without bias: k3 of
    Schulman 2020, exp(d) - d - 1 with d = log reference - log policy."""
    difference = reference - log_probabilities
    return difference.exp() - difference - 1


def clipped_value_terms(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float | None
) -> torch.Tensor:
    """Half the squared error of values, of the worse of the value and itself within ``clip`` of the old one (PPO)."""
    import torch

    plain = (values - returns).square()
    if clip is None:
        return 0.5 * plain
    near = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.max(plain, (near - returns).square())


def adapt_kl_weight(weight: float, kl: float, target: float, gain: float) -> float:
    """The weight of the KL for the next rollout (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

    Args:
        weight: Of this rollout.
        kl: Found in it, nats per answer.
        target: What it should be.
        gain: Largest change, of which 0.2 is taken at most: 0.1 lets the weight change by 2%.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return weight * (1 + gain * error)


def overlong_penalty(tokens: int, most: int, margin: int) -> float:
    """0 for at most ``most`` - ``margin`` tokens, falling linearly to -1 at ``most`` (DAPO, equation 13)."""
    if tokens <= most - margin:
        return 0.0
    return (most - margin - tokens) / margin if tokens <= most else -1.0
