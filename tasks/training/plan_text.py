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


def describe_ends(plan: Plan) -> str:
    """What stops a run, or has it skip a step."""
    ends = []
    if plan.early_stopping is not None:
        least = plan.early_stopping.minimum_improvement
        better = f" by more than {least:g}" if least else ""
        validations = plural(plan.early_stopping.patience, "validation")
        in_a_row = " in a row" if plan.early_stopping.patience > 1 else ""
        ends.append(f"{validations}{in_a_row} without an improvement{better}")
    if plan.divergence is not None:
        ends.append(f"{plural(plan.divergence.logs, 'loss', 'losses')} above {plan.divergence.factor:g} times the best")
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
