"""What a plan asks of its optimizer, for the optimizer's own checks."""

from __future__ import annotations

from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.optimizers.optimizer import OptimizerUse
from tasks.training.weights import list_trained_weights
from tasks.training_setup.params import ResolvableSetup


def describe_optimizer_use(
    settings: ResolvableSetup, shape: ModelShape, machine: Machine, precision: Precision, accumulation_steps: int
) -> OptimizerUse:
    """The facts of a plan that an optimizer may be unable to live with."""
    return OptimizerUse(
        trained=list_trained_weights(settings.method, shape),
        frozen_base=settings.method.can.frozen_base,
        device=machine.device,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule.name,
        accumulation_steps=accumulation_steps,
        clip_norm=settings.clip_norm,
        precision=precision,
        averaged=settings.ema_decay is not None,
    )
