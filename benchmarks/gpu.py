"""Training on one GPU: tokens a second, share of the arithmetic it could do, and peak memory against the prediction.

Models have random weights in the shapes of Qwen2.5-0.5B and Llama-3-8B, rows have random tokens, half of which carry
loss. Each configuration runs in a process of its own; one that does not fit is shown with the plan's refusal. The share
is of the peak in bf16, at 4 N operations a token where the base is frozen (forward, and back to the inputs) and 6 N
where all of it is trained; N are the weights without the embedding.

    python benchmarks/gpu.py [--only 8B] [--steps 12] [--peak-tflops 989]

About six minutes on a GPU of 140 GB. ``--smoke`` tries the script itself, on a minute model and a CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

GIB = 2**30
SHAPES: dict[str, dict[str, int]] = {
    "0.5B": {
        "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151_936,
    },
    "8B": {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14_336, "vocab_size": 128_256,
    },
    "minute": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "intermediate_size": 128, "vocab_size": 8192,
    },
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": {"name": "full"}},
    "LoRA": {"method": {"name": "lora", "rank": 16}},
    "QLoRA": {"method": {"name": "lora", "rank": 16}, "quantization": {"name": "nf4"}},
}
BATCH = {"0.5B": 8, "8B": 4, "minute": 2}
MAX_TOKENS = {"0.5B": 2048, "8B": 2048, "minute": 64}
# Dense bf16 operations a second, from the makers' data sheets.
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "RTX 4090": 165}
UNMEASURED_STEPS = 3


def write_model(shape: str, device: str, folder: Path) -> None:
    """Random weights in bf16, made on the device, with the embedded base's tokenizer and a manifest."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tasks.contracts.manifest import seal
    from tasks.language_models.folder.shape import describe_shape

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        config = LlamaConfig(**SHAPES[shape], max_position_embeddings=4096, tie_word_embeddings=shape != "8B")
        LlamaForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ROOT / "models/base" / name, folder / name)
    facts = {"tokenizer_class": "TokenizersBackend", "shape": describe_shape(folder, 4096).facts()}
    seal(folder, [path for path in folder.iterdir() if path.is_file()], {"reference": None, **facts})


def measure(shape: str, method: str, steps: int, initial: Path) -> dict[str, Any]:
    """Plan and train in this process."""
    import torch

    from benchmarks.memory import make_rows
    from tasks.contracts.errors import PipelineError
    from tasks.contracts.machine import find_machine
    from tasks.fine_tuning.train import fine_tune
    from tasks.language_models.folder.shape import read_shape
    from tasks.training_setup.params import TrainingSetup
    from tasks.training_setup.resolve import resolve_plan

    settings = TrainingSetup.model_validate(
        {
            **METHODS[method],
            "packing": "none",
            "batch_size": BATCH[shape],
            "max_tokens": MAX_TOKENS[shape],
            "max_steps": steps + UNMEASURED_STEPS,
            "learning_rate": 1e-5,
            "gradient_checkpointing": shape == "8B",
            "checkpoint_every": {"steps": 1_000_000},
            "evaluate_every": {"steps": 1_000_000},
            "log_every_steps": 1,
        }
    )
    found = read_shape(initial)
    rows = BATCH[shape] * (steps + UNMEASURED_STEPS)
    splits, counts = make_rows(rows, MAX_TOKENS[shape], found.vocabulary)
    try:
        resolution = resolve_plan(settings, found, counts, find_machine())
    except PipelineError as error:
        return {"refused": str(error)}
    times: dict[int, float] = {}
    with tempfile.TemporaryDirectory(dir=initial.parent) as place:
        fine_tune(
            resolution.plan,
            splits,
            initial,
            Path(place) / "checkpoints",
            Path(place) / "tuned",
            on_metrics=lambda step, _: times.setdefault(step, time.monotonic()),
        )
    seconds = times[max(times) - 1] - times[UNMEASURED_STEPS]
    tokens = (max(times) - 1 - UNMEASURED_STEPS) * BATCH[shape] * MAX_TOKENS[shape]
    weights = found.parameters - found.embedding_weights + found.vocabulary * found.hidden
    memory = resolution.memory
    return {
        "tokens_per_s": tokens / seconds,
        "operations": (6 if method == "full" else 4) * weights,
        "predicted": memory.total - memory.runtime,
        "measured": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "parts": vars(memory),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    }


def run(arguments: list[str]) -> dict[str, Any]:
    """This script in a process of its own; its last line is a JSON object."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failed": done.returncode}
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def show(name: str, found: dict[str, Any], peak: float | None) -> str:
    """One line of the table."""
    if "tokens_per_s" not in found:
        return f"{name:<14}{found.get('refused', 'failed')}"
    line = f"{name:<14}{found['tokens_per_s']:>10,.0f} tokens/s"
    if peak:
        line += f"{found['tokens_per_s'] * found['operations'] / peak:>8.1%} of the peak"
    if found["measured"]:
        predicted, measured = found["predicted"] / GIB, found["measured"] / GIB
        line += f"{predicted:>9.1f} GiB predicted{measured:>8.1f} measured, ratio {predicted / measured:.3f}"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a shape")
    parser.add_argument("--steps", type=int, default=12, help="measured optimizer steps")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 operations a second of this GPU, in 10^12")
    parser.add_argument("--parts", action="store_true", help="the parts of each prediction")
    parser.add_argument("--smoke", action="store_true", help="try the script on a minute model and a CPU")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        job, shape, folder = asked.work[0], asked.work[1], Path(asked.work[2])
        if job == "write":
            write_model(shape, asked.work[3], folder)
            print("{}")
        else:
            print(json.dumps(measure(shape, job, asked.steps, folder)))
        return
    import torch

    if not torch.cuda.is_available() and not asked.smoke:
        raise SystemExit("no GPU that PyTorch sees; run this on a machine with one, or try the script with --smoke")
    device = "cpu" if asked.smoke else "cuda"
    names = ["minute"] if asked.smoke else [name for name in ("0.5B", "8B") if asked.only in name]
    with tempfile.TemporaryDirectory() as place:
        for shape in names:
            run(["--work", "write", shape, str(Path(place) / shape), device])
            for method in METHODS:
                found = run(["--steps", str(asked.steps), "--work", method, shape, str(Path(place) / shape)])
                known = next((value for name, value in PEAK_TFLOPS.items() if name in found.get("device", "")), None)
                peak = asked.peak_tflops or known
                print(show(f"{shape} {method}", found, peak * 1e12 if peak else None), flush=True)
                if asked.parts and "parts" in found:
                    parts = {part: size for part, size in found["parts"].items() if size}
                    print("    " + ", ".join(f"{part} {size / GIB:.2f}" for part, size in parts.items()))


if __name__ == "__main__":
    main()
