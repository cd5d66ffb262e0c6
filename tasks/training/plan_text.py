"""What a plan says in words, alike on the pages of training setup and of fine-tuning."""

from __future__ import annotations

from tasks.language_models.long_rows import OUTCOMES
from tasks.pages.text import plural
from tasks.training.plan import Plan


def describe_longer(plan: Plan) -> tuple[str, str]:
    """What is longer than a row, and what becomes of it."""
    if plan.objective.rows == "texts":
        return "longer documents", OUTCOMES["split"]
    return "longer conversations", OUTCOMES[plan.long_rows]


def describe_schedule(plan: Plan) -> str:
    """The course of the learning rate."""
    return f"{plan.schedule.describe()}, after {plural(plan.warmup_steps, 'warm-up step')}"


def describe_clipping(plan: Plan) -> str:
    """Where the norm of the gradient is limited."""
    return f"norm clipped at {plan.clip_norm:g}" if plan.clip_norm else "norm not clipped"


def describe_patience(plan: Plan) -> str:
    """What ends a run early; empty where nothing does."""
    if plan.early_stopping is None:
        return ""
    least = plan.early_stopping.minimum_improvement
    better = f" by more than {least:g}" if least else ""
    in_a_row = " in a row" if plan.early_stopping.patience > 1 else ""
    return f"{plural(plan.early_stopping.patience, 'validation')}{in_a_row} without an improvement{better}"


def describe_ends(plan: Plan) -> str:
    """What stops a run, or has it skip a step."""
    ends = [describe_patience(plan)] if plan.early_stopping is not None else []
    if plan.divergence is not None:
        losses = plural(plan.divergence.logs, "loss", "losses")
        guessed = " or no better than a guess among all tokens" if plan.objective.can.token_loss else ""
        ends.append(f"{losses} above {plan.divergence.factor:g} times the best{guessed}")
    skipped = f" (after {plural(plan.nan_limit, 'skipped step')})" if plan.on_nan == "skip" else ""
    return ", or ".join([*ends, f"a loss that is not a number{skipped}"])


def describe_kept(plan: Plan) -> str:
    """Whose weights the run leaves behind."""
    step = "of the best validation loss" if plan.keep == "best" else "of the last step"
    return f"{step}, their moving average (decay {plan.ema_decay:g})" if plan.ema_decay is not None else step


def list_changes(plan: Plan) -> list[tuple[str, object]]:
    """Name and value of what only some plans have: learning rates of parts, noise on the embeddings."""
    groups, noise = plan.parameter_groups.describe(), plan.neftune_alpha
    return [
        *([("parameter groups", groups)] if groups else []),
        *([("noise on the embeddings (NEFTune)", noise)] if noise is not None else []),
    ]
