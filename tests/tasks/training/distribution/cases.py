"""Every distribution trains with two methods and more, in the same two ranks: starting them costs most of the time."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tasks.contracts.manifest import write_json
from tasks.fine_tuning.launch.job import NAME, Job, read_job
from tasks.fine_tuning.rank import end_with_parent, joined, leave_reason, run_rank

METHODS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "lora": {"name": "lora", "rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj", "down_proj"]},
    "qlora": {"name": "lora", "rank": 4, "alpha": 8, "dropout": 0.0},
    # A part of the base alone, and one that changes every two steps, which shares of weights do not bear.
    "last_layers": {"name": "last_layers", "layers": 1},
    "half": {"name": "half", "every": {"steps": 2}},
}
# What else differs from the small plan: averages of the weights with one method, the weights themselves with the other.
CHANGES: dict[str, dict[str, Any]] = {
    "full": {}, "lora": {"ema_decay": 0.5}, "qlora": {"quantization": {"name": "nf4"}}, "last_layers": {}, "half": {},
}  # fmt: skip
# accelerate remembers DeepSpeed once it was used, so its cases come last, by name.
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "ddp": {"name": "ddp"},
    "fsdp": {"name": "fsdp"},
    "zero-1": {"name": "zero", "stage": 1},
    "zero-2": {"name": "zero", "stage": 2},
    "zero-3": {"name": "zero", "stage": 3},
}
# A whole table of them would take too long: what else goes together is known from these.
CASES = [
    *((distribution, method) for distribution in DISTRIBUTIONS for method in ("full", "lora")),
    ("fsdp", "last_layers"),
    ("zero-3", "last_layers"),
    ("zero-3", "qlora"),
    ("ddp", "half"),
]
# Of LoRA, in other bits; slow.
LORA = METHODS["lora"]
# The frozen base in bf16 too, as a plan has it by default.
BF16: dict[str, Any] = {"precision": "bf16", "quantization": {"name": "none"}}
MORE: dict[str, dict[str, Any]] = {
    "ddp-nf4": {"distribution": DISTRIBUTIONS["ddp"], "quantization": {"name": "nf4"}},
    "ddp-mezo": {"distribution": DISTRIBUTIONS["ddp"], "optimizer": {"name": "mezo"}, "clip_norm": 0.0},
    "ddp-bf16": {"distribution": DISTRIBUTIONS["ddp"], **BF16},
    "fsdp-bf16": {"distribution": DISTRIBUTIONS["fsdp"], **BF16},
    "fsdp-nf4": {"distribution": DISTRIBUTIONS["fsdp"], "quantization": {"name": "nf4"}},
    "fsdp-checkpointing": {"distribution": DISTRIBUTIONS["fsdp"], "gradient_checkpointing": True},
    "zero-2-nf4": {"distribution": DISTRIBUTIONS["zero-2"], "quantization": {"name": "nf4"}},
    "zero-2-bf16": {"distribution": DISTRIBUTIONS["zero-2"], **BF16, **CHANGES["lora"]},
    "zero-3-nf4": {"distribution": DISTRIBUTIONS["zero-3"], "quantization": {"name": "nf4"}},
    "zero-3-nf4-bf16": {"distribution": DISTRIBUTIONS["zero-3"], "quantization": {"name": "nf4"}, "precision": "bf16"},
    "zero-3-bf16": {"distribution": DISTRIBUTIONS["zero-3"], **BF16, **CHANGES["lora"]},
    "zero-3-checkpointing": {"distribution": DISTRIBUTIONS["zero-3"], "gradient_checkpointing": True},
}
# Of LoRA, with another objective than supervised learning, and what else differs.
OBJECTIVES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ddp-dpo": ("ddp", {"name": "dpo"}, {}),
    "ddp-kto": ("ddp", {"name": "kto"}, {}),
    "ddp-reward_model": ("ddp", {"name": "reward_model"}, {"quantization": {"name": "nf4"}}),
    "fsdp-dpo": ("fsdp", {"name": "dpo"}, {}),
    "zero-3-dpo": ("zero-3", {"name": "dpo"}, {}),
}
RANKS = 2
CHECKPOINT = 3


def run_cases(root: Path) -> None:
    """Run each case from the beginning and from the checkpoint in the middle; of ZeRO's, from there twice.

    The second time a rank reads its share as one of another number of ranks would.
    """
    import torch

    # In the order of their names, so that DeepSpeed's come last.
    jobs = [read_job(file.parent) for file in sorted(root.glob(f"*/{NAME}"))]
    with joined(jobs[-1].plan):
        for job in jobs:
            held = train(job)
            everyone: list[Any] = [None] * RANKS
            torch.distributed.all_gather_object(everyone, held)
            if torch.distributed.get_rank() == 0:
                write_json(job.folder / "held.json", everyone)
            keep(job, "whole")
            train(job)
            keep(job, "resumed")
            if job.plan.distribution.name == "zero":
                with patch("tasks.training.distribution.zero.count_ranks", return_value=0):
                    train(job)
                keep(job, "by_name")


def keep(job: Job, name: str) -> None:
    """What a run left, and the checkpoint in the middle alone; the ranks wait for that."""
    import torch

    if torch.distributed.get_rank() == 0:
        job.trained.rename(job.folder / f"{name}.safetensors")
        job.result.rename(job.folder / f"{name}.json")
        for checkpoint in job.checkpoints.glob("*/step-*"):
            if int(checkpoint.name[-6:]) > CHECKPOINT:
                shutil.rmtree(checkpoint)
    torch.distributed.barrier()


def train(job: Job) -> dict[str, int]:
    """Train, and count the numbers that this rank held, and the bytes of what was not trained."""
    from torch.distributed.tensor import DTensor

    trainer = run_rank(job)
    weights = states = frozen = 0
    for parameter in trainer.model.parameters():
        if not parameter.requires_grad:
            held = (
                parameter.to_local() if isinstance(parameter, DTensor) else getattr(parameter, "ds_tensor", parameter)
            )
            frozen += held.nbytes
            continue
        if hasattr(parameter, "ds_tensor"):
            weights += parameter.ds_tensor.numel()
        elif isinstance(parameter, DTensor):
            weights += parameter.to_local().numel()
        else:
            weights += parameter.numel()
    optimizer = trainer.optimizer
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    for state in optimizer.state.values():
        moments = state.get("exp_avg")
        if moments is not None:
            states += moments.to_local().numel() if isinstance(moments, DTensor) else moments.numel()
    return {"weights": weights, "optimizer": states, "frozen_bytes": frozen}


def main(work: Callable[[Path], None]) -> None:
    """Work as one of the ranks on the folder that it is given, and leave the reason of a failure there."""
    end_with_parent()
    importlib.import_module("tests.tasks.fine_tuning.preload")
    here = Path(sys.argv[1])
    try:
        work(here)
    except BaseException as error:
        leave_reason(here / f"error-{os.environ['RANK']}.json", int(os.environ["RANK"]), error)
        raise


if __name__ == "__main__":
    main(run_cases)
