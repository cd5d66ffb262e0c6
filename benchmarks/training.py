"""Training speed against other trainers, in one run: same model, rows, method, precision and threads.

Every trainer sees the same conversations for the same number of epochs in a process of its own, in an environment that
this script makes where it is not this project's; the seconds are those of the training loop alone. Rounds are
interleaved, so that a load that comes and goes meets all of them; shown are the median of the rounds and its spread.

    python benchmarks/training.py [--model embedded] [--methods full lora qlora] [--rivals trl trl_best ms_swift]
    python benchmarks/training.py --smoke           # one round of few rows against TRL: does everything start?
    python benchmarks/training.py --growth          # how time and memory grow with model, context and rows
    python benchmarks/training.py --to-loss         # seconds to a validation loss, against TRL
    python benchmarks/training.py --layouts         # what precision, compilation and padding cost on this CPU

Run it on an idle machine; on a busy one only the ratios mean something. The last three count processor seconds, so that
with ``--threads 1`` they mean something there too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from training_scripts.cost_to_loss import compare_costs
from training_scripts.growth import show_growth
from training_scripts.layouts import compare_layouts
from training_scripts.material import count_tokens, make_data, make_model, write_for_older_transformers
from training_scripts.trainers import ENVIRONMENTS, TRAINERS, run

RANK, MAX_TOKENS, BATCH_TOKENS = 16, 256, 1024
RIVALS = [name for name in TRAINERS if name != "heptune"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["embedded", "llama_135m"], default="embedded")
    parser.add_argument("--methods", nargs="+", choices=["full", "lora", "qlora"], default=["full", "lora", "qlora"])
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="folder of the rivals' environments")
    parser.add_argument("--smoke", action="store_true", help="one round of 20 rows, LoRA, against TRL")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--to-loss", action="store_true")
    parser.add_argument("--layouts", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.rows, options.methods, options.rivals = 1, 20, ["lora"], ["trl"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        job = make_job(options.model, options.rows, options.threads, folder)
        if options.growth:
            show_growth(job, folder)
        elif options.to_loss:
            compare_costs(job, folder)
        elif options.layouts:
            compare_layouts(job, options.rounds, folder)
        else:
            for method in options.methods:
                names = [n for n in ["heptune", *options.rivals] if method in TRAINERS[n].methods]
                compare(options.model, {**job, "method": method}, names, options.rounds, folder, options.environments)


def make_job(model: str, rows: int, threads: int, folder: Path) -> dict[str, Any]:
    """Model, data and settings that all trainers get."""
    made, data = make_model(model, folder / "model"), make_data(rows, folder / "rows.jsonl")
    return {
        "model": str(made),
        "older_model": str(write_for_older_transformers(made, folder / "older_model")),
        "data": str(data),
        "rank": RANK,
        "max_tokens": MAX_TOKENS,
        "batch_tokens": BATCH_TOKENS,
        "rows_per_step": max(1, round(BATCH_TOKENS * rows / count_tokens(made, data))),
        "learning_rate": 1e-3,
        "epochs": 1,
        "threads": threads,
        "seed": 17,
    }


def compare(model: str, job: dict[str, Any], names: list[str], rounds: int, folder: Path, environments: Path) -> None:
    """Train with all trainers, a round after the other, and show how they compare."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            results[name].append(run(name, job, folder / f"{job['method']}-{name}-{number}", environments))
            print(f"round {number + 1}, {name}: {results[name][-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    show(f"{model}, {job['method']}", results)


def show(title: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """Supervised tokens per second: median, lowest and highest; the ratio to ours; losses of first and last log."""
    tokens = results["heptune"][0]["supervised_tokens"]
    ours = statistics.median(tokens / found["seconds"] for found in results["heptune"])
    print(f"\n{title}: {tokens:,.0f} supervised tokens, {len(results['heptune'])} rounds")
    for name, found in results.items():
        speeds = sorted(tokens / one["seconds"] for one in found)
        middle = statistics.median(speeds)
        spread = f"({speeds[0]:.0f} to {speeds[-1]:.0f})"
        losses = f"loss {found[0]['losses'][0]:.3f} -> {found[0]['losses'][-1]:.3f}"
        print(f"{name:<20}{middle:8.0f} tokens/s {spread:<16}heptune is {ours / middle:5.2f} x  {losses}", flush=True)


if __name__ == "__main__":
    main()
