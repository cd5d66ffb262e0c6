"""A small run: tiny base, a few dozen conversations, a dozen steps; also as a process of its own."""

from __future__ import annotations

import json
import logging
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine
from tasks.contracts.manifest import seal
from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.language_models.folder.shape import describe_shape, read_shape
from tasks.training.distribution.distribution import Layout
from tasks.training.methods.lora import Lora
from tasks.training.optimizers.adamw import AdamW
from tasks.training.plan import Plan
from tasks.training.quantization.none import Unquantized
from tests.tiny import example_rows

if TYPE_CHECKING:
    from tasks.fine_tuning.trainer.fine_tuner import FineTuner

STEPS = 12


def make_plan(**changes: Any) -> Plan:
    """LoRA with dropout, so that random states matter; a checkpoint every 4 steps, a log every 3."""
    values: dict[str, Any] = {
        "method": Lora(rank=4, alpha=8, dropout=0.1, targets=["q_proj", "v_proj", "down_proj"]),
        "loss": {"name": "cross_entropy"},
        "quantization": Unquantized(weights="fp32"),
        "seed": 3,
        "learning_rate": 1e-2,
        "schedule": {"name": "cosine"},
        "warmup_steps": 2,
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "optimizer": AdamW(),
        "parameter_groups": {},
        "batch_size": 4,
        "accumulation_steps": 1,
        "max_tokens": 128,
        "long_rows": "truncate_right",
        "packing": "none",
        "precision": "fp32",
        "gradient_checkpointing": False,
        "neftune_alpha": None,
        "ema_decay": None,
        "release_freed_memory": False,
        "on_nan": "stop",
        "nan_limit": 10,
        "divergence": None,
        "early_stopping": None,
        "keep": "last",
        "epochs": 1.0,
        "steps": STEPS,
        "threads": 1,
        "world_size": 1,
        "distribution": {"name": "single"},
        "device": "cpu",
        "checkpoint_every_steps": 4,
        "evaluate_every_steps": 5,
        "log_every_steps": 3,
        "examples": 40,
        "rows": 40,
        "tokens": 2000,
        "supervised_tokens": 1000,
        "steps_per_epoch": 10,
        "trainable_parameters": 1000,
        "predicted_memory_bytes": 1 << 20,
        "made_for": Machine(device="cpu", cores=1, memory_bytes=1 << 30, bf16=True),
    }
    return Plan.model_validate({**values, **changes})


def make_splits(initial: Path, rows: int = 40, seed: int = 0, max_tokens: int = 128) -> Splits:
    train = pa.Table.from_pylist(example_rows(rows, seed), schema=EXAMPLES)
    validation = pa.Table.from_pylist(example_rows(8, seed + 100), schema=EXAMPLES)
    return tokenize_splits(train, validation, initial, max_tokens, 8)


def make_full_trainer(initial: Path, folder: Path, **changes: Any) -> FineTuner:
    """A trainer of all weights on 12 conversations that has not begun, its checkpoints in ``folder``."""
    from tasks.fine_tuning.origin import origin_of
    from tasks.fine_tuning.trainer.start import make_trainer

    plan = make_plan(**{"method": {"name": "full"}, **changes})
    splits = make_splits(initial, rows=12)
    return make_trainer(plan, splits, initial, Checkpoints(folder, origin_of(plan, splits, initial), 1))


def make_initial(tiny_model: Path, context: int = 256) -> Path:
    """The tiny model as model initialisation leaves it."""
    files = [path for path in tiny_model.iterdir() if path.is_file() and path.name != "manifest.json"]
    shape = describe_shape(tiny_model, context)
    facts = {"tokenizer_class": "TokenizersBackend", "architecture": shape.architecture, "shape": shape.facts()}
    seal(tiny_model, files, {"reference": None, "context": context, **facts})
    return tiny_model


def run_small(initial: Path, folder: Path, options: dict[str, Any]) -> None:
    """Run the small plan in ``folder``; the body of a process that a test may kill.

    Logged steps go to ``steps.jsonl``, the log to ``log.txt``. ``slow_from`` holds checkpoints from that step on
    open for a minute before their last files are written; ``pause_s`` waits after each logged step;
    ``file_limit`` lets no file grow beyond so many bytes.
    """
    import resource

    from tasks.fine_tuning import report, train
    from tasks.fine_tuning.trainer.fine_tuner import FineTuner

    class Slow(FineTuner):
        def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
            super()._save_optimizer_and_scheduler(output_dir)
            if self.state.global_step >= options["slow_from"]:
                time.sleep(60)

    logging.basicConfig(level=logging.INFO, format="%(message)s", filename=folder / "log.txt", force=True)
    if "file_limit" in options:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["file_limit"], options["file_limit"]))
    plan = make_plan(**options.get("plan", {}))
    layout = Layout(
        plan.world_size, plan.batch_size, plan.accumulation_steps, plan.clip_norm, plan.precision, plan.device
    )
    plan = plan.model_copy(update={"distribution": plan.distribution.resolve(read_shape(initial), layout)})
    splits = make_splits(initial, seed=options.get("data_seed", 0))

    def on_metrics(step: int, values: Mapping[str, float]) -> None:
        with (folder / "steps.jsonl").open("a") as stream:
            stream.write(json.dumps([step, sorted(values)]) + "\n")
        time.sleep(options.get("pause_s", 0))

    try:
        run = train.fine_tune(
            plan,
            splits,
            initial,
            folder / "checkpoints",
            folder / "tuned",
            keep_checkpoints=3,
            on_metrics=on_metrics,
            trainer_class=Slow if "slow_from" in options else FineTuner,
        )
        report.write_report(run, splits, folder / "curve.json", folder / "index.html", folder / "metrics.json")
    except PipelineError as error:
        logging.getLogger(__name__).error("PipelineError: %s", error)
        sys.exit(1)
    logging.getLogger(__name__).info("resumed at %s", run.resumed_at)
    logging.getLogger(__name__).info("DeepSpeed imported: %s", "deepspeed" in sys.modules)


def start(
    initial: Path, folder: Path, options: dict[str, Any], body: Callable[[Path, Path, dict[str, Any]], None] = run_small
) -> BaseProcess:
    """`run_small`, or another body, in a process of its own, forked from one that has the libraries loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tasks.fine_tuning.preload"])
    process = context.Process(target=body, args=(initial, folder, options))
    process.start()
    return process


def finish(initial: Path, folder: Path, options: dict[str, Any] | None = None) -> int | None:
    """Run to the end; gives the exit code."""
    process = start(initial, folder, options or {})
    process.join(300)
    return process.exitcode


def wait_for(found: Callable[[], bool], process: BaseProcess) -> None:
    """Wait until something is there; fails when the process ends before."""
    until = time.monotonic() + 300
    while not found():
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
