"""Which params would make a plan smaller, and by how much; the plan keeps them for when memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.memory import Memory
from tasks.training.methods import METHODS
from tasks.training.quantization.nf4 import Nf4
from tasks.training.remedies import Remedy, choose_remedies
from tasks.training_setup.params import ResolvableSetup

SHORTEST = 64  # tokens of a row below which shorter rows are no advice

Predict = Callable[[ResolvableSetup, Precision, int], Memory]


def find_remedies(
    settings: ResolvableSetup, shape: ModelShape, machine: Machine, precision: Precision, batch: int, predict: Predict
) -> tuple[Remedy, ...]:
    """The changes that save most.

    Args:
        settings: Params of training setup.
        shape: The base model.
        machine: Where it will run.
        precision: Of the computation, resolved.
        batch: Rows of a forward pass, resolved.
        predict: Memory of one process with other params, precision and batch.
    """
    now = predict(settings, precision, batch).total

    def candidates() -> Iterator[Remedy]:
        for change, changed, taken, rows in _changes(settings, shape, machine, precision, batch):
            yield Remedy(change=change, saved_bytes=now - predict(changed, taken, rows).total)

    return choose_remedies(candidates())


def _changes(
    settings: ResolvableSetup, shape: ModelShape, machine: Machine, precision: Precision, batch: int
) -> Iterator[tuple[str, ResolvableSetup, Precision, int]]:
    """What to write, and the params, precision and batch that it makes."""

    def with_(**changes: object) -> ResolvableSetup:
        return settings.model_copy(update=changes)

    if batch > 1:
        yield f"batch_size: {batch // 2}", settings, precision, batch // 2
    if not settings.gradient_checkpointing:
        yield "gradient_checkpointing: true", with_(gradient_checkpointing=True), precision, batch
    if settings.max_tokens >= 2 * SHORTEST:
        half = settings.max_tokens // 2
        yield f"max_tokens: {half}", with_(max_tokens=half), precision, batch
    if precision == "fp32" and settings.precision != "fp32" and machine.bf16:
        yield "precision: bf16", with_(precision="bf16"), "bf16", batch
    if not settings.method.can.frozen_base:
        for method in (method() for method in METHODS if method.can.low_rank):
            if not method.problems(shape):
                yield f"method: {{name: {method.name}}}", with_(method=method), precision, batch
    elif settings.quantization.can.trained_base and not Nf4().problems(shape, True, precision, machine.device):
        yield "quantization: {name: nf4}", with_(quantization=Nf4()), precision, batch
