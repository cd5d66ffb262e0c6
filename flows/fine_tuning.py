"""Stage 4: plan and splits to an adapter or weights, by way of sealed checkpoints."""

from __future__ import annotations

import os
import sys
from typing import Any

from flows.wiring import artifacts
from flows.wiring.params import Params, read_params
from flows.wiring.preflight.sizes import tell_possible_verdicts
from flows.wiring.runs.progress import record_training
from flows.wiring.settings import configure
from flows.wiring.stage import recorder, run, stage, task
from tasks.contracts.balance import read_balance
from tasks.contracts.tables import read_answers, read_examples
from tasks.fine_tuning.launch.job import is_rank
from tasks.fine_tuning.report import write_losses, write_report
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.train import fine_tune
from tasks.training.plan import Plan, load_plan


@stage
def fine_tuning(params: Params) -> None:
    """Tokenize the splits, train as planned or resume an interrupted run, and report the loss curve."""
    settings = params.fine_tuning
    tell_possible_verdicts(params)
    plan = load_plan(artifacts.PLAN)
    splits = task(tokenize_splits)(*unencoded(params, plan))
    trained = task(fine_tune)(
        plan,
        splits,
        artifacts.INITIAL,
        artifacts.CHECKPOINTS,
        artifacts.TUNED,
        settings.keep_checkpoints,
        record_training(plan.all_steps, recorder().metrics),
        tokenize=lambda phase: tokenize_splits(*unencoded(params, phase)),
    )
    task(write_losses)(
        trained.curve,
        artifacts.TRAINING_LOSS,
        artifacts.VALIDATION_LOSS,
        artifacts.headline("fine_tuning"),
        trained.kept_step,
    )
    task(write_report)(
        trained,
        splits,
        artifacts.CURVE,
        artifacts.report("fine_tuning"),
        artifacts.metrics("fine_tuning"),
    )


def unencoded(params: Params, plan: Plan) -> tuple[Any, ...]:
    """What `tokenize_splits` is given."""
    return (
        read_examples(artifacts.TRAIN),
        read_examples(artifacts.VALIDATION),
        artifacts.INITIAL,
        plan.max_tokens,
        params.fine_tuning.validation_rows,
        read_balance(artifacts.BALANCE),
        plan.long_rows,
        plan.loss.needs_costs,
        plan.objective,
        read_answers(artifacts.ANSWERS),
        plan.mixture,
    )


def join() -> int:
    """Train as one of the ranks of a machine that is not the first, as ``models/plan/launch`` starts them."""
    from tasks.fine_tuning.rank import run_elsewhere

    os.chdir(configure())
    params, plan = read_params(), load_plan(artifacts.PLAN)
    return run_elsewhere(
        plan,
        lambda: tokenize_splits(*unencoded(params, plan)),
        artifacts.INITIAL,
        artifacts.CHECKPOINTS,
        params.fine_tuning.keep_checkpoints,
    )


if __name__ == "__main__":
    if is_rank():
        sys.exit(join())
    run(fine_tuning)
