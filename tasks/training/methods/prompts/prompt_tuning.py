"""Prompt tuning: trained vectors before every row, where the embeddings of a prompt would stand (Lester et al. 2021,
arXiv:2104.08691).

Good for very many small tasks on one large base; below some billion weights it learns less than LoRA. The vectors begin
at embeddings of tokens drawn at random, which learn faster than random numbers.

Example: ``method: {name: prompt_tuning, virtual_tokens: 20}`` with ``learning_rate: 3.0e-2`` and ``packing: none``. A
base of 320 trains 20 x 320 = 6,400 weights.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.prompts.prompt import PromptMethod


class PromptTuning(PromptMethod):
    """Train vectors in the place of a prompt."""

    title: ClassVar[str] = "prompt tuning"

    name: Literal["prompt_tuning"] = "prompt_tuning"
    start: Literal["tokens", "random"] = Field(
        default="tokens", description="first values: embeddings of tokens drawn by chance, or random numbers"
    )

    def trainable(self, shape: ModelShape) -> int:
        return self.virtual_tokens * shape.hidden

    def config(self) -> Any:
        from peft import PromptTuningConfig

        start = {"tokens": "SAMPLE_VOCAB", "random": "RANDOM"}[self.start]
        return PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=self.virtual_tokens, prompt_tuning_init=start
        )
