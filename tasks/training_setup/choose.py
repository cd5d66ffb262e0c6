"""Take what `tasks.training_setup.auto` stands for: try its candidates in their order, and say why one was taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape
from tasks.training.distribution import DISTRIBUTIONS
from tasks.training.methods.full import SMALL_MODEL
from tasks.training.plan import Plan
from tasks.training_setup.auto import Auto
from tasks.training_setup.batch import CPU_TOKENS, LARGEST_AUTO_BATCH, USABLE_MEMORY_SHARE
from tasks.training_setup.params import ResolvableSetup, TrainingSetup

GIB = 2**30
SHARINGS: tuple[dict[str, Any], ...] = ({"name": "ddp"}, {"name": "zero", "stage": 2}, {"name": "zero", "stage": 3})


@dataclass(frozen=True)
class Trial:
    """What a candidate would take.

    Attributes:
        bytes: Memory of one process with its smallest batch.
        limit: What it may take.
        problems: Why it would be refused, memory apart.
    """

    bytes: int
    limit: int
    problems: list[str]

    @property
    def fits(self) -> bool:
        return self.bytes <= self.limit and not self.problems


def choose_setup(
    settings: TrainingSetup, shape: ModelShape, machine: Machine, judge: Callable[[ResolvableSetup], Trial]
) -> tuple[ResolvableSetup, list[str]]:
    """The settings with a method that is one, and why it is that one.

    Args:
        settings: Params of training setup.
        shape: The base model.
        machine: Where it will run.
        judge: What a candidate would take.
    """
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    if not isinstance(settings.method, Auto):
        return ResolvableSetup.model_validate(given), []
    passed: list[str] = []
    tried: list[tuple[int, int, ResolvableSetup]] = []
    for changes in list_candidates(settings, settings.method, shape, machine):
        candidate = ResolvableSetup.model_validate({**given, **changes})
        trial, label = judge(candidate), describe(candidate)
        if trial.fits:
            before = f"; before it were tried {'; '.join(passed)}" if passed else ""
            fits = f"{trial.bytes / GIB:.1f} GiB of {trial.limit / GIB:.1f} GiB usable"
            return candidate, [f"method auto took {label}: {fits} with the smallest batch{before}"]
        why = trial.problems[0] if trial.problems else f"{trial.bytes / GIB:.1f} GiB"
        passed.append(f"{label} ({why.partition('; ')[0]})")
        tried.append((len(trial.problems), trial.bytes, candidate))
    smallest = min(tried, key=lambda one: one[:2])[2]
    return smallest, [
        f"method auto took {describe(smallest)}: the least of all that were tried, none of which fits "
        f"{USABLE_MEMORY_SHARE:.0%} of the memory: {'; '.join(passed)}"
    ]


def list_candidates(
    settings: TrainingSetup, auto: Auto, shape: ModelShape, machine: Machine
) -> Iterator[dict[str, Any]]:
    """What may be taken, best first, as changes of the settings; keys that are set stay."""
    fixed = settings.model_fields_set
    lora = {"name": "lora", "rank": auto.rank}
    methods: list[tuple[dict[str, Any], str]] = [({"name": "full"}, "none")] if shape.parameters < SMALL_MODEL else []
    methods += [(lora, "none"), (lora, "nf4")]
    known = {one().name for one in DISTRIBUTIONS}
    several = machine.accelerators if machine.device == "cuda" and "processes" not in fixed else settings.processes
    sharings: list[dict[str, Any]] = [{}]
    if several > 1 and "distribution" not in fixed:
        sharings = [{"processes": several, "distribution": one} for one in SHARINGS if one["name"] in known]
    elif several > 1:
        sharings = [{"processes": several}]
    seen: list[dict[str, Any]] = []
    for method, quantization in methods:
        for sharing in sharings:
            for checkpointing in (False, True):
                varied = {
                    "quantization": {"name": quantization}, "gradient_checkpointing": checkpointing, **sharing,
                }  # fmt: skip
                changes = {"method": method, **{key: value for key, value in varied.items() if key not in fixed}}
                if changes not in seen:
                    seen.append(changes)
                    yield changes


def describe(setup: ResolvableSetup) -> str:
    """A candidate in a few words: ``lora, nf4, zero 3, gradient checkpointing``."""
    parts: list[str] = [setup.method.name]
    if setup.quantization.name != "none":
        parts.append(setup.quantization.name)
    if setup.distribution.name != "single":
        stage = getattr(setup.distribution, "stage", "")
        parts.append(f"{setup.distribution.name} {stage}".strip())
    if setup.gradient_checkpointing:
        parts.append("gradient checkpointing")
    return ", ".join(parts)


def explain_automatic(settings: ResolvableSetup, plan: Plan) -> list[str]:
    """What else was left to choose, and why it is what it is."""
    choices, share = [], f"{USABLE_MEMORY_SHARE:.0%}"
    if settings.precision == "auto":
        has = "computes" if plan.precision == "bf16" else "does not compute"
        choices.append(f"precision {plan.precision}: {plan.made_for.accelerator or 'this CPU'} {has} in bf16")
    if settings.batch_size == "auto":
        why = (
            f"about {CPU_TOKENS:,} tokens a forward pass, beyond which a CPU is no faster"
            if plan.device == "cpu"
            else f"the largest power of two up to {LARGEST_AUTO_BATCH} that takes {share} of the memory"
        )
        choices.append(f"batch_size {plan.batch_size}: {why}, as far as it fits")
    if settings.accumulation_steps == "auto":
        why = "as global_batch_size asks" if settings.global_batch_size else "no global_batch_size asks for more"
        choices.append(f"accumulation_steps {plan.accumulation_steps}: {why}")
    if settings.threads == "auto":
        choices.append(f"threads {plan.threads}: the cores of this machine, shared by the processes")
    return choices
