"""Peak memory of training against what the plan predicts, each configuration in a process of its own.

The peak is the largest resident size of the process (``VmHWM``) above what it held before, with everything imported and
the training of a minute model behind it; the prediction is the plan's, without its part for the runtime. Models have
random weights, since memory does not depend on them. All train with ``release_freed_memory``, without which the C
library keeps some of what was freed; ``--keep`` trains without it. ``--changing`` has rows of changing length, a third
of ``max_tokens`` in the middle (log-normal, 0.6), which leaves more behind.

    python benchmarks/memory.py [--only NAME (fresh: those that nothing was fitted on)] [--keep] [--changing]
        [--steps 3] [--parts] [--seconds]

``--seconds`` shows the CPU seconds of a step too, to compare settings of the allocator; take more steps then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flows.wiring.settings import MEMORY  # noqa: E402

MIB = 2**20
SUPERVISED = 0.5
STEPS = 3
TINY = {"hidden": 64, "layers": 2, "intermediate": 128, "heads": 2, "vocabulary": 600}
SMALL = {"hidden": 192, "layers": 4, "intermediate": 512, "heads": 3, "vocabulary": 4096}
EMBEDDED = {"hidden": 320, "layers": 6, "intermediate": 864, "heads": 5, "vocabulary": 8192}
WIDE = {"hidden": 512, "layers": 3, "intermediate": 1376, "heads": 8, "vocabulary": 2048}
DEEP = {"hidden": 256, "layers": 10, "intermediate": 704, "heads": 4, "vocabulary": 6000}
BROAD = {"hidden": 448, "layers": 4, "intermediate": 1216, "heads": 7, "vocabulary": 16_000}
MANY_WORDS = {"hidden": 128, "layers": 3, "intermediate": 344, "heads": 2, "vocabulary": 49152}
LORA = {"name": "lora", "rank": 32}
FULL = {"name": "full"}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "small, full": {"model": SMALL, "method": FULL, "batch_size": 8, "max_tokens": 256},
    "small, LoRA": {"model": SMALL, "method": LORA, "batch_size": 16, "max_tokens": 256},
    "embedded, full, bf16, packed": {
        "model": EMBEDDED, "method": FULL, "batch_size": 3, "max_tokens": 256, "packing": "bfd", "precision": "bf16",
    },
    "embedded, full, packed": {
        "model": EMBEDDED, "method": FULL, "batch_size": 4, "max_tokens": 256, "packing": "bfd",
    },
    "embedded, full, bf16, checkpointing": {
        "model": EMBEDDED, "method": FULL, "batch_size": 16, "max_tokens": 256, "precision": "bf16",
        "gradient_checkpointing": True,
    },
    "embedded, full, SGD, long rows": {
        "model": EMBEDDED, "method": FULL, "batch_size": 2, "max_tokens": 512, "optimizer": {"name": "sgd"},
    },
    "embedded, full, accumulation": {
        "model": EMBEDDED, "method": FULL, "batch_size": 4, "max_tokens": 256, "accumulation_steps": 2,
    },
    "embedded, LoRA, bf16, packed": {
        "model": EMBEDDED, "method": LORA, "batch_size": 4, "max_tokens": 256, "packing": "bfd", "precision": "bf16",
    },
    "embedded, LoRA, bf16": {
        "model": EMBEDDED, "method": LORA, "batch_size": 8, "max_tokens": 256, "precision": "bf16",
    },
    "embedded, LoRA, checkpointing": {
        "model": EMBEDDED, "method": LORA, "batch_size": 16, "max_tokens": 256, "gradient_checkpointing": True,
    },
    "wide, LoRA": {"model": WIDE, "method": LORA, "batch_size": 4, "max_tokens": 256},
    "many words, full, Adafactor": {
        "model": MANY_WORDS, "method": FULL, "batch_size": 4, "max_tokens": 128, "optimizer": {"name": "adafactor"},
    },
}  # fmt: skip
# Not among those that the prediction was made from.
FRESH: dict[str, dict[str, Any]] = {
    "fresh: deep, full, bf16": {
        "model": DEEP, "method": FULL, "batch_size": 4, "max_tokens": 192, "precision": "bf16",
    },
    "fresh: deep, LoRA, packed": {
        "model": DEEP, "method": LORA, "batch_size": 2, "max_tokens": 384, "packing": "bfd",
    },
    "fresh: deep, full, Lion, accumulation": {
        "model": DEEP, "method": FULL, "batch_size": 6, "max_tokens": 128, "optimizer": {"name": "lion"},
        "accumulation_steps": 3,
    },
    "fresh: broad, full": {"model": BROAD, "method": FULL, "batch_size": 3, "max_tokens": 256},
    "fresh: broad, LoRA, bf16, checkpointing": {
        "model": BROAD, "method": LORA, "batch_size": 12, "max_tokens": 256, "precision": "bf16",
        "gradient_checkpointing": True,
    },
    "fresh: small, full, momentum, long rows": {
        "model": SMALL, "method": FULL, "batch_size": 3, "max_tokens": 768, "optimizer": {"name": "momentum"},
    },
}  # fmt: skip
CONFIGURATIONS |= FRESH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a part of a configuration's name")
    parser.add_argument("--keep", action="store_true", help="train without release_freed_memory")
    parser.add_argument("--parts", action="store_true", help="the parts of each prediction")
    parser.add_argument("--seconds", action="store_true", help="CPU seconds of a step too")
    parser.add_argument("--changing", action="store_true", help="rows of changing length")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of each training")
    asked = parser.parse_args()
    # As every command of the product has it, before PyTorch is imported.
    os.environ.update(MEMORY)
    names = [name for name in CONFIGURATIONS if asked.only in name]
    # Imported once; each process below begins as a copy of this one, which has trained nothing and has one thread.
    import_module("tasks.fine_tuning.trainer.fine_tuner")
    print(f"{'configuration':<40}{'predicted':>11}{'measured':>11}{'ratio':>8}" + " CPU s/step" * asked.seconds)
    ratios = []
    for name in names:
        found = run_apart(
            measure,
            {**CONFIGURATIONS[name], "release_freed_memory": not asked.keep, "changing": asked.changing},
            asked.steps,
        )
        ratios.append(found["predicted"] / found["measured"])
        shown = f"{found['predicted'] / MIB:>7.1f} MiB{found['measured'] / MIB:>7.1f} MiB{ratios[-1]:>8.3f}"
        print(f"{name:<40}{shown}" + (f"{found['seconds']:>8.3f}" if asked.seconds else ""), flush=True)
        if asked.parts:
            print("    " + ", ".join(f"{part} {size / MIB:.1f}" for part, size in found["parts"].items() if size))
    within = sum(abs(ratio - 1) <= 0.05 for ratio in ratios)
    print(f"{within} of {len(ratios)} within 5%, largest difference {max(abs(r - 1) for r in ratios):.1%}")


def run_apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function that runs in a process of its own."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(work, *arguments).result()


def measure(configuration: dict[str, Any], steps: int) -> dict[str, Any]:
    """Train in this process: bytes predicted and measured, seconds of a step."""
    with tempfile.TemporaryDirectory() as folder:
        # Whatever is set up at the first use is there before the floor is read.
        train({**configuration, "model": TINY, "batch_size": 1, "max_tokens": 32}, 2, Path(folder) / "tiny")
        (place := Path(folder) / "whole").mkdir()
        run_apart(write_model, configuration["model"], configuration["max_tokens"], place / "initial")
        floor = read_status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        began, trained = time.process_time(), train(configuration, steps, place)
        seconds = (time.process_time() - began) / steps
        return {"measured": read_status("VmHWM") - floor, "seconds": seconds, **trained}


def read_status(name: str) -> int:
    """Bytes of an entry of ``/proc/self/status``."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def train(configuration: dict[str, Any], steps: int, folder: Path) -> dict[str, Any]:
    """Plan and train a random model on random tokens; the prediction and its parts, bytes."""
    from tasks.contracts.machine import Machine
    from tasks.fine_tuning.train import fine_tune
    from tasks.language_models.folder.shape import read_shape
    from tasks.training_setup.params import TrainingSetup
    from tasks.training_setup.resolve import resolve_plan

    values = {name: value for name, value in configuration.items() if name not in ("model", "changing")}
    settings = TrainingSetup.model_validate(
        {
            "packing": "none",
            "precision": "fp32",
            "accumulation_steps": 1,
            "max_steps": steps,
            "threads": 1,
            **values,
        }
    )
    initial = folder / "initial"
    if not initial.exists():
        write_model(configuration["model"], settings.max_tokens, initial)
    shape, rows = read_shape(initial), settings.batch_size * settings.accumulation_steps * steps
    splits, counts = make_rows(rows, settings.max_tokens, shape.vocabulary, configuration["changing"])
    machine = Machine(device="cpu", cores=2, memory_bytes=2**36, bf16=True)
    resolution = resolve_plan(settings, shape, counts, machine)
    fine_tune(
        # The machine of the benchmark may be another one.
        resolution.plan.model_copy(update={"predicted_memory_bytes": MIB}),
        splits, initial, folder / "checkpoints", folder / "tuned",
    )  # fmt: skip
    memory = resolution.memory
    return {"predicted": memory.total - memory.runtime, "parts": vars(memory)}


