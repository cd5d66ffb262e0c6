"""A trainer made from a plan, with the model as the plan has it, and its training; that of one process."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.rows import Splits
from tasks.language_models.folder.model_folder import load_tokenizer, resolve_model, set_generation_config
from tasks.pages.text import plural
from tasks.training.distribution.whole import put_weights
from tasks.training.methods.hooks import RunFacts, StepHooks, make_hooks
from tasks.training.plan import Plan

if TYPE_CHECKING:
    from tasks.fine_tuning.trainer.fine_tuner import FineTuner
    from tasks.fine_tuning.trainer.interrupts import Asking
    from tasks.fine_tuning.trainer.progress import OnMetrics, Progressing

logger = logging.getLogger(__name__)


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

    from tasks.fine_tuning.trainer.arguments import trainer_arguments
    from tasks.fine_tuning.trainer.fine_tuner import FineTuner
    from tasks.fine_tuning.trainer.progress import ProgressBar, ReportMetrics, ShowProgress

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
    from tasks.fine_tuning.trainer.interrupts import Interrupt, SealAndLeave
    from tasks.fine_tuning.trainer.progress import ShowProgress

    plan = trainer.plan
    asked: Asking = interrupt or Interrupt()
    trainer.add_callback(SealAndLeave(trainer, asked))
    if trainer.is_world_process_zero():
        if resume is not None:
            logger.info("resuming from %s", resume)
        logger.info("training on %s: %s of %s", describe_device(plan), plural(plan.steps, "step"), plan.method.name)
    try:
        with asked.deferred():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            trainer.settle_weights()
    finally:
        callback = trainer.pop_callback(ShowProgress)
        if isinstance(callback, ShowProgress):
            callback.shown.stop()


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


def describe_device(plan: Plan) -> str:
    """The hardware of a run in words: ``cpu, 2 threads`` or ``cuda, NVIDIA H200``, with the number of processes."""
    found = plan.made_for.accelerator if plan.device != "cpu" else plural(plan.threads, "thread")
    processes = f", {plan.world_size} processes" if plan.world_size > 1 else ""
    return f"{plan.device}, {found}{processes}" if found else f"{plan.device}{processes}"


def step_of(checkpoint: Path | None) -> int:
    """The step of a checkpoint; 0 without one."""
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0
