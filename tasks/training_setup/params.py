"""Params of training setup."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from tasks.contracts.params import Section
from tasks.language_models.long_rows import LongRows
from tasks.training.choices import Packing
from tasks.training.distribution import AnyDistribution, distributions_where
from tasks.training.distribution.single import Single
from tasks.training.interval import Interval
from tasks.training.losses import AnyLoss
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.methods import AnyMethod
from tasks.training.methods.lora import Lora
from tasks.training.mixture import Mixture
from tasks.training.objectives import AnyObjective, objectives_where
from tasks.training.objectives.supervised import Supervised
from tasks.training.optimizers import EARLIER_NAMES, AnyOptimizer
from tasks.training.optimizers.adamw import AdamW
from tasks.training.optimizers.groups import ParameterGroups
from tasks.training.quantization import AnyQuantization, quantizations_where
from tasks.training.quantization.none import Unquantized
from tasks.training.schedules import AnySchedule
from tasks.training.schedules.cosine import Cosine
from tasks.training.stopping import Divergence, EarlyStopping
from tasks.training_setup.auto import Auto

# What a phase may change. Method, base, quantisation and processes are those of the whole run.
CHANGEABLE = frozenset(
    {
        "accumulation_steps",
        "batch_size",
        "checkpoint_every",
        "clip_norm",
        "divergence",
        "early_stopping",
        "ema_decay",
        "epochs",
        "evaluate_every",
        "global_batch_size",
        "keep",
        "learning_rate",
        "log_every_steps",
        "long_rows",
        "loss",
        "max_steps",
        "max_tokens",
        "mixture",
        "neftune_alpha",
        "objective",
        "optimizer",
        "packing",
        "parameter_groups",
        "schedule",
        "seed",
        "warmup_share",
        "weight_decay",
    }
)
Count = Annotated[int, Field(ge=1)]


class TrainingSetup(Section):
    """What to train, how long and how, before it is resolved for a machine."""

    method: Annotated[AnyMethod | Auto, Field(discriminator="name")] = Field(
        default=Lora(),
        description="what is trained; docs/reference/methods.md has what each can; auto: what fits the memory",
    )
    objective: AnyObjective = Field(
        default=Supervised(), description=f"what the training is for: {' or '.join(objectives_where())}"
    )
    mixture: Mixture | None = Field(
        default=None,
        description="rows drawn by source or label, {by: source, temperature: 2}; null: each once an epoch",
    )
    loss: AnyLoss = Field(default=CrossEntropy(), description="what is minimised over the answers' tokens")
    quantization: AnyQuantization = Field(
        default=Unquantized(), description=f"bits of a frozen base's weights: {' or '.join(quantizations_where())}"
    )
    learning_rate: float = Field(default=2.0e-3, gt=0, description="peak learning rate")
    schedule: AnySchedule = Field(default=Cosine(), description="the learning rate after the warm-up")
    warmup_share: float = Field(default=0.05, ge=0, lt=1, description="share of the steps with a rising learning rate")
    weight_decay: float = Field(default=0.0, ge=0, description="pull of matrices and embeddings towards zero")
    clip_norm: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0 is off")
    optimizer: AnyOptimizer = Field(default=AdamW(), description="how the weights are updated")
    parameter_groups: ParameterGroups = Field(
        default=ParameterGroups(), description="weights that learn or decay otherwise than the rest"
    )
    batch_size: Count | Literal["auto"] = Field(default="auto", description="rows of one forward pass of one process")
    accumulation_steps: Count | Literal["auto"] = Field(default="auto", description="forward passes per optimizer step")
    global_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="rows per optimizer step over all processes; null: batch x accumulation x processes",
    )
    max_tokens: int = Field(
        default=512, ge=8, description="tokens a conversation is cut to, or a packed row is filled to"
    )
    long_rows: LongRows = Field(
        default="truncate_right",
        description="longer conversations: cut at the end, at the beginning or in the middle, drop, or split into rows",
    )
    packing: Packing = Field(default="bfd", description="bfd: several whole conversations per row; none: one per row")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto",
        description="auto: bf16 where the hardware has it, else fp16 with a scaled loss on a GPU and fp32 on a CPU",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="recompute activations: less memory, about 25% slower"
    )
    epochs: float = Field(default=3.0, gt=0, description="passes over the training split")
    max_steps: int | None = Field(
        default=None, ge=1, description="stop after so many optimizer steps; null: epochs decide"
    )
    seed: int = Field(default=17, ge=0, description="of initialisation, shuffling and dropout")
    processes: int = Field(default=1, ge=1, description="training processes of a machine; one per accelerator")
    distribution: AnyDistribution = Field(
        default=Single(), description=f"how processes share the work: {', '.join(distributions_where())}"
    )
    threads: Count | Literal["auto"] = Field(default="auto", description="CPU threads of one process")
    memory_limit_gib: float | None = Field(
        default=None, gt=0, description="refuse plans above it; null: what the machine has"
    )
    release_freed_memory: bool = Field(
        default=False,
        description="give freed blocks back to the system at once (CPU): a lower peak, as predicted; up to 70% slower",
    )
    checkpoint_every: Interval = Field(
        default=Interval(steps=200), description="between checkpoints: {steps: 200} or {epochs: 1}"
    )
    evaluate_every: Interval = Field(
        default=Interval(steps=100), description="between validation losses: {steps: 100} or {epochs: 0.25}"
    )
    log_every_steps: int = Field(default=10, ge=1, description="optimizer steps between logged training losses")

    phases: tuple[dict[str, Any], ...] = Field(
        default=(),
        description="several trainings in one run, each from what the one before trained: the keys that each changes",
    )

    neftune_alpha: float | None = Field(
        default=None, gt=0, description="size of the noise on the embeddings while training, 5 to 15; null: none"
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="validate and keep a moving average of the weights, 0.99 over about 100 steps; null: none",
    )
    early_stopping: EarlyStopping | None = Field(
        default=None, description="end when the validation loss no longer falls: {patience: 3}; null: never"
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="weights that are left behind: those of the last step, or of the best validation loss",
    )
    divergence: Divergence | None = Field(
        default=Divergence(), description="stop when the loss rises far above its best and stays there; null: never"
    )
    on_nan: Literal["stop", "skip"] = Field(
        default="stop", description="a loss or gradient that is not a number stops the run, or its step is skipped"
    )
    nan_limit: int = Field(default=10, ge=1, description="steps that on_nan: skip may skip")

    def each_phase(self) -> list[TrainingSetup]:
        """The params of each training of the run, without phases."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"phases"}}
        return [TrainingSetup.model_validate({**given, **phase}) for phase in self.phases] or [self]

    @model_validator(mode="after")
    def _phases_are_valid(self) -> Self:
        for number, phase in enumerate(self.phases, start=1):
            if unknown := sorted(phase.keys() - CHANGEABLE):
                raise ValueError(
                    f"phases: phase {number} changes {', '.join(unknown)}, which holds for the whole run or is no key; "
                    f"a phase may change {', '.join(sorted(CHANGEABLE))}"
                )
        try:
            self.each_phase()
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ValueError(f"phases: {told}") from error
        return self

    @field_validator("objective", mode="before")
    @classmethod
    def _explain_bare_name(cls, value: Any) -> Any:
        if isinstance(value, str) and value in objectives_where():
            raise ValueError(f'found "{value}"; expected keys with values: write {{name: {value}}}')
        return value

    @field_validator("optimizer", mode="before")
    @classmethod
    def _explain_earlier_name(cls, value: Any) -> Any:
        if isinstance(value, str) and value in EARLIER_NAMES:
            raise ValueError(f'found "{value}"; expected keys with values: write {EARLIER_NAMES[value]}')
        return value


class ResolvableSetup(TrainingSetup):
    """The same once ``auto`` has taken a method."""

    method: AnyMethod = Lora()
