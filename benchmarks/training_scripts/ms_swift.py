"""ms-swift as its page shows it, with its defaults; or whole batches, lengths together, nothing recomputed (``best``).

Its packing needs flash attention, which a CPU has not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    from swift import SftArguments, sft_main
    from swift.template import TemplateMeta, register_template

    register_template(
        TemplateMeta(
            "benchmark",
            prefix=["<|start|>"],
            prompt=["<|user|>{{QUERY}}<|end|><|assistant|>"],
            chat_sep=["<|end|>"],
            suffix=["<|end|>"],
            system_prefix=["<|start|><|system|>{{SYSTEM}}<|end|>"],
        )
    )
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16}  # its page's and its default
    if job["setting"] == "best":
        settings = {"per_device_train_batch_size": job["rows_per_step"], "gradient_accumulation_steps": 1}
    bits = {"quant_method": "bnb", "quant_bits": 4, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    done = sft_main(
        SftArguments(
            model=job["older_model"],
            model_type="llama",
            template="benchmark",
            dataset=[job["data"]],
            tuner_type="full" if job["method"] == "full" else "lora",
            lora_rank=job["rank"],
            lora_alpha=2 * job["rank"],
            target_modules=["all-linear"],
            torch_dtype="bfloat16",
            num_train_epochs=job["epochs"],
            learning_rate=job["learning_rate"],
            max_length=job["max_tokens"],
            seed=job["seed"],
            split_dataset_ratio=0,
            output_dir=f"{job['folder']}/output",
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            gradient_checkpointing=job["setting"] == "default",
            group_by_length=job["setting"] == "best",
            dataloader_num_workers=0,
            **settings,
            **(bits if job["method"] == "qlora" else {}),
        )
    )
    history = done["log_history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    seconds = next(entry["train_runtime"] for entry in reversed(history) if "train_runtime" in entry)
    Path(job["result"]).write_text(json.dumps({"seconds": seconds, "losses": losses}))


if __name__ == "__main__":
    main()
