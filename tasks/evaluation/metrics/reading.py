"""What of a model a metric reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np

    from tasks.evaluation.outcomes import Outcome
    from tasks.evaluation.rewarding.scores import RewardScores

# The answers to prompts; how likely references and documents are; the vectors of texts; the rewards of references.
Reading = Literal["answers", "references", "vectors", "rewards"]


def require_ranks(outcome: Outcome) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The ranks of the right texts.

    Raises:
        PipelineError: The model was not asked for vectors.
    """
    if outcome.ranks is None:
        raise PipelineError(
            f"{outcome.model}: has no ranks of texts; remove recall_at and reciprocal_rank from metrics"
        )
    return outcome.ranks


def require_rewards(outcome: Outcome) -> RewardScores:
    """What the model gave the references.

    Raises:
        PipelineError: The model was not asked for rewards.
    """
    if outcome.rewards is None:
        raise PipelineError(
            f"{outcome.model}: has no rewards of texts; remove reward_accuracy, reward_calibration and step_accuracy "
            "from metrics"
        )
    return outcome.rewards
