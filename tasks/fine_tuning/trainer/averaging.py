"""Exponential moving average of the trained weights (Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407).

After each step ``average = d * average + (1 - d) * weights`` with ``d = min(decay, (1 + step) / (10 + step))``, so that
the first averages do not hang on the weights before training. Good with a constant learning rate, and against the noise
of small batches. Validation, and what is left behind, are the averages; training goes on from the weights themselves.

Example: ``ema_decay: 0.99`` averages over about the last hundred steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.training.distribution.distribution import Distribution


class WeightAverage:
    """The averages of the trained weights, in fp32, which small steps need; each rank has those of its share.

    Args:
        distribution: How the weights are shared.
        model: What is trained.
        decay: Share of the average that a step keeps, once training is under way.
    """

    def __init__(self, distribution: Distribution, model: Any, decay: float) -> None:
        self.distribution, self.model, self.decay = distribution, model, decay
        self.names = {name for name, weights in model.named_parameters() if weights.requires_grad}
        own = distribution.own_share(model, self.names)
        self.averages = {name: tensor.detach().to(torch.float32, copy=True) for name, tensor in own.items()}

    def update(self, step: int) -> None:
        """Take in the weights of a step.

        Args:
            step: Optimizer steps done.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        own = self.distribution.own_share(self.model, self.names)
        for name, average in self.averages.items():
            average.lerp_(own[name].float(), 1 - decay)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Have the model compute with the averages within this block."""
        with self._in_share():
            self.distribution.spread(self.model, self.names)
            yield
        self.distribution.spread(self.model, self.names)

    @contextmanager
    def _in_share(self) -> Iterator[None]:
        own = {name: tensor.clone() for name, tensor in self.distribution.own_share(self.model, self.names).items()}
        self.distribution.put_share(self.model, self.averages)
        try:
            yield
        finally:
            self.distribution.put_share(self.model, own)

    def leave_in_model(self) -> None:
        """Put the averages into the model for good."""
        self.distribution.put_share(self.model, self.averages)
        self.distribution.spread(self.model, self.names)

    def save(self, file: Path) -> None:
        """Write them whole, as the first rank; the others take part."""
        with self._in_share():
            whole = self.distribution.gather(self.model)
            if whole:
                save_file(whole, file)

    def load(self, file: Path) -> None:
        for name, average in self.distribution.cut_share(self.model, load_file(file)).items():
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
