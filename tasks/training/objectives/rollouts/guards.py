"""Whether a training by rewards has collapsed: counted from step to step, and stopped with the reason and a way out."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.contracts.errors import PipelineError
from tasks.training.objectives.rollouts.params import Guards

ADVICE = {
    "least_entropy": "answers no longer vary, so nothing more is learned; lower learning_rate, raise "
    "objective.kl_weight or objective.rollout.temperature",
    "most_kl": "the model is far from the one before the first step; raise objective.kl_weight, lower learning_rate or "
    "clip_norm",
    "least_tokens": "answers have become empty; look at what the rewards give for an empty answer, add {name: length}",
    "most_unfinished": "answers no longer end; raise objective.rollout.max_new_tokens, or add {name: length} or "
    "{name: format, ended: true}",
    "most_flat": "all answers to a prompt are worth the same, so that none is learned from; look at the samples: the "
    "task is too hard (supervise first, or add a reward in part) or solved (stop earlier)",
}


def check_guards(guards: Guards, state: Mapping[str, float], figures: Mapping[str, float]) -> dict[str, float]:
    """How many steps there were, and in how many of the last ones in a row each limit was passed.

    Args:
        guards: The limits.
        state: The counts so far.
        figures: Of a step, by the names of `tasks.training.objectives.rollouts.experience.FIGURES`.

    Raises:
        PipelineError: One was passed too often in a row.
    """
    found = {
        "least_entropy": ("entropy", "nats per token", -1),
        "most_kl": ("kl", "nats per answer", 1),
        "least_tokens": ("answer_tokens", "tokens", -1),
        "most_unfinished": ("unfinished", "of the answers", 1),
        "most_flat": ("flat", "of the prompts", 1),
    }
    step = state.get("steps", 0.0) + 1
    counts: dict[str, float] = {"steps": step}
    for name, (figure, unit, sign) in found.items():
        limit = getattr(guards, name)
        if limit is None or figure not in figures:
            continue
        beyond = sign * (figures[figure] - limit) > 0
        count = (state.get(name, 0.0) + 1) * beyond
        if count >= guards.patience:
            side = "above" if sign > 0 else "below"
            raise PipelineError(
                f"step {step:g}: collapse: {figure} is {figures[figure]:.4g} {unit}, {side} objective.guards.{name} "
                f"({limit:g}) for {guards.patience} steps in a row; {ADVICE[name]}; or raise objective.guards.patience"
            )
        counts[name] = count
    return counts
