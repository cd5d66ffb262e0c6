"""What objectives that draw answers and have them rewarded answer alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.training.objectives.data import SplitTables, Tokenization
from tasks.training.objectives.objective import Reference
from tasks.training.objectives.plain import PlainObjective
from tasks.training.objectives.rollouts.params import Guards, Rollout

if TYPE_CHECKING:
    from tasks.training.rows import TokenizedRows


class RolloutObjective(PlainObjective):
    """Prompts, the answers drawn to them, and the KL from the model before the first step."""

    rollout: Rollout = Rollout()
    kl_weight: float
    guards: Guards = Guards()

    @property
    def sequences(self) -> int:
        """Answers to each prompt, which are trained on at once."""
        return self.rollout.samples

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
        from tasks.training.objectives.rollouts.prompts import tokenize_prompts

        return tokenize_prompts(tables, how, self.rollout)
