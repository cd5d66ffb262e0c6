"""Run a plan: from the base and the tokenized splits to ``models/tuned``, by way of sealed checkpoints."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from safetensors import SafetensorError

from tasks.contracts.errors import PipelineError, raise_all, write_advice
from tasks.contracts.manifest import NAME, hash_file, seal
from tasks.fine_tuning.allocation import map_large_blocks
from tasks.fine_tuning.checkpoints import Checkpoints, RunOrigin, refusal
from tasks.fine_tuning.curve import Point, find_last_loss, read_curve
from tasks.fine_tuning.out_of_memory import survive_shortage
from tasks.fine_tuning.rows import Splits
from tasks.language_models import encoding, long_rows
from tasks.language_models.model_folder import load_tokenizer, resolve_model, set_generation_config
from tasks.training import answer_costs, losses, methods, optimizers, quantization, rows, schedules, stopping
from tasks.training.plan import Plan, check_machine
from tasks.training.quantization.measure import WeightPart, measure_weights
from tasks.training.rows import TokenizedRows

if TYPE_CHECKING:
    from tasks.fine_tuning.progress import OnMetrics
    from tasks.fine_tuning.trainer import FineTuner

logger = logging.getLogger(__name__)

DECIDING_MODULES = (
    "averaging.py",
    "batch_loss.py",
    "batches.py",
    "interrupts.py",
    "noise.py",
    "not_finite.py",
    "output_layer.py",
    "rows.py",
    "train.py",
    "trainer.py",
    "watch.py",
)
DECIDING_FOLDERS = (losses, methods, optimizers, quantization, schedules)
DECIDING_SHARED = (answer_costs, encoding, long_rows, rows, stopping)
LIBRARIES = ("accelerate", "peft", "tokenizers", "torch", "transformers", "trl")


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
        resumed_at: Step of the checkpoint that the run resumed from; 0 without one.
    """

    plan: Plan
    curve: tuple[Point, ...]
    steps: int
    kept_step: int
    trained: int
    weights: tuple[WeightPart, ...]
    bytes: int
    resumed_at: int

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
        on_trained: Gets the trainer when the last step is done, before anything is written.

    Raises:
        PipelineError: The plan does not fit this machine, the loss is not a number, memory ran out, or the disk is
            full.
    """
    raise_all(check_machine(plan) + _wrong_world_size(plan), "the plan cannot run here")
    if plan.release_freed_memory:
        map_large_blocks()
    store = Checkpoints(checkpoints, origin_of(plan, splits, initial), keep_checkpoints)
    with reproducible(plan):
        trainer = make_trainer(plan, splits, initial, store, on_metrics, trainer_class)
        resume = store.newest()
        if resume is not None:
            logger.info("resuming from %s", resume)
        logger.info("training on %s: %s steps of %s", describe_device(plan), f"{plan.steps:,}", plan.method.name)
        _train(trainer, resume)
        trainer.restore_kept()
        if on_trained:
            on_trained(trainer)
        run = Run(
            plan=plan,
            curve=tuple(read_curve(trainer.state.log_history)),
            steps=trainer.state.global_step,
            kept_step=trainer.kept_step,
            trained=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            weights=measure_weights(trainer.model),
            bytes=write_tuned(trainer, plan, store.origin, initial, tuned),
            resumed_at=int(resume.name.removeprefix("step-")) if resume else 0,
        )
    store.finish(run.steps)
    return run


def describe_device(plan: Plan) -> str:
    """The hardware of a run in words: ``cpu, 2 threads`` or ``cuda, NVIDIA H200``, with the number of processes."""
    found = plan.made_for.accelerator if plan.device != "cpu" else f"{plan.threads} threads"
    processes = f", {plan.world_size} processes" if plan.world_size > 1 else ""
    return f"{plan.device}, {found}{processes}" if found else f"{plan.device}{processes}"


def _wrong_world_size(plan: Plan) -> list[str]:
    """Why the number of processes is not that of the plan; torchrun sets it in ``WORLD_SIZE``."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started == plan.world_size:
        return []
    return [
        f"the plan takes {plan.world_size} processes, but {started} started; set training_setup.processes: {started}"
    ]


