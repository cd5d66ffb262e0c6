"""This project: planned, tokenized and trained by its own functions, without the engines around them."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import pyarrow as pa

from tasks.contracts.machine import find_machine
from tasks.contracts.records import EXAMPLES, content_id
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer import FineTuner
from tasks.language_models.shape import read_shape
from tasks.training_setup.counts import count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.fine_tuning.small import make_initial


class TimedTrainer(FineTuner):
    """Measures the training loop alone, as the rivals' ``train_runtime`` does."""

    seconds = 0.0

    def train(self, *arguments: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return super().train(*arguments, **named)
        finally:
            TimedTrainer.seconds = time.monotonic() - began


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
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
        }
    )
    initial = make_initial(Path(job["model"]))
    plan = resolve_plan(
        settings,
        read_shape(initial),
        count_tokens(table, table.slice(0, 0), initial, settings.max_tokens),
        find_machine(),
    ).plan
    splits = tokenize_splits(table, table.slice(0, 0), initial, settings.max_tokens, 1)
    with tempfile.TemporaryDirectory() as place:
        done = fine_tune(
            plan, splits, initial, Path(place) / "checkpoints", Path(place) / "tuned", trainer_class=TimedTrainer
        )
    losses = [point.loss for point in done.curve if point.loss is not None]
    supervised = int(splits.train.supervised)
    Path(job["result"]).write_text(
        json.dumps(
            {
                "seconds": TimedTrainer.seconds,
                "loss": losses[-1],
                "first_loss": losses[0],
                "supervised_tokens": supervised,
            }
        )
    )


if __name__ == "__main__":
    main()
