"""Run a plan: from the base and the tokenized splits to ``models/tuned``, by way of sealed checkpoints."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from tasks.contracts.errors import PipelineError, raise_all, write_advice
from tasks.contracts.manifest import read_json, replacing, seal
from tasks.fine_tuning.allocation import map_large_blocks
from tasks.fine_tuning.checkpoints import Checkpoints, RunOrigin, refusal
from tasks.fine_tuning.curve import Point, find_last_loss, read_curve
from tasks.fine_tuning.launch.agent import run_ranks
from tasks.fine_tuning.launch.job import written
from tasks.fine_tuning.launch.messages import Message, Receiver, log_message
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.out_of_memory import survive_shortage
from tasks.fine_tuning.rows import Splits
from tasks.language_models.model_folder import load_tokenizer, resolve_model, set_generation_config
from tasks.training.distribution.whole import put_weights, trained_weights
from tasks.training.methods.hooks import RunFacts, StepHooks, make_hooks
from tasks.training.methods.method import tell_outcome
from tasks.training.mixture import list_task_figures
from tasks.training.objectives.rollouts.samples_file import ShownSample, choose_samples
from tasks.training.plan import Plan, check_machine
from tasks.training.quantization.measure import WeightPart, measure_weights

if TYPE_CHECKING:
    from tasks.fine_tuning.interrupts import Asking
    from tasks.fine_tuning.progress import OnMetrics, Progressing
    from tasks.fine_tuning.trainer import FineTuner

logger = logging.getLogger(__name__)

LEFT = "left.safetensors"  # beside the checkpoints of a phase: what it trained, for the next one


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        plan: What was run.
        curve: Logged steps.
        steps: Optimizer steps done; fewer than planned where the run was stopped early.
        kept_step: The step whose weights are in the tuned folder.
        trained: Weights that got gradients.
        weights: The weights of the model as trained, by part.
        bytes: Size of the tuned folder's files.
        samples: Answers that the model wrote while it was trained, a few of some steps.
        resumed_at: Step of the checkpoint that the run resumed from; 0 without one.
        outcome: What the method chose while it trained, in words.
        borders: Of the phases but the first: the step that each begins after, and its first place in the curve.
    """

    plan: Plan
    curve: tuple[Point, ...]
    steps: int
    kept_step: int
    trained: int
    weights: tuple[WeightPart, ...]
    bytes: int
    resumed_at: int
    outcome: dict[str, str] = field(default_factory=dict)
    samples: tuple[ShownSample, ...] = ()
    borders: tuple[tuple[int, int], ...] = ()

    @property
    def last_curve(self) -> tuple[Point, ...]:
        """Logged steps of the last phase."""
        return self.curve[self.borders[-1][1] if self.borders else 0 :]

    @property
    def figures(self) -> dict[str, float | int]:
        return {"steps": self.steps, "kept_step": self.kept_step, "resumed_at": self.resumed_at, "bytes": self.bytes}


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
    from tasks.fine_tuning.progress import LogProgress

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
    if plan.release_freed_memory:
        map_large_blocks()
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

    from tasks.fine_tuning.progress import LogProgress

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


def join_phases(runs: Sequence[Run]) -> Run:
    """The last phase's run, with the curve and the steps of all of them."""
    curve: list[Point] = []
    borders, steps = [], 0
    for run in runs:
        if curve:
            borders.append((steps, len(curve)))
        curve += [replace(point, step=steps + point.step) for point in run.curve]
        steps += run.steps
    last = runs[-1]
    before = steps - last.steps
    return replace(
        last,
        curve=tuple(curve),
        steps=steps,
        kept_step=before + last.kept_step,
        resumed_at=before + last.resumed_at if last.resumed_at else max(run.resumed_at for run in runs),
        borders=tuple(borders),
    )


@dataclass(frozen=True)
class _Trained:
    """What a trainer, or the ranks, leave behind.

    Attributes:
        model: Adapted, with the weights of the step that is kept.
        history: The trainer's log.
        steps: Optimizer steps done.
        kept_step: The step whose weights are kept.
        resumed_at: Step of the checkpoint that the run resumed from; 0 without one.
    """

    model: Any
    history: list[dict[str, Any]]
    steps: int
    kept_step: int
    resumed_at: int


