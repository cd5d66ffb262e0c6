"""LitGPT's `finetune_lora` and `finetune_full` with their defaults, or whole batches (``best``).

The model has the same shape and random weights of its own, since LitGPT reads no tied embeddings; input and output
embeddings are kept apart. It pads, scores every position, and sees the last answer of a conversation only.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any


def make_checkpoint(job: dict[str, Any], folder: Path) -> Path:
    """A checkpoint in LitGPT's own form, with random weights."""
    import torch
    from litgpt import Config
    from litgpt.model import GPT
    from litgpt.utils import save_config

    shape = json.loads((Path(job["model"]) / "config.json").read_text())
    config = Config(
        name="benchmark",
        block_size=512,
        vocab_size=shape["vocab_size"],
        padded_vocab_size=shape["vocab_size"],
        n_layer=shape["num_hidden_layers"],
        n_head=shape["num_attention_heads"],
        n_embd=shape["hidden_size"],
        n_query_groups=shape["num_key_value_heads"],
        intermediate_size=shape["intermediate_size"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(GPT(config).state_dict(), folder / "lit_model.pth")
    save_config(config, folder)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(job["model"]) / name, folder)
    return folder


def write_pairs(job: dict[str, Any], folder: Path) -> Path:
    rows = [json.loads(line)["messages"] for line in Path(job["data"]).read_text().splitlines()]
    folder.mkdir()
    pairs = [
        {
            "instruction": "".join(f"<|{turn['role']}|>{turn['content']}<|end|>" for turn in turns[:-1])
            + "<|assistant|>",
            "output": turns[-1]["content"],
        }
        for turns in rows
    ]
    (folder / "train.json").write_text(json.dumps(pairs))
    (folder / "val.json").write_text(json.dumps(pairs[:1]))
    return folder


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import JSON
    from litgpt.finetune import full, lora
    from litgpt.prompts import Default

    module = full if job["method"] == "full" else lora
    best = job["setting"] == "best"
    every_layer = {f"lora_{part}": True for part in ("query", "key", "value", "projection", "mlp")}
    special = {} if module is full else {"lora_r": job["rank"], "lora_alpha": 2 * job["rank"], **every_layer}
    ended: list[float] = []
    began: list[float] = []
    iterate, fit = module.CycleIterator, module.fit
    # LoRA ends with an answer to show, which is no training.
    module.generate_example = lambda *_, **__: ended.append(time.perf_counter())

    def watch(loader: object) -> object:
        began.append(time.perf_counter())
        return iterate(loader)

    def train(*arguments: object, **named: object) -> object:
        try:
            return fit(*arguments, **named)
        finally:
            ended.append(time.perf_counter())

    module.CycleIterator, module.fit = watch, train
    # What follows on the training reads a command line, which there is none of.
    module.save_hyperparameters = module.merge_lora = lambda *_, **__: None
    module.setup(
        checkpoint_dir=make_checkpoint(job, folder / "checkpoint"),
        out_dir=folder / "output",
        precision="bf16-mixed",
        data=JSON(json_path=write_pairs(job, folder / "data"), prompt_style=Default(), mask_prompt=True, num_workers=0),
        train=TrainArgs(
            save_interval=1_000_000,
            global_batch_size=job["rows_per_step"] if best else 16,
            micro_batch_size=job["rows_per_step"] if best else 1,
            lr_warmup_steps=1,
            epochs=job["epochs"],
            max_seq_length=job["max_tokens"],
        ),
        eval=EvalArgs(interval=1_000_000, max_new_tokens=1, max_iters=1, final_validation=False),
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": job["learning_rate"]}},
        seed=job["seed"],
        **special,
    )
    with sorted((folder / "output").rglob("metrics.csv"))[-1].open() as stream:
        losses = [float(line["loss"]) for line in csv.DictReader(stream) if line["loss"]]
    Path(job["result"]).write_text(json.dumps({"seconds": ended[0] - began[0], "losses": losses}))


if __name__ == "__main__":
    main()
