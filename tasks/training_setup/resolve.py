"""Resolve the params for this model, data and machine; refuse what cannot work, all reasons at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks.contracts.errors import raise_all
from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.long_rows import OUTCOMES
from tasks.pages.text import plural
from tasks.training.choices import Precision
from tasks.training.combinations import CHOICES, list_conflicts
from tasks.training.distribution.distribution import Layout
from tasks.training.memory import Memory
from tasks.training.methods.method import count_virtual_tokens
from tasks.training.objectives.data import NOUNS
from tasks.training.optimizers.refusals import list_problems
from tasks.training.packing import count_packed_rows
from tasks.training.plan import Plan
from tasks.training.rates import tell_unusual_rate
from tasks.training.remedies import Remedy, describe_remedies
from tasks.training.rows import ANSWER_CUT, TOO_LONG
from tasks.training.weights import list_trained_at_once
from tasks.training_setup.batch import USABLE_MEMORY_SHARE, choose_batch
from tasks.training_setup.choose import Trial, choose_setup, explain_automatic
from tasks.training_setup.counts import Counts
from tasks.training_setup.memory import find_peak, list_moments
from tasks.training_setup.objective_fit import list_unfit
from tasks.training_setup.optimizer_use import describe_optimizer_use
from tasks.training_setup.params import ResolvableSetup, TrainingSetup
from tasks.training_setup.remedies import find_remedies

logger = logging.getLogger(__name__)

FEW_STEPS = 20
FEW_VALIDATED = 8


@dataclass(frozen=True)
class Resolution:
    """A plan with what led to it.

    Attributes:
        plan: The plan.
        memory: Of one process, in parts.
        warnings: What works, but is probably not meant.
        choices: What was left to choose, what was taken and why.
    """

    plan: Plan
    memory: Memory
    warnings: tuple[str, ...]
    choices: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, float | int]:
        return {"steps": self.plan.steps, "batch_size": self.plan.batch_size, **self.memory.figures}


def resolve_plan(params: TrainingSetup, shape: ModelShape, counts: Counts, machine: Machine) -> Resolution:
    """Make the plan.

    Args:
        params: Params of training setup.
        shape: The base model.
        counts: Tokens of the splits.
        machine: Where it will run.

    Raises:
        PipelineError: Everything that cannot work, listed.
    """

    def judge(candidate: ResolvableSetup) -> Trial:
        return _judge(candidate, shape, counts, machine)

    settings, choices = choose_setup(params, shape, machine, judge)
    precision = _precision(settings, machine)
    limit = _memory_limit(settings, machine)
    rows = counts.examples
    if settings.packing == "bfd":
        rows = count_packed_rows(
            counts.first_epoch or counts.lengths, settings.max_tokens * settings.objective.sequences
        )

    def needs(batch: int) -> int:
        return _memory(settings, shape, counts, machine, precision, batch).total

    batch, accumulation, problems = choose_batch(settings, counts, machine, rows, needs, limit)
    problems = _impossible(settings, shape, counts, machine) + problems
    use = describe_optimizer_use(settings, shape, machine, precision, accumulation)
    problems += list_problems(settings.optimizer, use) + settings.parameter_groups.problems(settings.method)
    memory = _memory(settings, shape, counts, machine, precision, batch)
    remedies = find_remedies(
        settings,
        shape,
        machine,
        precision,
        batch,
        lambda changed, taken, size: _memory(changed, shape, counts, machine, taken, size),
    )
    problems += _too_large(settings, memory, remedies, limit, machine)
    raise_all(problems, "the training plan cannot work")

    ranks = _ranks(settings)
    batches, batches_per_step = math.ceil(rows / batch), accumulation * ranks
    wanted = count_steps(settings.epochs, rows, batch, batches_per_step)
    steps = wanted if settings.max_steps is None else min(wanted, settings.max_steps)
    plan = Plan(
        method=settings.method.resolve(shape),
        objective=settings.objective,
        mixture=settings.mixture,
        loss=settings.loss,
        quantization=settings.quantization.resolve(settings.method.can.frozen_base, precision),
        seed=settings.seed,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        # A warm-up begins at a rate of 0: a run that is all warm-up never has the peak,
        # and one of a single step trains nothing.
        warmup_steps=min(math.ceil(settings.warmup_share * steps), steps - 1),
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        optimizer=settings.optimizer,
        parameter_groups=settings.parameter_groups,
        batch_size=batch,
        accumulation_steps=accumulation,
        max_tokens=settings.max_tokens,
        long_rows=settings.long_rows,
        packing=settings.packing,
        precision=precision,
        gradient_checkpointing=settings.gradient_checkpointing,
        release_freed_memory=settings.release_freed_memory,
        epochs=round(steps * batches_per_step / batches, 6),
        steps=steps,
        threads=_threads(settings, machine),
        world_size=ranks,
        distribution=settings.distribution.resolve(
            shape, Layout(ranks, batch, accumulation, settings.clip_norm, precision, machine.device)
        ),
        device=machine.device,
        neftune_alpha=settings.neftune_alpha,
        ema_decay=settings.ema_decay,
        on_nan=settings.on_nan,
        nan_limit=settings.nan_limit,
        # With rewards the loss says little; the objective's own guards watch over them.
        divergence=None if settings.objective.can.generates else settings.divergence,
        early_stopping=settings.early_stopping,
        keep=settings.keep,
        checkpoint_every_steps=settings.checkpoint_every.in_steps(batches / batches_per_step),
        evaluate_every_steps=settings.evaluate_every.in_steps(batches / batches_per_step),
        log_every_steps=settings.log_every_steps,
        examples=counts.examples,
        rows=rows,
        tokens=settings.objective.trained_tokens(counts.tokens, counts.examples),
        supervised_tokens=counts.supervised_tokens,
        steps_per_epoch=count_steps(1, rows, batch, batches_per_step),
        trainable_parameters=settings.method.trainable(shape) + settings.objective.own_weights(shape),
        predicted_memory_bytes=memory.total,
        remedies=remedies,
        auto_batch=settings.batch_size == "auto",
        made_for=machine,
    )
    warnings = _unusual(plan, shape, counts, machine, _find_more_steps(settings, steps, wanted))
    warnings += settings.optimizer.unusual(use)
    for choice in choices:
        logger.info(choice)
    for warning in warnings:
        logger.warning(warning)
    choices += explain_automatic(settings, plan)
    return Resolution(plan, memory, tuple(warnings), tuple(choices))


def _judge(settings: ResolvableSetup, shape: ModelShape, counts: Counts, machine: Machine) -> Trial:
    """What a candidate would take with its smallest batch, and why it would be refused, memory and batch apart."""
    precision, limit = _precision(settings, machine), _memory_limit(settings, machine)
    problems = _impossible(settings, shape, counts, machine)
    problems += list_problems(settings.optimizer, describe_optimizer_use(settings, shape, machine, precision, 1))
    batch = settings.batch_size if isinstance(settings.batch_size, int) else 1
    memory = _memory(settings, shape, counts, machine, precision, batch)
    return Trial(memory.total, round(USABLE_MEMORY_SHARE * limit), problems)


def count_steps(epochs: float, rows: int, batch_size: int, batches_per_step: int) -> int:
    """Optimizer steps that see every row ``epochs`` times.

    Batches follow each other over the ends of epochs; the last batch of an epoch may be smaller.

    Args:
        epochs: Passes over the rows.
        rows: Rows of an epoch, after packing.
        batch_size: Rows of a batch.
        batches_per_step: Accumulation steps times processes.
    """
    return max(1, math.ceil(epochs * math.ceil(rows / batch_size) / batches_per_step))


def _ranks(settings: ResolvableSetup) -> int:
    return settings.distribution.ranks(settings.processes)


def _precision(settings: ResolvableSetup, machine: Machine) -> Precision:
    if settings.precision == "auto":
        if machine.bf16:
            return "bf16"
        return "fp16" if machine.device == "cuda" else "fp32"
    return settings.precision


def _threads(settings: ResolvableSetup, machine: Machine) -> int:
    return max(1, machine.cores // settings.processes) if settings.threads == "auto" else settings.threads


def _memory_limit(settings: ResolvableSetup, machine: Machine) -> int:
    """Bytes that one process may take."""
    available = machine.training_memory_bytes
    if machine.device == "cpu":
        available //= settings.processes
    return min(available, round((settings.memory_limit_gib or 1 << 30) * 2**30))


def _memory(
    settings: ResolvableSetup, shape: ModelShape, counts: Counts, machine: Machine, precision: Precision, batch: int
) -> Memory:
    objective, packed = settings.objective, settings.packing == "bfd"
    moments = list_moments(
        shape,
        settings.method,
        settings.quantization.resolve(settings.method.can.frozen_base, precision),
        batch_size=batch if packed else batch * objective.sequences,
        max_tokens=(settings.max_tokens + count_virtual_tokens(settings.method))
        * (objective.sequences if packed else 1),
        packed=packed,
        supervised_share=1.0 if objective.can.generates else counts.supervised_tokens / max(counts.tokens, 1),
        precision=precision,
        optimizer=settings.optimizer,
        gradient_checkpointing=settings.gradient_checkpointing,
        device=machine.device,
        accumulates=_may_accumulate(settings),
        release_freed=settings.release_freed_memory,
    )
    moments = {name: _pass_more(moment, objective.own_passes) for name, moment in moments.items()}
    # What processes share is taken off a moment at which all of it is there.
    alone = moments["backward"] if settings.distribution.can.many else find_peak(moments)
    if settings.distribution.can.many:
        # What is sent has room for the gradients of all weights that are ever trained.
        seldom = settings.method.trainable(shape) - list_trained_at_once(settings.method, shape).total
        alone = replace(alone, communication=alone.communication + 4 * seldom)
    if settings.ema_decay is not None:
        alone = replace(alone, optimizer=alone.optimizer + 4 * settings.method.trainable(shape))
    # Modules of its own have weights, gradients and at most two moments; a reference is a copy of all that is trained.
    own = objective.own_weights(shape)
    beside = 16 * own + (4 * (settings.method.trainable(shape) + own) if objective.reference == "live" else 0)
    alone = replace(alone, weights=alone.weights + beside + objective.held_bytes())
    return settings.distribution.per_rank(alone, shape, _ranks(settings), precision)


def _pass_more(moment: Memory, passes: int) -> Memory:
    """The same where a batch goes through as many further models, whose activations are kept too."""
    kept = (1 + passes) * moment.activations
    return replace(moment, activations=kept, fragmentation=(1 + passes) * moment.fragmentation)


def _may_accumulate(settings: ResolvableSetup) -> bool:
    """Whether gradients may stay from pass to pass; what is shared among processes counts as if they did."""
    given = settings.accumulation_steps
    alone = given == 1 or (given == "auto" and settings.global_batch_size is None)
    return not alone or settings.optimizer.can.full_batch or settings.distribution.can.many


def _impossible(settings: ResolvableSetup, shape: ModelShape, counts: Counts, machine: Machine) -> list[str]:
    """Everything that cannot work, the fit into memory aside."""
    problems = list_conflicts({kind: getattr(settings, kind) for kind in CHOICES}) + settings.method.problems(shape)
    if settings.method.can.frozen_base or settings.quantization.can.trained_base:
        precision = _precision(settings, machine)
        problems += settings.quantization.problems(shape, settings.method.can.frozen_base, precision, machine.device)
    problems += settings.objective.problems(shape) + list_unfit(settings, counts)
    if settings.mixture is not None:
        problems += settings.mixture.problems(counts.tasks)
    problems += settings.distribution.problems(settings.processes, machine.device)
    problems += settings.schedule.problems(settings.warmup_share)
    virtual = count_virtual_tokens(settings.method)
    if shape.context and settings.max_tokens + virtual > shape.context > virtual:
        found = f"{settings.max_tokens} and the method's {virtual} virtual tokens are" if virtual else None
        problems.append(
            f"max_tokens: {found or f'{settings.max_tokens} is'} more than the model's context ({shape.context}); "
            f"set max_tokens: {shape.context - virtual} or take a base with more context"
        )
    if settings.packing == "bfd" and not shape.isolates_packed:
        problems.append(
            "packing: bfd would let this model see one conversation from another (it has recurrent layers or takes "
            "no position ids); set packing: none"
        )
    if settings.precision == "bf16" and machine.device == "cuda" and not machine.bf16:
        problems.append(f"precision: bf16, which {machine.accelerator} lacks; set precision: fp16")
    if settings.precision == "fp16" and machine.device == "cpu":
        problems.append("precision: fp16, which a CPU does not train in; set precision: bf16 or fp32")
    if machine.device == "cuda" and settings.processes > machine.accelerators:
        problems.append(
            f"processes: {settings.processes}, but this machine has {machine.accelerators} accelerators; "
            f"set processes: {machine.accelerators}"
        )
    if settings.neftune_alpha is not None and not settings.optimizer.can.needs_backward:
        problems.append(
            f"neftune_alpha: its noise hides what optimizer {settings.optimizer.name} measures between two forward "
            "passes; leave it out"
        )
    if settings.keep == "best" and not settings.distribution.reads_back:
        problems.append(
            "keep: best reads a checkpoint back, which DeepSpeed does not do whole for a run on NVMe; set keep: last, "
            "or cpu instead of nvme"
        )
    if not counts.validation_examples:
        problems += [
            f"{key}: needs a validation loss, and the validation split has no supervised token; raise "
            "data_preparation.split.validation or leave it out"
            for key, is_set in (("early_stopping", settings.early_stopping), ("keep: best", settings.keep == "best"))
            if is_set
        ]
    threads = _threads(settings, machine) * settings.processes
    if threads > machine.cores:
        problems.append(
            f"threads x processes: {threads}, but this process may use {machine.cores} cores; "
            f"set threads: {max(1, machine.cores // settings.processes)} and at most {machine.cores} processes"
        )
    return problems


def _too_large(
    settings: ResolvableSetup, memory: Memory, remedies: Sequence[Remedy], limit: int, machine: Machine
) -> list[str]:
    if memory.total <= limit:
        return []
    per_process = " for each process" if settings.processes > 1 else ""
    limited_by = "memory_limit_gib allows" if settings.memory_limit_gib else f"this machine's {machine.device} has"
    return [
        f"memory: about {memory.total / 2**30:.1f} GiB needed, {limited_by} {limit / 2**30:.1f} GiB{per_process}; "
        f"{describe_remedies(remedies)}"
    ]


def _find_more_steps(settings: ResolvableSetup, steps: int, wanted: int) -> str:
    """Which params make a run longer.

    Args:
        settings: Params of training setup.
        steps: Steps of the run.
        wanted: Steps that ``epochs`` asks for.
    """
    if steps < wanted:
        return "raise max_steps"
    # A step over all rows has no batch to lower.
    return "raise epochs" if settings.optimizer.can.full_batch else "raise epochs or lower the batch"


def _unusual(plan: Plan, shape: ModelShape, counts: Counts, machine: Machine, more_steps: str) -> list[str]:
    """What works, but is probably not meant."""
    warnings, rows = [], f"{counts.rows:,} {NOUNS[plan.objective.rows][1]}"
    for reason, count in counts.dropped.items():
        way_out = "; raise max_tokens or choose another long_rows" if reason in (ANSWER_CUT, TOO_LONG) else ""
        warnings.append(f"{count:,} of {rows} do not train: {reason}{way_out}")
    if counts.cut:
        warnings.append(
            f"{counts.cut:,} of {rows} are longer than {plan.max_tokens} tokens and "
            f"{OUTCOMES[plan.long_rows]}; raise max_tokens or choose another long_rows"
        )
    if not counts.validation_examples:
        warnings.append("the validation split has no supervised token, so no validation loss will be seen")
    elif counts.validation_examples < FEW_VALIDATED:
        found = plural(counts.validation_examples, *NOUNS[plan.objective.rows])
        warnings.append(
            f"the validation loss is that of {found} alone, which tells little; raise data_preparation.split.validation"
            + (" or max_tokens" if counts.dropped else "")
        )
    if plan.device == "cpu" and plan.precision == "bf16" and not machine.bf16:
        warnings.append("this CPU computes bf16 in software, which is slow; set precision: fp32")
    processes = plan.world_size // plan.distribution.nodes
    if plan.device == "cuda" and machine.accelerators > processes:
        warnings.append(
            f"this machine has {machine.accelerators} accelerators, the plan uses {processes}; set processes and "
            "distribution"
        )
    warnings += plan.method.unusual(shape)
    warnings += tell_unusual_rate(plan.learning_rate, plan.method, plan.objective, shape, plan.optimizer)
    if plan.steps < FEW_STEPS:
        warnings.append(f"only {plural(plan.steps, 'optimizer step')}; {more_steps}")
    if plan.epochs > 10:
        warnings.append(f"{plan.epochs:.3g} epochs repeat the same rows; watch the validation loss")
    if plan.evaluate_every_steps > plan.steps:
        warnings.append("evaluate_every is beyond the last step, so validation loss is seen at the end only")
    return warnings