def _train(
    plan: Plan,
    splits: Splits,
    initial: Path,
    store: Checkpoints,
    listeners: Sequence[OnMetrics],
    start: Path | None,
    trainer_class: type[FineTuner] | None,
    on_trained: Callable[[FineTuner], None] | None,
) -> _Trained:
    if plan.distribution.can.many:
        return _train_in_ranks(plan, splits, initial, store, listeners, start)
    trainer = make_trainer(plan, splits, initial, store, listeners, trainer_class, start=start)
    resume = store.newest()
    train(trainer, resume)
    trainer.restore_kept()
    if on_trained:
        on_trained(trainer)
    state = trainer.state
    return _Trained(trainer.model, state.log_history, state.global_step, trainer.kept_step, step_of(resume))


def _train_in_ranks(
    plan: Plan,
    splits: Splits,
    initial: Path,
    store: Checkpoints,
    listeners: Sequence[OnMetrics],
    start: Path | None,
) -> _Trained:
    """Have the ranks train, and put what they trained into a model of this process."""
    from safetensors.torch import load_file

    from tasks.fine_tuning.progress import ProgressBar

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
    return _Trained(model, **result)


def describe_device(plan: Plan) -> str:
    """The hardware of a run in words: ``cpu, 2 threads`` or ``cuda, NVIDIA H200``, with the number of processes."""
    found = plan.made_for.accelerator if plan.device != "cpu" else f"{plan.threads} threads"
    processes = f", {plan.world_size} processes" if plan.world_size > 1 else ""
    return f"{plan.device}, {found}{processes}" if found else f"{plan.device}{processes}"


@contextmanager
def reproducible(plan: Plan) -> Iterator[None]:
    """A fixed number of threads and deterministic kernels, put back afterwards.

    Sums are split among the threads, so another number of them gives other last digits.
    """
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if plan.device == "cpu":
        torch.set_num_threads(plan.threads)
    # On accelerators some kernels have no deterministic edition: those warn and run.
    torch.use_deterministic_algorithms(True, warn_only=plan.device != "cpu")
    # Deterministic mode also fills every new tensor with NaN, 4% of a step, to show reads of memory never written.
    memory: Any = torch.utils.deterministic  # its setting is a property that type checkers do not see
    filling = memory.fill_uninitialized_memory
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = filling
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def make_trainer(
    plan: Plan,
    splits: Splits,
    initial: Path,
    store: Checkpoints,
    listeners: Sequence[OnMetrics] = (),
    trainer_class: type[FineTuner] | None = None,
    shown: Progressing | None = None,
    start: Path | None = None,
) -> FineTuner:
    """The base as the plan holds it, adapted, in a trainer that is ready to start; that of one rank.

    Args:
        plan: What to run.
        splits: What to train on and to watch.
        initial: Folder written by model initialisation.
        store: The run's checkpoints.
        listeners: Get each logged step's figures.
        trainer_class: An edition of `FineTuner`; itself by default.
        shown: Where the steps are shown; a bar on the terminal by default.
        start: Weights that an earlier phase left; None for a training that begins at the base.
    """
    from transformers import PrinterCallback
    from transformers.utils import logging as library_logging

    from tasks.fine_tuning.progress import ProgressBar, ReportMetrics, ShowProgress
    from tasks.fine_tuning.trainer import FineTuner, trainer_arguments

    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar is enough
    # Before the base: ZeRO-3 splits it while it is read, as these say.
    arguments = trainer_arguments(plan, store.folder)
    adapted = make_model(plan, initial, start)
    hooks = hooks_of(plan, adapted, initial)
    model = plan.distribution.shard(adapted)
    reporting = ReportMetrics(plan, listeners)
    callbacks: list[Any] = [ShowProgress(shown or ProgressBar(plan.steps)), reporting]
    trainer = (trainer_class or FineTuner)(
        model, load_tokenizer(initial), plan, splits, store, callbacks, arguments, hooks
    )
    trainer.remove_callback(PrinterCallback)
    reporting.take_making = trainer.objective.take_making if plan.objective.can.generates else None
    return trainer


