"""TRL's `SFTTrainer` as its page shows it: default settings, or its best packing on a CPU (``setting: best``)."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from datasets import Dataset
from peft import LoraConfig
from training_scripts.validation import LossClock
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    best = job["setting"] == "best"
    settings = (
        {
            "packing": True,
            "packing_strategy": "bfd",
            "gradient_checkpointing": False,
            "per_device_train_batch_size": max(1, job["batch_tokens"] // job["max_tokens"]),
        }
        if best
        else {}
    )
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=torch.float32, quantization_config=quantized if job["method"] == "qlora" else None
    )
    with tempfile.TemporaryDirectory() as place:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=place,
                num_train_epochs=job["epochs"],
                learning_rate=job["learning_rate"],
                max_length=job["max_tokens"],
                assistant_only_loss=True,
                seed=job["seed"],
                use_cpu=True,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=Dataset.from_json(job["data"]),
            processing_class=tokenizer,
            peft_config=None
            if job["method"] == "full"
            else LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear"),
        )
        clock = LossClock(job)
        trainer.add_callback(clock)
        done = trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    Path(job["result"]).write_text(
        json.dumps({"seconds": done.metrics["train_runtime"], "losses": losses, "validated": clock.points})
    )


if __name__ == "__main__":
    main()
