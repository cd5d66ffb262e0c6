"""What ends a run early, and what checkpoints are kept for: divergence, early stopping, the best validation loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.training.plan import Plan
from tasks.training.stopping import find_best_step, read_losses

ADVICE = "lower training_setup.learning_rate or raise its warmup_share, and run again"
KINDS = {"loss": "training loss", "eval_loss": "validation loss"}


class WatchCallback(TrainerCallback):
    """Stops a run that diverges or no longer improves, and saves a step that is the best so far.

    Args:
        plan: The plan of the run.
        checkpoints: Of the run.
    """

    def __init__(self, plan: Plan, checkpoints: Checkpoints) -> None:
        self.plan, self.checkpoints = plan, checkpoints

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for name, kind in KINDS.items():
            if name in kwargs["logs"] and self.plan.divergence is not None:
                rising = self.plan.divergence.rising_since(read_losses(state.log_history, name))
                if rising is not None and rising[2] >= self.plan.divergence.logs:
                    since, best, count = rising
                    raise PipelineError(
                        f"step {state.global_step}: the {kind}, {kwargs['logs'][name]:.3g}, has been more than "
                        f"{self.plan.divergence.factor:g} times its best, {best:.3g}, in {count} logs since step "
                        f"{since}; {ADVICE}; {self._describe_kept(since)}"
                    )

    def _describe_kept(self, since: int) -> str:
        before = [step for step in self.checkpoints.steps() if step < since]
        if not before:
            return "no checkpoint had been written before"
        return f"the checkpoint from before is kept: {self.checkpoints.path(before[-1])}"

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if is_over(self.plan, state.log_history):
            control.should_training_stop = control.should_save = True
        if find_kept_step(self.plan, state) == state.global_step > 0 and self.plan.keep == "best":
            control.should_save = True
        return control


def is_over(plan: Plan, history: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a run with this log has been stopped early."""
    return plan.early_stopping is not None and plan.early_stopping.is_over(read_losses(history, "eval_loss"))


def find_kept_step(plan: Plan, state: TrainerState) -> int:
    """The step whose weights the run leaves behind: the last one, or the one with the lowest validation loss."""
    best = find_best_step(read_losses(state.log_history, "eval_loss")) if plan.keep == "best" else None
    return state.global_step if best is None else best


def list_protected(plan: Plan, state: TrainerState, steps: Iterable[int]) -> set[int]:
    """Checkpoints that stay however old they are: the best one, and the last one from before the losses began to rise.

    Args:
        plan: The plan of the run.
        state: Its state.
        steps: Steps with a checkpoint.
    """
    protected = {find_kept_step(plan, state)}
    if plan.divergence is not None:
        for name in KINDS:
            rising = plan.divergence.rising_since(read_losses(state.log_history, name))
            if rising is not None:
                protected |= {max((step for step in steps if step < rising[0]), default=0)}
    return protected