def write_model(model: dict[str, int], context: int, folder: Path) -> None:
    """Write weights, the embedded base's tokenizer and a manifest."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tasks.contracts.manifest import seal
    from tasks.language_models.folder.shape import describe_shape

    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=model["vocabulary"],
            hidden_size=model["hidden"],
            intermediate_size=model["intermediate"],
            num_hidden_layers=model["layers"],
            num_attention_heads=model["heads"],
            num_key_value_heads=model["heads"],
            max_position_embeddings=context,
            tie_word_embeddings=True,
        )
    ).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ROOT / "models/base" / name, folder / name)
    facts = {"tokenizer_class": "TokenizersBackend", "shape": describe_shape(folder, context).facts()}
    seal(folder, [path for path in folder.iterdir() if path.is_file()], {"reference": None, **facts})


def make_rows(rows: int, max_tokens: int, vocabulary: int, changing: bool) -> tuple[Any, Any]:
    """Splits of rows, half of whose tokens carry loss, and their counts: full ones, or twice as many shorter ones."""
    import numpy as np

    from tasks.fine_tuning.rows import Splits, TokenizedRows
    from tasks.language_models.encoding import IGNORED
    from tasks.training_setup.counts import Counts

    random = np.random.default_rng(0)

    def draw(lengths: list[int]) -> TokenizedRows:
        tokens = random.integers(3, min(vocabulary, 500), sum(lengths))
        places = np.concatenate([np.arange(length) / length for length in lengths])
        labels = np.where(places < 1 - SUPERVISED, IGNORED, tokens)
        return TokenizedRows(tokens, labels, np.cumsum([0, *lengths]))

    lengths = [max_tokens] * rows
    if changing:
        drawn = random.lognormal(np.log(max_tokens / 3), 0.6, 2 * rows)
        lengths = np.clip(drawn, 8, max_tokens).astype(int).tolist()
    train_rows = draw(lengths)
    counts = Counts(
        rows=len(lengths), examples=len(lengths), cut=0, full_lengths=lengths, lengths=lengths, tokens=sum(lengths),
        supervised_tokens=train_rows.supervised, validation_examples=16,
    )  # fmt: skip
    return Splits(train_rows, draw([max_tokens] * 16)), counts


if __name__ == "__main__":
    main()
