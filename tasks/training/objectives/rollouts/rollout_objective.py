"""What objectives that draw answers and have them rewarded answer alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tasks.language_models.long_rows import LongRows
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Reference, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.objectives.rollouts.experience import make_figures
from tasks.training.objectives.rollouts.guards import check_guards
from tasks.training.objectives.rollouts.params import Guards, Rollout
from tasks.training.objectives.rollouts.prompts import PROMPTS_LONGER, tokenize_prompts

if TYPE_CHECKING:
    from tasks.training.rows import TokenizedRows


class RolloutObjective(PlainObjective):
    """Prompts, the answers drawn to them, and the KL from the model before the first step."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=False, token_loss=False, generates=True, keeps_state=True, shared_weights=False
    )
    rows: ClassVar[RowKind] = "prompts"
    long_rows: ClassVar[tuple[LongRows, ...]] = PROMPTS_LONGER
    loss_tells: ClassVar[bool] = False
    rate_share: ClassVar[float] = 0.1

    rollout: Rollout = Rollout()
    kl_weight: float
    guards: Guards = Guards()

    @property
    def sequences(self) -> int:
        """Answers to each prompt, which are trained on at once."""
        return self.rollout.samples

    @property
    def loss_in(self) -> str:
        return "minus the mean reward"

    @property
    def reference(self) -> Reference:
        return "live" if self.kl_weight else "none"

    @property
    def longest_answer(self) -> int | None:
        return self.rollout.max_new_tokens

    def trained_tokens(self, tokens: int, items: int) -> int:
        return self.rollout.trained_tokens(tokens, items)

    def files(self) -> list[Path]:
        return self.rollout.files()

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        return tokenize_prompts(tables, how, self.rollout)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        """Minus the mean reward."""
        return ObjectiveLoss(-inputs["rewards"].sum(), make_figures(inputs))

    def next_state(self, state: Mapping[str, float], figures: Mapping[str, float]) -> Mapping[str, float]:
        return check_guards(self.guards, state, figures)
