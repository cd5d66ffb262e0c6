"""This project: planned, tokenized and trained by its own functions, without the engines around them."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import pyarrow as pa
import torch
from training_scripts.validation import LossClock

from tasks.contracts.machine import find_machine
from tasks.contracts.records import EXAMPLES, content_id
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.fine_tuner import FineTuner
from tasks.language_models.folder.shape import read_shape
from tasks.training_setup.counts import count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.fine_tuning.small import make_initial


class TimedTrainer(FineTuner):
    """Measures the training loop alone, as the rivals' ``train_runtime`` does, without the checkpoint at its end, which
    they are told not to write; in a layout of the job's."""

    seconds = cpu_seconds = 0.0
    saving, cpu_saving = 0.0, 0.0
    job: ClassVar[dict[str, Any]] = {}
    clock: LossClock

    def train(self, *arguments: Any, **named: Any) -> Any:
        if self.job.get("bf16_weights"):
            self.model.to(torch.bfloat16)
        if self.job.get("compile"):
            for block in self.model.get_decoder().layers:
                block.compile(dynamic=False)
        TimedTrainer.clock = LossClock(self.job)
        self.add_callback(TimedTrainer.clock)
        used = cpu_time()
        done = super().train(*arguments, **named)
        TimedTrainer.seconds = done.metrics["train_runtime"] - self.saving
        TimedTrainer.cpu_seconds = cpu_time() - used - self.cpu_saving
        return done

    def _save_checkpoint(self, *arguments: Any) -> None:
        began, used = time.monotonic(), cpu_time()
        super()._save_checkpoint(*arguments)
        self.saving += time.monotonic() - began
        self.cpu_saving += cpu_time() - used


def cpu_time() -> float:
    """Processor seconds of this process and of compilers that it started; another load does not show in them."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    job = TimedTrainer.job = json.loads(Path(sys.argv[1]).read_text())
    rows = [json.loads(line) for line in Path(job["data"]).read_text().splitlines()]
    table = pa.Table.from_pylist(
        [{"id": content_id(row["messages"]), "source": "benchmark", **row} for row in rows], schema=EXAMPLES
    )
    methods: dict[str, dict[str, Any]] = {
        "full": {"method": {"name": "full"}},
        "lora": {"method": {"name": "lora", "rank": job["rank"]}},
        "qlora": {"method": {"name": "lora", "rank": job["rank"]}, "quantization": {"name": "nf4"}},
    }
    settings = TrainingSetup.model_validate(
        {
            **methods[job["method"]],
            "learning_rate": job["learning_rate"],
            "max_tokens": job["max_tokens"],
            "batch_size": max(1, job["batch_tokens"] // job["max_tokens"]),
            "epochs": job["epochs"],
            "threads": job["threads"],
            "seed": job["seed"],
            "checkpoint_every": {"steps": 1_000_000},
            "evaluate_every": {"steps": 1_000_000},
            "log_every_steps": 1,
            "optimizer": {"name": "adamw", "fused": True},
            **job.get("settings", {}),
        }
    )
    initial = make_initial(Path(job["model"]), job["max_tokens"])
    plan = resolve_plan(
        settings,
        read_shape(initial),
        count_tokens(table, table.slice(0, 0), initial, settings.max_tokens, settings.long_rows),
        find_machine(),
    ).plan
    splits = tokenize_splits(table, table.slice(0, 0), initial, settings.max_tokens, 1, long_rows=settings.long_rows)
    with tempfile.TemporaryDirectory() as place:
        done = fine_tune(
            plan, splits, initial, Path(place) / "checkpoints", Path(place) / "tuned", trainer_class=TimedTrainer
        )
    Path(job["result"]).write_text(
        json.dumps(
            {
                "seconds": TimedTrainer.seconds,
                "cpu_seconds": TimedTrainer.cpu_seconds,
                "losses": [point.loss for point in done.curve if point.loss is not None],
                "supervised_tokens": int(splits.train.supervised * plan.epochs),
                "tokens": int(splits.train.offsets[-1] * plan.epochs),
                "steps": done.steps,
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "predicted_gib": plan.predicted_memory_bytes / 2**30,
                "validated": TimedTrainer.clock.points,
            }
        )
    )


if __name__ == "__main__":
    main()
