"""What goes together: rules over what choices say of themselves (`can`), each for two kinds of choice.

The plan refuses what breaks a rule, `docs/reference/combinations.md` is printed from the same rules, and a test tries
every combination of all of them. What depends on more than the facts of two choices (the model, the machine, numbers) a
choice tells itself, in its ``problems``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from tasks.training.choices import Packing
from tasks.training.distribution import DISTRIBUTIONS
from tasks.training.distribution.zero import Zero
from tasks.training.methods import METHODS
from tasks.training.methods.method import reads_base
from tasks.training.methods.parts import changes_trained
from tasks.training.objectives import OBJECTIVES
from tasks.training.objectives.reward_models.reward_objective import RewardObjective
from tasks.training.optimizers import OPTIMIZERS
from tasks.training.quantization import QUANTIZATIONS

SHOWN_CHOICES = 4  # of many ways out
# Param to everything that it may be, as it is without any argument, and what goes with less for a param of its own.
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "method": tuple(one() for one in METHODS),
    "objective": tuple(one() for one in OBJECTIVES),
    "quantization": tuple(one() for one in QUANTIZATIONS),
    "distribution": (*(one() for one in DISTRIBUTIONS), Zero(stage=3)),
    "optimizer": tuple(one() for one in OPTIMIZERS),
    "packing": get_args(Packing),
    "on_nan": ("stop", "skip"),
    "gradient_checkpointing": (False, True),
}


@dataclass(frozen=True)
class CombinationRule:
    """Choices of two kinds that do not go together.

    Attributes:
        kinds: The two params.
        why: The reason, as the end of a sentence.
        breaks: Whether two choices do not go together.
        way_out: What to write instead, for two that do not.
    """

    kinds: tuple[str, str]
    why: str
    breaks: Callable[[Any, Any], bool]
    way_out: Callable[[Any, Any], str]

    def tell(self, one: Any, other: Any) -> str:
        """What was found, and the next step, in one line."""
        first, second = self.kinds
        return f"{first}: {name_of(one)}, with {second} {name_of(other)}: {self.why}; {self.way_out(one, other)}"


def shares_weights(distribution: Any) -> bool:
    """Whether a rank holds a part of every weight, not of the optimizer's states alone."""
    return distribution.can.sharded and getattr(distribution, "stage", 3) == 3


def splits_while_reading(distribution: Any) -> bool:
    """Whether weights are split while they are read, as by ZeRO's third stage."""
    return getattr(distribution, "stage", 0) == 3


