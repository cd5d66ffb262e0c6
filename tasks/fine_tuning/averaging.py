"""Exponential moving average of the trained weights (Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407).

After each step ``average = d * average + (1 - d) * weights`` with ``d = min(decay, (1 + step) / (10 + step))``, so that
the first averages do not hang on the weights before training. Good with a constant learning rate, and against the noise
of small batches. Validation, and what is left behind, are the averages; training goes on from the weights themselves.

Example: ``ema_decay: 0.99`` averages over about the last hundred steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class WeightAverage:
    """The averages of some weights, in fp32, which small steps need.

    Args:
        weights: The trained weights by name; what a model holds, not copies.
        decay: Share of the average that a step keeps, once training is under way.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor], decay: float) -> None:
        self.weights, self.decay = weights, decay
        self.averages = {name: tensor.detach().to(torch.float32, copy=True) for name, tensor in weights.items()}

    def update(self, step: int) -> None:
        """Take in the weights of a step.

        Args:
            step: Optimizer steps done.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, average in self.averages.items():
            average.lerp_(self.weights[name].float(), 1 - decay)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Have the averages in the model within this block."""
        own = {name: tensor.clone() for name, tensor in self.weights.items()}
        self.leave_in_model()
        try:
            yield
        finally:
            for name, tensor in own.items():
                self.weights[name].copy_(tensor)

    def leave_in_model(self) -> None:
        """Put the averages into the model for good."""
        for name, average in self.averages.items():
            self.weights[name].copy_(average)

    def save(self, file: Path) -> None:
        save_file(self.averages, file)

    def load(self, file: Path) -> None:
        for name, average in load_file(file).items():
            self.averages[name].copy_(average)


class AverageCallback(TrainerCallback):
    """Takes in the weights of every step, before anything looks at them or saves them.

    Args:
        trainer: The `FineTuner`, whose average there is once training begins.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer.average.update(state.global_step)
