"""LitGPT's `finetune_lora` and `finetune_full` with its defaults, on a model of the same shape with weights of its own.

It pads, scores every position, has no chat template and keeps input and output embeddings apart.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path


def make_checkpoint(job: dict[str, str], folder: Path) -> Path:
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


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import JSON
    from litgpt.finetune import full, lora

    rows = [json.loads(line)["messages"] for line in Path(job["data"]).read_text().splitlines()]
    data = folder / "data"
    data.mkdir()
    pairs = [
        {"instruction": "\n".join(t["content"] for t in turns[:-1]), "output": turns[-1]["content"]} for turns in rows
    ]
    (data / "train.json").write_text(json.dumps(pairs))
    (data / "val.json").write_text(json.dumps(pairs[:1]))
    module = full if job["method"] == "full" else lora
    losses: list[float] = []
    taken: list[float] = []
    fit = module.fit

    def timed(*arguments: object, **named: object) -> object:
        began = time.monotonic()
        result = fit(*arguments, **named)
        taken.append(time.monotonic() - began)
        return result

    module.fit = timed
    train = TrainArgs(
        save_interval=1_000_000,
        global_batch_size=16,
        micro_batch_size=1,
        lr_warmup_steps=1,
        epochs=job["epochs"],
        max_seq_length=job["max_tokens"],
    )
    every_layer = {f"lora_{part}": True for part in ("query", "key", "value", "projection", "mlp")}
    special = {} if module is full else {"lora_r": job["rank"], "lora_alpha": 2 * job["rank"], **every_layer}
    module.setup(
        checkpoint_dir=make_checkpoint(job, folder / "checkpoint"),
        out_dir=folder / "output",
        precision="bf16-mixed",
        data=JSON(json_path=data, mask_prompt=True, num_workers=0),
        train=train,
        eval=EvalArgs(
            interval=1_000_000, max_new_tokens=1, max_iters=1, initial_validation=False, final_validation=False
        ),
        seed=job["seed"],
        **special,
    )
    for line in sorted((folder / "output" / "logs").rglob("metrics.csv"))[-1].read_text().splitlines()[1:]:
        cells = [cell for cell in line.split(",") if cell]
        losses.append(float(cells[0]))
    Path(job["result"]).write_text(json.dumps({"seconds": taken[0], "loss": losses[-1], "first_loss": losses[0]}))


if __name__ == "__main__":
    main()
