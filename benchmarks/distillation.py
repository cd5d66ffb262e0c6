"""A small student with and without its teacher, on the same rows, steps and seeds.

In a checkout after `make demo`: the teacher is the release, the student every third block of the embedded base, both
trained on the prepared rows. Shown are the validation loss, cross-entropy in nats per token, of each way to train, and
its difference to plain supervised training with the 95% interval over the seeds (Student's t, paired). With ``--warm``
the student has been trained on the rows for so many steps before: a student that knows nothing writes nothing of use,
and bounded divergences teach it little.

    python benchmarks/distillation.py [--checkout .] [--seeds 3] [--steps 60] [--warm 0] [--layers 2] [--ways gkd ...]
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CONVERSATIONS = 11  # that three packed rows of the sample have on average, the batch of the default params
# Of Student's distribution, two-sided 95%, for 2 to 9 seeds.
QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}


def objectives(teacher: Path, store: Path) -> dict[str, dict[str, Any]]:
    """Ways to train the student; the first is what the others are compared with."""
    common = {"name": "distillation", "teacher": str(teacher), "keep": 32, "store": str(store)}
    return {
        "supervised": {"name": "supervised"},
        "forward KL": common,
        "forward KL and cross-entropy, halves": {**common, "share": 0.5},
        "reverse KL": {**common, "divergence": "reverse_kl"},
        "Jensen-Shannon, beta 0.5": {**common, "divergence": "jensen_shannon"},
        "gkd: Jensen-Shannon, half of the steps on answers of its own": {
            "name": "gkd",
            "teacher": str(teacher),
            "on_policy": 0.5,
            "answers": {"max_new_tokens": 40},
        },
    }


def make_student(base: Path, folder: Path, layers: int) -> Path:
    """The base with evenly chosen blocks, the first among them, as model initialisation would leave it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    whole: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = AutoConfig.from_pretrained(base)
    chosen = [number * config.num_hidden_layers // layers for number in range(layers)]
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[number] for number in chosen]
    student: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    states = whole.state_dict()
    kept = {name: states[name] for name in states if ".layers." not in name}
    for new, old in enumerate(chosen):
        before, after = f".layers.{old}.", f".layers.{new}."
        kept |= {name.replace(before, after): states[name] for name in states if before in name}
    student.load_state_dict(kept)
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors", "manifest.json", "config.json"))
    return seal_student(student, base, folder)


def warm_up(checkout: Path, student: Path, steps: int, folder: Path) -> Path:
    """The student after plain supervised training, as model initialisation would leave it."""
    from tasks.training.tuned import load_tuned

    train(checkout, student, {"name": "supervised"}, 100, steps, folder / "warm")
    model, _ = load_tuned(student, folder / "warm/tuned")
    warmed = folder / "warmed"
    shutil.copytree(student, warmed, ignore=shutil.ignore_patterns("*.safetensors", "manifest.json"))
    return seal_student(model, student, warmed)


def seal_student(student: Any, base: Path, folder: Path) -> Path:
    """Write a student's weights beside its tokenizer, with the facts of its base."""
    from tasks.contracts.manifest import read_manifest, seal
    from tasks.language_models.folder.shape import describe_shape

    student.save_pretrained(folder)
    facts = {key: value for key, value in read_manifest(base).items() if key not in ("files", "shape", "reference")}
    shape = describe_shape(folder, facts.get("context", 512)).facts()
    files = [path for path in folder.iterdir() if path.is_file()]
    seal(folder, files, {**facts, "reference": None, "shape": shape})
    return folder


def train(checkout: Path, student: Path, objective: dict[str, Any], seed: int, steps: int, folder: Path) -> float:
    """The last validation loss of one training."""
    import yaml

    from tasks.contracts.machine import find_machine
    from tasks.contracts.tables import read_examples
    from tasks.fine_tuning.rows import tokenize_splits
    from tasks.fine_tuning.train import fine_tune
    from tasks.language_models.folder.shape import read_shape
    from tasks.training_setup.counts import count_tokens
    from tasks.training_setup.params import TrainingSetup
    from tasks.training_setup.resolve import resolve_plan

    params = yaml.safe_load((checkout / "params.yaml").read_text(encoding="utf-8"))["training_setup"]
    params |= {
        "objective": objective,
        "seed": seed,
        "max_steps": steps,
        "evaluate_every": {"steps": steps},
        "threads": 1,
    }
    if objective["name"] == "gkd":  # as many conversations a step, which it does not pack
        params |= {"packing": "none", "batch_size": CONVERSATIONS}
    setup = TrainingSetup.model_validate(params)
    rows, held_out = (read_examples(checkout / "data/prepared" / f"{name}.parquet") for name in ("train", "validation"))
    counts = count_tokens(rows, held_out, student, setup.max_tokens, setup.long_rows, setup.objective)
    plan = resolve_plan(setup, read_shape(student), counts, find_machine()).plan
    splits = tokenize_splits(rows, held_out, student, plan.max_tokens, 128, None, plan.long_rows, False, plan.objective)
    run = fine_tune(plan, splits, student, folder / "checkpoints", folder / "tuned")
    return next(point.eval_loss for point in reversed(run.curve) if point.eval_loss is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=ROOT)
    parser.add_argument("--seeds", type=int, default=3, choices=sorted(QUANTILES))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warm", type=int, default=0)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=[""], help="words of the names of those that are tried")
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student = make_student(checkout / "models/initial", folder / "student", options.layers)
        if options.warm:
            student = warm_up(checkout, student, options.warm, folder)
        ways = objectives(checkout / "models/release/model", folder / "kept")
        first_way = next(iter(ways))
        ways = {
            name: way for name, way in ways.items() if name == first_way or any(word in name for word in options.ways)
        }
        for way, objective in ways.items():
            for seed in range(options.seeds):
                started = time.process_time()
                loss = train(checkout, student, objective, seed, options.steps, folder / f"{way} {seed}")
                found.setdefault(way, []).append(loss)
                print(f"{way}, seed {seed}: {loss:.4f}, {time.process_time() - started:.0f} CPU s", file=sys.stderr)
    print("| objective | validation loss | difference to supervised, 95% interval |\n|---|---|---|")
    first = next(iter(found.values()))
    for way, losses in found.items():
        differences = [one - other for one, other in zip(losses, first, strict=True)]
        shown = ""
        if losses is not first:
            middle = statistics.fmean(differences)
            half = QUANTILES[len(losses)] * statistics.stdev(differences) / math.sqrt(len(losses))
            shown = f"{middle:+.4f} [{middle - half:+.4f}, {middle + half:+.4f}]"
        print(f"| {way} | {statistics.fmean(losses):.4f} | {shown} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
