"""Has a method's hooks called at each optimizer step, and only the weights of that step require gradients.

Between two steps all weights that are ever trained require gradients, so that checkpoints, averages and reports see
the same set of weights whenever they look.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.training.methods.hooks import STATE, StepHooks


class MethodSteps(TrainerCallback):
    """Calls the hooks of a run.

    Args:
        trainer: The `FineTuner`, whose optimizer there is once training begins.
        hooks: Of the plan's method.
    """

    def __init__(self, trainer: Any, hooks: StepHooks) -> None:
        self.trainer, self.hooks = trainer, hooks
        self.weights: dict[str, torch.Tensor] = {}  # those of which a step trains some

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step = state.global_step + 1
        trained = self.hooks.trained(step)
        if trained is not None:
            model = self.trainer.model
            self.weights = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
            if trained != self.hooks.trained(max(step - 1, 1)):
                self.trainer.forget_states([w for name, w in self.weights.items() if name not in trained])
            for name, weights in self.weights.items():
                weights.requires_grad_(name in trained)
        self.hooks.before(self.trainer.model, step)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.hooks.after(self.trainer.model, state.global_step + 1)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for weights in self.weights.values():
            weights.requires_grad_(True)

    def save(self, folder: Path) -> None:
        """Write the state of the method into a checkpoint, if it has any."""
        if self.hooks.keeps_state:
            state = self.hooks.state(self.trainer.model)
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / STATE)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        if self.hooks.keeps_state:
            self.hooks.load_state(self.trainer.model, load_file(folder / STATE))
