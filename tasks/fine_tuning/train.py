"""Run a plan: from the base and the tokenized splits to ``models/tuned``, by way of sealed checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts.errors import raise_all
from tasks.contracts.manifest import read_json, replacing
from tasks.fine_tuning.allocation import settle_allocation
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.curve import list_skipped, read_curve
from tasks.fine_tuning.launch.agent import run_ranks
from tasks.fine_tuning.launch.job import written
from tasks.fine_tuning.launch.messages import Message, Receiver, log_message
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.out_of_memory import survive_shortage
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run, join_phases
from tasks.fine_tuning.trainer.start import hooks_of, make_model, make_trainer, reproducible, step_of, train
from tasks.fine_tuning.tuned_folder import TrainedModel, write_tuned
from tasks.training.distribution.whole import put_weights, trained_weights
from tasks.training.methods.method import tell_outcome
from tasks.training.mixture import list_task_figures
from tasks.training.objectives.rollouts.samples_file import choose_samples
from tasks.training.plan import Plan, check_machine
from tasks.training.quantization.measure import measure_weights

if TYPE_CHECKING:
    from tasks.fine_tuning.trainer.fine_tuner import FineTuner
    from tasks.fine_tuning.trainer.progress import OnMetrics

LEFT = "left.safetensors"  # beside the checkpoints of a phase: what it trained, for the next one


@survive_shortage
def fine_tune(
    plan: Plan,
    splits: Splits,
    initial: Path,
    checkpoints: Path,
    tuned: Path,
    keep_checkpoints: int = 2,
    on_metrics: OnMetrics | None = None,
    trainer_class: type[FineTuner] | None = None,
    on_trained: Callable[[FineTuner], None] | None = None,
    tokenize: Callable[[Plan], Splits] | None = None,
) -> Run:
    """Train, resuming from the newest complete checkpoint of the same run, and write what was trained.

    Args:
        plan: What to run.
        splits: What to train on and to watch.
        initial: Folder written by model initialisation.
        checkpoints: Folder of all runs' checkpoints.
        tuned: Folder for what was trained.
        keep_checkpoints: Newest ones kept while the run is under way.
        on_metrics: Gets each logged step's figures.
        trainer_class: An edition of `FineTuner`; itself by default.
        on_trained: Gets the trainer when the last step is done, before anything is written; in one process only.
        tokenize: Rows of an earlier phase, where the plan has any.

    Raises:
        PipelineError: The plan does not fit this machine, the loss is not a number, memory ran out, or the disk is
            full.
    """
    from tasks.fine_tuning.trainer.progress import LogProgress

    settle_allocation(plan.release_freed_memory)
    earlier: list[_Phase] = []
    for phase in plan.phases[:-1]:
        assert tokenize is not None, "a plan of several phases comes with the rows of each"
        rows = tokenize(phase)
        earlier.append(_train_phase(phase, rows, initial, checkpoints, keep_checkpoints, on_metrics, earlier))
    start, steps_before = (earlier[-1].left, sum(one.run.steps for one in earlier)) if earlier else (None, 0)
    on_metrics = count_from(steps_before, on_metrics)
    alone = ["a trial of a search trains in one process; set distribution: {name: single} and processes: 1 for it"]
    raise_all(
        check_machine(plan) + (alone if on_trained and plan.distribution.can.many else []), "the plan cannot run here"
    )
    origin = origin_of(plan, splits, initial, start)
    store = Checkpoints(checkpoints, origin, keep_checkpoints, plan.distribution.state_files)
    store.companions = {one.left.parent.name for one in earlier}
    listeners: list[OnMetrics] = [LogProgress(plan), *([on_metrics] if on_metrics else [])]
    with reproducible(plan):
        trained = _train(plan, splits, initial, store, listeners, start, trainer_class, on_trained)
        run = Run(
            plan=plan,
            curve=tuple(read_curve(trained.history, [*plan.figures, *list_task_figures(splits.validation)])),
            steps=trained.steps,
            kept_step=trained.kept_step,
            trained=sum(p.numel() for p in trained.model.parameters() if p.requires_grad),
            weights=measure_weights(trained.model),
            outcome=tell_outcome(plan.method, trained.model),
            bytes=write_tuned(trained, plan, origin, initial, tuned),
            resumed_at=trained.resumed_at,
            skipped=list_skipped(trained.history),
            samples=tuple(choose_samples(store.folder, trained.kept_step)) if plan.objective.can.generates else (),
        )
    store.finish(run.steps)
    return join_phases([*(one.run for one in earlier), run])


@dataclass(frozen=True)
class _Phase:
    """A phase that is through.

    Attributes:
        run: It.
        left: What it trained, whole, beside its checkpoints.
    """

    run: Run
    left: Path


@survive_shortage
def _train_phase(
    plan: Plan,
    splits: Splits,
    initial: Path,
    checkpoints: Path,
    keep_checkpoints: int,
    on_metrics: OnMetrics | None,
    earlier: Sequence[_Phase],
) -> _Phase:
    """Train a phase that another follows, or find it trained."""
    from safetensors.torch import save

    from tasks.fine_tuning.trainer.progress import LogProgress

    raise_all(check_machine(plan), "the plan cannot run here")
    start = earlier[-1].left if earlier else None
    store = Checkpoints(
        checkpoints, origin_of(plan, splits, initial, start), keep_checkpoints, plan.distribution.state_files
    )
    reported = count_from(sum(one.run.steps for one in earlier), on_metrics)
    listeners: list[OnMetrics] = [LogProgress(plan), *([reported] if reported else [])]
    with reproducible(plan):
        trained = _train(plan, splits, initial, store, listeners, start, None, None)
        left = store.folder / LEFT
        plan.objective.save(trained.model, store.folder)  # the next phase begins without modules of this objective's
        with replacing(left) as aside:
            aside.write_bytes(save(trained_weights(trained.model)))
    store.finish(trained.steps, is_last=False)
    run = Run(
        plan=plan,
        curve=tuple(read_curve(trained.history, plan.figures)),
        steps=trained.steps,
        kept_step=trained.kept_step,
        trained=0,
        weights=(),
        bytes=0,
        resumed_at=trained.resumed_at,
        skipped=list_skipped(trained.history),
    )
    return _Phase(run, left)


def count_from(steps: int, on_metrics: OnMetrics | None) -> OnMetrics | None:
    """The listener, told of steps that are counted over all phases.

    Args:
        steps: Of the phases before.
        on_metrics: The listener.
    """
    if on_metrics is None or not steps:
        return on_metrics
    listener = on_metrics
    return lambda step, figures: listener(steps + step, figures)


def _train(
    plan: Plan,
    splits: Splits,
    initial: Path,
    store: Checkpoints,
    listeners: Sequence[OnMetrics],
    start: Path | None,
    trainer_class: type[FineTuner] | None,
    on_trained: Callable[[FineTuner], None] | None,
) -> TrainedModel:
    if plan.distribution.can.many:
        return _train_in_ranks(plan, splits, initial, store, listeners, start)
    trainer = make_trainer(plan, splits, initial, store, listeners, trainer_class, start=start)
    resume = store.newest()
    train(trainer, resume)
    trainer.restore_kept()
    if on_trained:
        on_trained(trainer)
    state = trainer.state
    return TrainedModel(trainer.model, state.log_history, state.global_step, trainer.kept_step, step_of(resume))


def _train_in_ranks(
    plan: Plan,
    splits: Splits,
    initial: Path,
    store: Checkpoints,
    listeners: Sequence[OnMetrics],
    start: Path | None,
) -> TrainedModel:
    """Have the ranks train, and put what they trained into a model of this process."""
    from safetensors.torch import load_file

    from tasks.fine_tuning.trainer.progress import ProgressBar

    bar = ProgressBar(plan.steps)

    def tell(message: Message) -> None:
        for listener in listeners:
            listener(message["step"], message["figures"])

    on: dict[str, Callable[[Message], None]] = {
        "begin": lambda message: bar.begin(message["step"]),
        "step": lambda message: bar.advance(message["step"]),
        "logs": lambda message: bar.tell(message["logs"]),
        "metrics": tell,
        "log": log_message,
    }
    folder = store.root.absolute() / "ranks"
    with written(folder, plan, splits, store.origin, initial, store.root, store.keep, start) as job:
        try:
            run_ranks(job, Receiver(job.messages, on).receive)
        finally:
            bar.stop()
        result = read_json(job.result)
        model = make_model(plan, initial)
        hooks = hooks_of(plan, model, initial)
        put_weights(model, load_file(job.trained), "the ranks")
        if hooks.keeps_state:
            hooks.load_state(model, load_file(job.method_state))
    return TrainedModel(model, **result)
