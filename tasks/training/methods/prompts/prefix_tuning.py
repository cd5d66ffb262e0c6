"""Prefix tuning: trained keys and values before those of every row, in each block (Li and Liang 2021,
arXiv:2101.00190).

Good for what prompt tuning is good for, on smaller bases too: it reaches every block. Its keys and values lie in the
cache where recomputed activations would not find them, so gradient checkpointing is refused.

Example: ``method: {name: prefix_tuning, virtual_tokens: 20}`` with ``learning_rate: 1.0e-2`` and ``packing: none``. A
base of 6 blocks with keys 320 wide trains 20 x 6 x 2 x 320 = 76,800 weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.method import Can, Rates
from tasks.training.methods.prompts.prompt import USUAL, PromptMethod


class PrefixTuning(PromptMethod):
    """Train keys and values before those of every row."""

    can: ClassVar[Can] = replace(USUAL, checkpointing=False)
    title: ClassVar[str] = "prefix tuning"
    rates: ClassVar[Rates] = (5e-4, 1e-1)

    name: Literal["prefix_tuning"] = "prefix_tuning"
    start: Literal["random", "zero"] = Field(default="random", description="first values")

    def trainable(self, shape: ModelShape) -> int:
        return self.virtual_tokens * shape.layers * 2 * shape.key_value_width

    def config(self) -> Any:
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.virtual_tokens,
            init_weights="zero" if self.start == "zero" else None,
        )