RULES: tuple[CombinationRule, ...] = (
    CombinationRule(
        ("packing", "method"),
        "the method cannot train on packed rows, which see one another",
        lambda packing, method: packing == "bfd" and not method.can.packing,
        lambda packing, method: f"set packing: none or take method {either('method', lambda can: can.packing)}",
    ),
    CombinationRule(
        ("packing", "objective"),
        "the objective does not train on packed rows",
        lambda packing, objective: packing == "bfd" and not objective.can.packing,
        lambda packing, objective: (
            f"set packing: none or take objective {either('objective', lambda can: can.packing)}"
        ),
    ),
    CombinationRule(
        ("objective", "distribution"),
        "the objective needs whole weights, and the distribution gives it shares of them",
        lambda objective, distribution: distribution.can.sharded and not objective.can.shared_weights,
        lambda objective, distribution: (
            f"take distribution {either('distribution', lambda can: can.many and not can.sharded)}, or objective "
            + either("objective", lambda can: can.shared_weights)
        ),
    ),
    CombinationRule(
        ("method", "objective"),
        "the method puts vectors of its own before a prompt, and the objective draws answers to many prompts at once",
        lambda method, objective: not method.can.packing and objective.can.generates,
        lambda method, objective: (
            f"take method {either('method', lambda can: can.packing)}, or objective "
            + either("objective", lambda can: not can.generates)
        ),
    ),
    CombinationRule(
        ("method", "objective"),
        "the method changes which weights it trains, and the objective compares with those it began with",
        lambda method, objective: changes_trained(method) and objective.can.generates,
        lambda method, objective: (
            f"take objective {either('objective', lambda can: not can.generates)}, or a method that trains the same "
            "weights throughout"
        ),
    ),
    CombinationRule(
        ("method", "objective"),
        "a reward model is released as one plain classifier, and what the method trains does not merge into it",
        lambda method, objective: isinstance(objective, RewardObjective) and not method.can.merging,
        lambda method, objective: f"take method {either('method', lambda can: can.merging)}",
    ),
    CombinationRule(
        ("optimizer", "objective"),
        "the optimizer measures a batch again and again, and the objective hands something from step to step",
        lambda optimizer, objective: objective.can.keeps_state and not optimizer.can.needs_backward,
        lambda optimizer, objective: f"take optimizer {either('optimizer', lambda can: can.needs_backward)}",
    ),
    CombinationRule(
        ("quantization", "method"),
        "the method trains the base's weights, or reads them as they are not in few bits",
        lambda quantization, method: not quantization.can.trained_base and not method.can.quantized_base,
        lambda quantization, method: (
            f"take method {either('method', lambda can: can.quantized_base)}, or quantization "
            + either("quantization", lambda can: can.trained_base)
        ),
    ),
    CombinationRule(
        ("gradient_checkpointing", "method"),
        "what the method's blocks share, such as keys and values of its own, is lost when activations are recomputed",
        lambda checkpointing, method: checkpointing and not method.can.checkpointing,
        lambda checkpointing, method: "set gradient_checkpointing: false",
    ),
    CombinationRule(
        ("quantization", "distribution"),
        "the distribution gives each rank a part of every weight, and those of the quantisation cannot be taken apart",
        lambda quantization, distribution: not quantization.can.sharded and shares_weights(distribution),
        lambda quantization, distribution: (
            "take distribution "
            + those("distribution", lambda one: one.can.many and not shares_weights(one))
            + f", or quantization {either('quantization', lambda can: can.sharded)}"
        ),
    ),
    CombinationRule(
        ("method", "distribution"),
        "the method changes which weights it trains, and the distribution keeps shares of those it began with",
        lambda method, distribution: changes_trained(method) and distribution.can.sharded,
        lambda method, distribution: (
            f"take distribution {either('distribution', lambda can: can.many and not can.sharded)}, or a method that "
            "trains the same weights throughout"
        ),
    ),
    CombinationRule(
        ("method", "distribution"),
        "the method takes values from the base's whole weights, which the distribution splits while they are read",
        lambda method, distribution: reads_base(method) and splits_while_reading(distribution),
        lambda method, distribution: (
            "take distribution "
            + those("distribution", lambda one: one.can.many and not splits_while_reading(one))
            + ", or method "
            + those("method", lambda one: not reads_base(one))
        ),
    ),
    CombinationRule(
        ("method", "distribution"),
        "the method looks at whole gradients after each step, of which the distribution keeps shares",
        lambda method, distribution: method.can.reads_gradients and distribution.can.sharded,
        lambda method, distribution: (
            f"take distribution {either('distribution', lambda can: not can.sharded)}, or method lora"
        ),
    ),
    CombinationRule(
        ("method", "optimizer"),
        "the method changes which weights it trains, and the optimizer cannot leave out those that it does not",
        lambda method, optimizer: changes_trained(method) and not optimizer.can.forgets,
        lambda method, optimizer: f"take optimizer {either('optimizer', lambda can: can.forgets)}",
    ),
    CombinationRule(
        ("method", "optimizer"),
        "the method looks at gradients after each step, of which the optimizer leaves none",
        lambda method, optimizer: method.can.reads_gradients and not optimizer.can.keeps_gradients,
        lambda method, optimizer: f"take optimizer {either('optimizer', lambda can: can.keeps_gradients)}",
    ),
    CombinationRule(
        ("optimizer", "distribution"),
        "the optimizer needs whole weights, and the distribution gives it shares of them",
        lambda optimizer, distribution: distribution.can.sharded and not optimizer.can.sharded,
        lambda optimizer, distribution: (
            f"take distribution {either('distribution', lambda can: can.many and not can.sharded)}, or optimizer "
            + either("optimizer", lambda can: can.sharded)
        ),
    ),
    CombinationRule(
        ("optimizer", "distribution"),
        "the optimizer trains in one process",
        lambda optimizer, distribution: distribution.can.many and not optimizer.can.several_ranks,
        lambda optimizer, distribution: (
            f"take distribution {either('distribution', lambda can: not can.many)}, or optimizer "
            + either("optimizer", lambda can: can.several_ranks)
        ),
    ),
    CombinationRule(
        ("on_nan", "optimizer"),
        "the optimizer's steps are done before the whole gradient is known",
        lambda on_nan, optimizer: on_nan == "skip" and not optimizer.can.keeps_gradients,
        lambda on_nan, optimizer: "set on_nan: stop",
    ),
    CombinationRule(
        ("on_nan", "distribution"),
        "DeepSpeed has made the step by the time its gradient is seen",
        lambda on_nan, distribution: on_nan == "skip" and not distribution.can.skips_steps,
        lambda on_nan, distribution: (
            "set on_nan: stop, or take distribution " + either("distribution", lambda can: can.many and can.skips_steps)
        ),
    ),
)


def list_conflicts(chosen: Mapping[str, Any]) -> list[str]:
    """Every rule that the choices break, one line each.

    Args:
        chosen: Param to choice, of all kinds in `CHOICES`.
    """
    return [
        rule.tell(chosen[rule.kinds[0]], chosen[rule.kinds[1]])
        for rule in RULES
        if rule.breaks(chosen[rule.kinds[0]], chosen[rule.kinds[1]])
    ]


def find_reasons(kinds: tuple[str, str], one: Any, other: Any) -> list[str]:
    """Why two choices do not go together; nothing where they do."""
    return [rule.why for rule in RULES if rule.kinds == kinds and rule.breaks(one, other)]


def name_of(choice: Any) -> str:
    if isinstance(choice, bool):
        return str(choice).lower()
    if isinstance(choice, str):
        return choice
    return f"{choice.name} (stage 3)" if splits_while_reading(choice) else str(choice.name)


def either(kind: str, fact: Callable[[Any], bool]) -> str:
    """The choices of a kind of whose facts something holds, as the middle of a sentence."""
    return those(kind, lambda one: fact(one.can))


def those(kind: str, holds: Callable[[Any], bool]) -> str:
    """The choices of a kind of which something holds, as the middle of a sentence."""
    names = [name_of(one) for one in CHOICES[kind] if holds(one)]
    more = f" or one of {len(names) - SHOWN_CHOICES} more" if len(names) > SHOWN_CHOICES + 1 else ""
    return " or ".join(names[:SHOWN_CHOICES] if more else names) + more