def origin_of(plan: Plan, splits: Splits, initial: Path) -> RunOrigin:
    """Hashes of everything that decides about the weights and the curve of a run."""
    here = Path(__file__).parent
    code = hashlib.sha256()
    for file in (
        *(Path(str(module.__file__)) for module in DECIDING_SHARED),
        *(here / name for name in DECIDING_MODULES),
        *(file for folder in DECIDING_FOLDERS for file in sorted(Path(folder.__path__[0]).rglob("*.py"))),
    ):
        code.update(f"{file.parent.name}/{file.name} {hash_file(file)}\n".encode())
    own = {"" if plan.quantization.can.trained_base else "bitsandbytes", plan.optimizer.can.library} - {""}
    libraries = ",".join(f"{name}={version(name)}" for name in (*LIBRARIES, *sorted(own)))
    return RunOrigin(
        data=hash_rows(splits.train) + hash_rows(splits.validation),
        plan=hashlib.sha256(orjson.dumps(plan.model_dump(), option=orjson.OPT_SORT_KEYS)).hexdigest(),
        model=hash_file(initial / NAME),
        code=code.hexdigest(),
        libraries=libraries,
        world_size=plan.world_size,
    )


def hash_rows(rows: TokenizedRows) -> str:
    """SHA-256 over tokens, labels, row boundaries, and weights, classes and costs if there are any, 64 hex digits."""
    digest = hashlib.sha256()
    costs = rows.costs.arrays if rows.costs is not None else ()
    for array in (rows.tokens, rows.labels, rows.offsets, rows.weights, rows.classes, *costs):
        if array is not None:
            digest.update(array.tobytes())
            digest.update(b"\0")
    return digest.hexdigest()


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
    on_metrics: OnMetrics | None = None,
    trainer_class: type[FineTuner] | None = None,
) -> FineTuner:
    """The base as the plan holds it, adapted, in a trainer that is ready to start."""
    from transformers import PrinterCallback, set_seed
    from transformers.utils import logging as library_logging

    from tasks.fine_tuning.progress import LogProgress, ReportMetrics, ShowProgress
    from tasks.fine_tuning.trainer import FineTuner

    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar is enough
    set_seed(plan.seed)
    base = plan.quantization.load(resolve_model(initial), plan.precision, plan.device)
    set_generation_config(base, initial)
    base.config.use_cache = False
    listeners: list[OnMetrics] = [LogProgress(plan), *([on_metrics] if on_metrics else [])]
    callbacks: list[Any] = [ShowProgress(plan.steps), ReportMetrics(plan, listeners)]
    model = plan.method.adapt(base)
    trainer = (trainer_class or FineTuner)(model, load_tokenizer(initial), plan, splits, store, callbacks)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _train(trainer: FineTuner, resume: Path | None) -> None:
    from tasks.fine_tuning.interrupts import Interrupt, SealAndLeave
    from tasks.fine_tuning.progress import ShowProgress

    interrupt = Interrupt()
    trainer.add_callback(SealAndLeave(trainer, interrupt))
    try:
        with interrupt.deferred():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            trainer.settle_weights()
    finally:
        shown = trainer.pop_callback(ShowProgress)
        if isinstance(shown, ShowProgress):
            shown.stop()


def write_tuned(trainer: FineTuner, plan: Plan, origin: RunOrigin, initial: Path, tuned: Path) -> int:
    """Write what was trained, as the method saves it, and then the manifest.

    Returns:
        Size in bytes.

    Raises:
        PipelineError: The disk refused it; the checkpoints are untouched.
    """
    curve = [point for point in read_curve(trainer.state.log_history) if point.step <= trainer.kept_step]
    facts = {
        "method": plan.method.model_dump(),
        "quantization": plan.quantization.model_dump(),
        "base": origin.model,
        "data": origin.data,
        "plan": origin.plan,
        "batch_size": plan.batch_size,
        "accumulation_steps": plan.accumulation_steps,
        "libraries": origin.libraries,
        "steps": trainer.state.global_step,
        "kept_step": trainer.kept_step,
        "seed": plan.seed,
        "final_loss": find_last_loss(curve),
        "final_validation_loss": next((p.eval_loss for p in reversed(curve) if p.eval_loss is not None), None),
    }
    try:
        shutil.rmtree(tuned, ignore_errors=True)
        tuned.mkdir(parents=True)
        files = plan.method.save(trainer.model, tuned)
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
