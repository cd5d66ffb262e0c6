"""What objectives that train a reward model have alike: a head, released in a sequence classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.long_rows import LongRows
from tasks.training.objectives.answers import LONG_ROWS
from tasks.training.objectives.objective import ObjectiveCan, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.reward_models import REWARD_HEAD, add_reward_head, take_reward_head

if TYPE_CHECKING:
    import torch


class RewardObjective(PlainObjective):
    """A number for a text, instead of a text."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=True, token_loss=False, generates=False, shared_weights=False, keeps_state=False
    )
    long_rows: ClassVar[tuple[LongRows, ...]] = LONG_ROWS

    def own_weights(self, shape: ModelShape) -> int:
        return shape.hidden

    def extend(self, model: Any, seed: int) -> Any:
        return add_reward_head(model)

    def save(self, model: Any, folder: Path) -> list[Path]:
        return take_reward_head(model, folder)


def reward_states(scorer: Scorer) -> Callable[[torch.Tensor], torch.Tensor]:
    """For `Scorer.at_states`: the reward at each state, (positions, width) to (positions,), summed in fp32."""
    model: Any = getattr(scorer.model, "module", scorer.model)
    head = getattr(model, REWARD_HEAD)
    # Not as a matrix product, which autocast would compute in 16 bits: rewards differ in their last digits.
    return lambda states: (states.float() * head.weight[0].float()).sum(-1)
