"""What ends a run early, and what checkpoints are kept for: divergence, early stopping, the best validation loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.pages.text import plural
from tasks.training.choices import Precision
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.plan import Plan
from tasks.training.plan_text import describe_patience
from tasks.training.stopping import find_best_step, read_losses

ADVICE = "lower training_setup.learning_rate or raise its warmup_share, and run again"
KINDS = {"loss": "training loss", "eval_loss": "validation loss"}

logger = logging.getLogger(__name__)


class WatchCallback(TrainerCallback):
    """Stops a run that diverges or no longer improves, and saves a step that is the best so far.

    Args:
        plan: The plan of the run.
        checkpoints: Of the run.
        guesses: From `find_guesses`.
    """

    def __init__(self, plan: Plan, checkpoints: Checkpoints, guesses: Mapping[str, float]) -> None:
        self.plan, self.checkpoints, self.guesses = plan, checkpoints, guesses

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for name, kind in KINDS.items():
            guard, guess = self.plan.divergence, self.guesses[name]
            if name in kwargs["logs"] and guard is not None:
                rising = guard.rising_since(read_losses(state.log_history, name), guess)
                if rising is not None and rising[2] >= guard.logs:
                    since, best, count = rising
                    found = f"more than {guard.factor:g} times its best, {best:.3g}"
                    if kwargs["logs"][name] <= guard.factor * best:
                        found = f"no better than a guess among all tokens, {guess:.3g}, after a best of {best:.3g}"
                    raise PipelineError(
                        f"step {state.global_step}: the {kind}, {kwargs['logs'][name]:.3g}, has been {found}, in "
                        f"{plural(count, 'log')} since step {since}; {ADVICE}; {self._describe_kept(since)}"
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
            if state.is_world_process_zero and state.global_step < self.plan.steps:
                logger.info(
                    "stopped early at step %s of %s: %s",
                    f"{state.global_step:,}",
                    f"{self.plan.steps:,}",
                    describe_patience(self.plan),
                )
            control.should_training_stop = control.should_save = True
        if find_kept_step(self.plan, state) == state.global_step > 0 and self.plan.keep == "best":
            control.should_save = True
        return control


def advise_on_base(precision: Precision) -> str:
    """What to do where a loss is not a number before the first step."""
    begun = "no step has been taken yet, so"
    if precision == "fp32":
        return f"{begun} the base is at fault; take another base, and run again"
    return (
        f"{begun} the base or its computation in {precision} is at fault; set training_setup.precision: fp32 or take "
        "another base, and run again"
    )


def find_guesses(plan: Plan, model: Any, is_weighted: bool) -> dict[str, float]:
    """The loss of a model for which all tokens are alike, for each kind of loss; infinite where they do not compare.

    Args:
        plan: The plan of the run.
        model: Whose vocabulary counts.
        is_weighted: Rows have weights of their own, by which their training losses are multiplied.
    """
    guess = math.log(model.config.get_text_config().vocab_size)
    is_likelihood = plan.objective.can.token_loss and isinstance(plan.loss, CrossEntropy) and not is_weighted
    return {
        "loss": guess if is_likelihood else math.inf,
        "eval_loss": guess if plan.objective.can.token_loss else math.inf,
    }


def is_over(plan: Plan, history: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a run with this log has been stopped early."""
    return plan.early_stopping is not None and plan.early_stopping.is_over(read_losses(history, "eval_loss"))


def find_kept_step(plan: Plan, state: TrainerState) -> int:
    """The step whose weights the run leaves behind: the last one, or the one with the lowest validation loss."""
    best = find_best_step(read_losses(state.log_history, "eval_loss")) if plan.keep == "best" else None
    return state.global_step if best is None else best


def list_protected(plan: Plan, state: TrainerState, steps: Iterable[int], guesses: Mapping[str, float]) -> set[int]:
    """Checkpoints that stay however old they are: the best one, and the last one from before the losses began to rise.

    Args:
        plan: The plan of the run.
        state: Its state.
        steps: Steps with a checkpoint.
        guesses: From `find_guesses`.
    """
    protected = {find_kept_step(plan, state)}
    if plan.divergence is not None:
        for name in KINDS:
            rising = plan.divergence.rising_since(read_losses(state.log_history, name), guesses[name])
            if rising is not None:
                protected |= {max((step for step in steps if step < rising[0]), default=0)}
    return protected
