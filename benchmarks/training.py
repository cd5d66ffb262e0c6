"""Training speed against plain TRL, in one run: same model, rows, method, precision and threads.

Every trainer sees the same conversations for the same number of epochs in a process of its own; the seconds are those
of the training loop alone. Rounds are interleaved, so that a load that comes and goes meets all of them; shown are the
median of the rounds and its spread.

    python benchmarks/training.py [--model embedded] [--methods full lora qlora] [--rivals trl trl_best]

Run it on an idle machine; on a busy one only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

SCRIPTS = Path(__file__).parent / "training_scripts"
RANK, MAX_TOKENS, BATCH_TOKENS = 16, 256, 1024


@dataclass(frozen=True)
class Trainer:
    """One trainer with one setting.

    Attributes:
        script: File below ``training_scripts``.
        setting: ``default``: as its own documentation starts it; ``best``: its best packing.
    """

    script: str
    setting: str = "default"


TRAINERS = {
    "heptune": Trainer("ours.py"),
    "trl": Trainer("plain_trl.py"),
    "trl_best": Trainer("plain_trl.py", "best"),
}


def make_model(kind: str, folder: Path) -> Path:
    """The embedded base, or a Llama of 135 million random weights with its tokenizer in a vocabulary of 49,152."""
    shutil.copytree(ROOT / "models" / "base", folder)
    if kind == "llama_135m":
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=49_152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_data(rows: int, file: Path) -> Path:
    """Conversations of the sample's shop, those without an empty turn."""
    from tasks.sample_shop.sample import generate_sample

    conversations = generate_sample(rows, seed=20261).table["messages"].to_pylist()
    whole = [turns for turns in conversations if all(turn["content"].strip() for turn in turns)]
    file.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in whole[:rows]))
    return file


def run(trainer: Trainer, job: dict[str, Any], folder: Path) -> dict[str, float]:
    """Train once in a process of its own."""
    folder.mkdir(parents=True)
    job_file, result = folder / "job.json", folder / "result.json"
    job_file.write_text(json.dumps({**job, "setting": trainer.setting, "result": str(result), "folder": str(folder)}))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(job["threads"]),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, SCRIPTS / trainer.script, job_file],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not result.is_file():
        raise SystemExit(f"{trainer.script} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(result.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["embedded", "llama_135m"], default="embedded")
    parser.add_argument("--methods", nargs="+", choices=["full", "lora", "qlora"], default=["full", "lora", "qlora"])
    parser.add_argument(
        "--rivals", nargs="+", choices=[name for name in TRAINERS if name != "heptune"], default=["trl", "trl_best"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    names = ["heptune", *options.rivals]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        job = {
            "model": str(make_model(options.model, folder / "model")),
            "data": str(make_data(options.rows, folder / "rows.jsonl")),
            "rank": RANK,
            "max_tokens": MAX_TOKENS,
            "batch_tokens": BATCH_TOKENS,
            "learning_rate": 1e-3,
            "epochs": 1,
            "threads": options.threads,
            "seed": 17,
        }
        for method in options.methods:
            results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for number in range(options.rounds):
                for name in names:
                    results[name].append(
                        run(TRAINERS[name], {**job, "method": method}, folder / f"{method}-{name}-{number}")
                    )
            show(f"{options.model}, {method}", results)


def show(title: str, results: dict[str, list[dict[str, float]]]) -> None:
    """Supervised tokens per second: median, lowest and highest; the ratio to ours; losses of first and last log."""
    tokens = results["heptune"][0]["supervised_tokens"]
    ours = statistics.median(tokens / found["seconds"] for found in results["heptune"])
    print(f"\n{title}: {tokens:,.0f} supervised tokens, {len(results['heptune'])} rounds")
    for name, found in results.items():
        speeds = sorted(tokens / one["seconds"] for one in found)
        middle = statistics.median(speeds)
        spread = f"({speeds[0]:.0f} to {speeds[-1]:.0f})"
        losses = f"loss {found[0]['first_loss']:.3f} -> {found[0]['loss']:.3f}"
        print(f"{name:<20}{middle:8.0f} tokens/s {spread:<16}heptune is {ours / middle:5.2f} x  {losses}")


if __name__ == "__main__":
    main()
