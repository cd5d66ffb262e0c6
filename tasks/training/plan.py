"""The training plan: everything resolved, nothing left to choose. Setup writes it, training obeys it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Device, Machine, find_machine
from tasks.contracts.manifest import read_json, read_manifest
from tasks.contracts.record import Record
from tasks.language_models.long_rows import LongRows
from tasks.training.choices import Packing, Precision
from tasks.training.distribution import AnyDistribution
from tasks.training.losses import AnyLoss
from tasks.training.methods import AnyMethod
from tasks.training.methods.method import figures_of
from tasks.training.mixture import Mixture
from tasks.training.objectives import AnyObjective
from tasks.training.objectives.supervised import Supervised
from tasks.training.optimizers import AnyOptimizer
from tasks.training.optimizers.groups import ParameterGroups
from tasks.training.quantization import AnyQuantization
from tasks.training.remedies import Remedy
from tasks.training.schedules import AnySchedule
from tasks.training.schedules.schedule import share_of_peak
from tasks.training.stopping import Divergence, EarlyStopping

NAME = "plan.json"


class Plan(Record):
    """A resolved training run.

    Attributes:
        method: What is trained, as params give it, resolved.
        objective: What the training is for, and so which rows it takes.
        mixture: How often rows of each task are drawn; None: each row once an epoch.
        loss: What is minimised over the supervised tokens, by an objective of single tokens.
        quantization: In how many bits the base is held, resolved.
        seed: Of initialisation, shuffling and dropout.
        learning_rate: Peak.
        schedule: What becomes of the learning rate after the warm-up.
        warmup_steps: Optimizer steps of linear warm-up.
        weight_decay: Decoupled, on weight matrices only.
        clip_norm: Largest norm of the gradient; 0 is off.
        optimizer: How the weights are updated, as params give it.
        parameter_groups: Weights that learn or decay otherwise than the rest.
        batch_size: Items of one forward pass of one process (packed rows with ``bfd``).
        accumulation_steps: Forward passes of one optimizer step.
        max_tokens: Length a sequence is cut to; a packed row holds as many tokens for each sequence of an item.
        long_rows: What becomes of longer conversations.
        packing: ``bfd`` fills rows with whole conversations, each in its own attention block.
        precision: Of the computation; ``bf16`` and ``fp16`` are autocast.
        neftune_alpha: Size of the noise on the embeddings; None: none.
        ema_decay: Of the moving average of the weights; None: none.
        on_nan: What a loss or gradient that is not a number does: stop the run, or skip the step.
        nan_limit: Steps that may be skipped for it.
        divergence: When a rising loss stops the run; None: never.
        early_stopping: When a validation loss that no longer falls ends the run; None: never.
        keep: Which step's weights the run leaves behind.
        gradient_checkpointing: Recompute activations in the backward pass.
        release_freed_memory: Give freed blocks back to the system at once.
        epochs: Passes over the training split that ``steps`` amounts to.
        steps: Optimizer steps of the whole run; training runs exactly these.
        threads: CPU threads of one process.
        world_size: Processes on all machines.
        distribution: How they share the work.
        device: Where the model is trained.
        checkpoint_every_steps: Optimizer steps between checkpoints.
        evaluate_every_steps: Optimizer steps between validation losses.
        log_every_steps: Optimizer steps between logged training losses.
        examples: Conversations of the training split that carry supervised tokens.
        rows: Rows of an epoch, after packing.
        tokens: Tokens of an epoch, after the cut to ``max_tokens``.
        supervised_tokens: Those of them that carry loss.
        steps_per_epoch: Optimizer steps of one epoch.
        trainable_parameters: Weights that get gradients.
        predicted_memory_bytes: Peak of one process.
        remedies: Changes of params that would save most of it.
        auto_batch: The batch was chosen for the memory; where it runs out, half of it is tried once.
        batch_halved: That happened.
        made_for: The machine the plan was resolved on.
        before: Plan of the training that this one goes on from; None for one that begins at the base.
    """

    method: AnyMethod
    objective: AnyObjective = Supervised()
    mixture: Mixture | None = None
    loss: AnyLoss
    quantization: AnyQuantization
    seed: int
    learning_rate: float
    schedule: AnySchedule
    warmup_steps: int
    weight_decay: float
    clip_norm: float
    optimizer: AnyOptimizer
    parameter_groups: ParameterGroups
    batch_size: int
    accumulation_steps: int
    max_tokens: int
    long_rows: LongRows
    packing: Packing
    precision: Precision
    neftune_alpha: float | None
    ema_decay: float | None
    on_nan: Literal["stop", "skip"]
    nan_limit: int
    divergence: Divergence | None
    early_stopping: EarlyStopping | None
    keep: Literal["last", "best"]
    gradient_checkpointing: bool
    release_freed_memory: bool
    epochs: float
    steps: int
    threads: int
    world_size: int
    distribution: AnyDistribution
    device: Device
    checkpoint_every_steps: int
    evaluate_every_steps: int
    log_every_steps: int
    examples: int
    rows: int
    tokens: int
    supervised_tokens: int
    steps_per_epoch: int
    trainable_parameters: int
    predicted_memory_bytes: int
    remedies: tuple[Remedy, ...] = ()
    auto_batch: bool = False
    batch_halved: bool = False
    made_for: Machine
    before: Plan | None = None

    @property
    def phases(self) -> list[Plan]:
        """The plans of all trainings of the run, in their order."""
        return [*(self.before.phases if self.before else ()), self]

    @property
    def figures(self) -> Mapping[str, str]:
        """Name to meaning of what the objective and the method measure while it trains."""
        return {**self.objective.figures, **figures_of(self.method)}

    @property
    def all_steps(self) -> int:
        """Optimizer steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def row_tokens(self) -> int:
        """Capacity of a packed row."""
        return self.max_tokens * self.objective.sequences

    @property
    def saves_validated(self) -> bool:
        """Whether a step may be saved for its validation loss."""
        return self.keep == "best" or self.early_stopping is not None

    def is_saved(self, step: int) -> bool:
        """Whether a checkpoint follows so many optimizer steps, whatever their validation loss."""
        return step >= self.steps or step % self.checkpoint_every_steps == 0

    def epochs_of(self, steps: int) -> float:
        """Passes over the training split that so many of the steps amount to."""
        return round(self.epochs * steps / self.steps, 6)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of optimizer step ``step``, counted from 0."""
        return self.learning_rate * share_of_peak(self.schedule, self.warmup_steps, self.steps, step)


def load_plan(folder: Path) -> Plan:
    """Read the plan from a complete plan folder.

    Raises:
        PipelineError: The folder is not complete, or the plan is of another version.
    """
    read_manifest(folder, verify=True)
    try:
        return Plan.model_validate(read_json(folder / NAME))
    except ValidationError as error:
        keys = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors())
        raise PipelineError(f"{folder / NAME}: does not fit this version ({keys}); run training_setup again") from error


def check_machine(plan: Plan, machine: Machine | None = None) -> list[str]:
    """Why a plan cannot run here; empty when it can.

    Args:
        plan: The plan to run.
        machine: The machine to hold it against; the one this process runs on by default.
    """
    here = machine or find_machine()
    again = "run `dvc repro -f training_setup` on this machine"
    problems = []
    if plan.device != here.device:
        problems.append(f"the plan is for {plan.device}, this machine offers {here.device}; {again}")
        return problems
    processes = plan.world_size // plan.distribution.nodes
    if plan.device == "cuda" and processes > here.accelerators:
        problems.append(f"the plan takes {processes} accelerators, this machine has {here.accelerators}; {again}")
    if plan.device == "cpu" and plan.threads * processes > here.cores:
        problems.append(
            f"the plan takes {plan.threads * processes} CPU threads, this process may use {here.cores} cores; {again}"
        )
    if plan.precision == "bf16" and not here.bf16:
        problems.append(f"the plan computes in bf16, which {here.accelerator or 'this CPU'} lacks; {again}")
    shared = processes if plan.device == "cpu" else 1
    if plan.predicted_memory_bytes * shared > here.training_memory_bytes:
        problems.append(
            f"the plan needs about {plan.predicted_memory_bytes * shared / 2**30:.1f} GiB, this machine has "
            f"{here.training_memory_bytes / 2**30:.1f} GiB; {again}"
        )
    return problems + plan.distribution.missing_here()
