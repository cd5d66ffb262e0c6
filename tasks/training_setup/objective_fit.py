"""Whether the prepared data has what the objective trains on, and whether the other params mean anything to it."""

from __future__ import annotations

from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.objectives import OBJECTIVES, objectives_where
from tasks.training.objectives.data import WANTED
from tasks.training_setup.counts import Counts
from tasks.training_setup.params import ResolvableSetup


def list_unfit(settings: ResolvableSetup, counts: Counts) -> list[str]:
    """What was found, what the objective wants, and what would fit, a line each.

    Args:
        settings: Params of training setup.
        counts: What of the training split trains with this objective.
    """
    problems, objective = [], settings.objective
    if not objective.can.token_loss and settings.loss != CrossEntropy():
        others = " or ".join(objectives_where(lambda can: can.token_loss))
        problems.append(
            f"loss: {settings.loss.name} means nothing to objective {objective.name}, which has a loss of its own; "
            f"leave it out, or take objective {others}"
        )
    if objective.own_passes and not settings.quantization.can.trained_base:
        problems.append(
            f"quantization: {settings.quantization.name}, and objective {objective.name} trains a copy of the base's "
            "weights, which few bits do not allow; set objective.value: shared, or leave quantization out"
        )
    if settings.loss.needs_costs and getattr(objective, "tokens", "answers") == "all":
        problems.append(
            f"loss: {settings.loss.name} reads costs where answers begin, and objective {objective.name} with tokens: "
            "all begins with the conversation; set tokens: answers"
        )
    if settings.long_rows not in objective.long_rows:
        problems.append(
            f"long_rows: {settings.long_rows} would cut what objective {objective.name} has to keep; set long_rows: "
            + " or ".join(objective.long_rows)
        )
    longest = objective.longest_answer
    if longest is not None and longest >= settings.max_tokens:
        problems.append(
            f"objective: max_new_tokens: {longest} of max_tokens ({settings.max_tokens}), the length of prompt "
            f"and answer together, leave no prompt any room; set max_tokens: {2 * longest} or fewer max_new_tokens"
        )
    if not counts.examples:
        problems.append(_describe_lack(settings, counts))
    return problems


def _describe_lack(settings: ResolvableSetup, counts: Counts) -> str:
    objective = settings.objective
    if objective.rows == "conversations":
        why = (
            "the training split is empty"
            if not counts.rows
            else f"none of {counts.rows} conversations has an answer within {settings.max_tokens} tokens "
            f"(long_rows: {settings.long_rows})"
        )
        return f"no supervised tokens: {why}; raise max_tokens or look at reports/data_preparation"
    if counts.rows:
        reasons = "; ".join(f"{count:,} x {reason}" for reason, count in counts.dropped.items())
        return (
            f"objective: none of {counts.rows:,} rows can train {objective.name} ({reasons}); raise max_tokens or look "
            "at reports/data_preparation"
        )
    fitting = [
        other.name
        for other in (one() for one in OBJECTIVES)
        if counts.kinds.get(other.rows) and other.rows != objective.rows
    ]
    found = f"; what is prepared fits objective {' or '.join(fitting)}" if fitting else ""
    return (
        f"objective: {objective.name} trains on {WANTED[objective.rows]}, of which the training split has none{found}; "
        "add such a source to data_preparation.sources, or take another objective"
    )