def make_model(plan: Plan, initial: Path, start: Path | None = None) -> Any:
    """The base as the plan's method trains it, before the first step; the same in each rank.

    Args:
        plan: What to run.
        initial: Folder written by model initialisation.
        start: Weights that an earlier phase left; None for a training that begins at the base.
    """
    from transformers import set_seed

    set_seed(plan.seed)
    base = plan.quantization.load(resolve_model(initial), plan.precision, plan.device)
    set_generation_config(base, initial)
    base.config.use_cache = False
    adapted = plan.method.adapt(base)
    if start is not None:
        from safetensors.torch import load_file

        put_weights(adapted, load_file(start), str(start))
    return plan.objective.extend(adapted, plan.seed)


def hooks_of(plan: Plan, model: Any, initial: Path) -> StepHooks:
    """What the plan's method does from step to step, of a model as `make_model` gave it."""
    return make_hooks(plan.method, model, RunFacts(plan.steps, plan.steps_per_epoch, plan.seed), initial)


def train(trainer: FineTuner, resume: Path | None, interrupt: Asking | None = None) -> None:
    """Train to the last step, from a checkpoint where there is one.

    Args:
        trainer: What `make_trainer` gave.
        resume: The checkpoint.
        interrupt: How the training learns that it is asked to end; by a signal to this process by default.
    """
    from tasks.fine_tuning.interrupts import Interrupt, SealAndLeave
    from tasks.fine_tuning.progress import ShowProgress

    plan = trainer.plan
    asked: Asking = interrupt or Interrupt()
    trainer.add_callback(SealAndLeave(trainer, asked))
    if trainer.is_world_process_zero():
        if resume is not None:
            logger.info("resuming from %s", resume)
        logger.info("training on %s: %s steps of %s", describe_device(plan), f"{plan.steps:,}", plan.method.name)
    try:
        with asked.deferred():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            trainer.settle_weights()
    finally:
        callback = trainer.pop_callback(ShowProgress)
        if isinstance(callback, ShowProgress):
            callback.shown.stop()


def step_of(checkpoint: Path | None) -> int:
    """The step of a checkpoint; 0 without one."""
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


def write_tuned(trained: _Trained, plan: Plan, origin: RunOrigin, initial: Path, tuned: Path) -> int:
    """Write what was trained, as the method saves it, and then the manifest.

    Returns:
        Size in bytes.

    Raises:
        PipelineError: The disk refused it; the checkpoints are untouched.
    """
    curve = [point for point in read_curve(trained.history) if point.step <= trained.kept_step]
    facts = {
        "method": plan.method.model_dump(),
        "objective": plan.objective.model_dump(),
        "quantization": plan.quantization.model_dump(),
        "base": origin.model,
        "data": origin.data,
        "plan": origin.plan,
        "batch_size": plan.batch_size,
        "accumulation_steps": plan.accumulation_steps,
        "libraries": origin.libraries,
        "steps": trained.steps,
        "kept_step": trained.kept_step,
        "seed": plan.seed,
        "final_loss": find_last_loss(curve),
        "final_validation_loss": next((p.eval_loss for p in reversed(curve) if p.eval_loss is not None), None),
    }
    try:
        shutil.rmtree(tuned, ignore_errors=True)
        tuned.mkdir(parents=True)
        files = [*plan.objective.save(trained.model, tuned), *plan.method.save(trained.model, tuned)]
        seal(tuned, files, facts)
    except (OSError, RuntimeError, SafetensorError, PipelineError) as error:
        reason = refusal(error)
        if reason is None:
            raise
        shutil.rmtree(tuned, ignore_errors=True)
        raise PipelineError(
            f"{tuned}: cannot write ({reason}); {write_advice(reason)} and run again, the last checkpoint is kept"
        ) from error
    return sum(path.stat().st_size for path in files)
