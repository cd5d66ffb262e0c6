"""Stage 4: plan and splits to an adapter or weights, by way of sealed checkpoints."""

from __future__ import annotations

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.preflight.sizes import tell_possible_verdicts
from flows.wiring.runs.progress import record_training
from flows.wiring.stage import recorder, run, stage, task
from tasks.contracts.balance import read_balance
from tasks.contracts.tables import read_examples
from tasks.fine_tuning.report import write_losses, write_report
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.train import fine_tune
from tasks.training.plan import load_plan


@stage
def fine_tuning(params: Params) -> None:
    """Tokenize the splits, train as planned or resume an interrupted run, and report the loss curve."""
    settings = params.fine_tuning
    tell_possible_verdicts(params)
    plan = load_plan(artifacts.PLAN)
    splits = task(tokenize_splits)(
        read_examples(artifacts.TRAIN),
        read_examples(artifacts.VALIDATION),
        artifacts.INITIAL,
        plan.max_tokens,
        settings.validation_rows,
        read_balance(artifacts.BALANCE),
        plan.long_rows,
        plan.loss.needs_costs,
    )
    trained = task(fine_tune)(
        plan,
        splits,
        artifacts.INITIAL,
        artifacts.CHECKPOINTS,
        artifacts.TUNED,
        settings.keep_checkpoints,
        record_training(plan.steps, recorder().metrics),
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


if __name__ == "__main__":
    run(fine_tuning)
