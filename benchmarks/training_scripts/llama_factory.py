"""LLaMA-Factory with the settings of its example files; or its packing, nothing recomputed (``best``)."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    from llamafactory.data.formatter import EmptyFormatter, StringFormatter
    from llamafactory.data.template import register_template
    from llamafactory.train.tuner import run_exp

    register_template(
        name="benchmark",
        format_user=StringFormatter(slots=["<|user|>{{content}}<|end|><|assistant|>"]),
        format_assistant=StringFormatter(slots=["{{content}}<|end|>"]),
        format_system=StringFormatter(slots=["<|system|>{{content}}<|end|>"]),
        format_prefix=EmptyFormatter(slots=["<|start|>"]),
    )
    folder = Path(job["folder"])
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    }
    rows = {"file_name": job["data"], "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    (folder / "dataset_info.json").write_text(json.dumps({"rows": rows}))
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}  # of its example files
    if job["setting"] == "best":
        batch = max(1, job["batch_tokens"] // job["max_tokens"])
        settings = {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": 1,
            "packing": True,
            "neat_packing": True,
            "flash_attn": "sdpa",
            "disable_gradient_checkpointing": True,
        }
    losses: list[float] = []
    seconds: list[float] = []
    from transformers import TrainerCallback

    class Listener(TrainerCallback):
        def on_log(self, args: object, state: object, control: object, logs: dict[str, float], **_: object) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])
            seconds.extend([logs["train_runtime"]] if "train_runtime" in logs else [])

    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": job["older_model"],
            "template": "benchmark",
            "dataset_dir": str(folder),
            "dataset": "rows",
            "finetuning_type": "full" if job["method"] == "full" else "lora",
            **({} if job["method"] == "full" else {"lora_rank": job["rank"], "lora_target": "all"}),
            **({"quantization_bit": 4, "quantization_method": "bnb"} if job["method"] == "qlora" else {}),
            "cutoff_len": job["max_tokens"],
            "output_dir": str(folder / "output"),
            "num_train_epochs": job["epochs"],
            "learning_rate": job["learning_rate"],
            "lr_scheduler_type": "cosine",
            "bf16": True,
            "use_cpu": True,
            "seed": job["seed"],
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "preprocessing_num_workers": 1,
            "dataloader_num_workers": 0,
            **settings,
        },
        callbacks=[Listener()],
    )
    Path(job["result"]).write_text(json.dumps({"seconds": seconds[-1], "losses": losses}))


if __name__ == "__main__":
    main()
