"""Objectives that learn by rewards, each with several seeds: the reward before and after, with its interval.

Two tasks. ``toy``: answers of at most four tokens on a model of some thousand weights that has never been trained,
worth 1 when they are empty or one character and less for every character more, so that the best policy is known.
``shop``: the embedded base and questions of the sample shop that name an order; an answer is worth 1 when it ends by
itself and names an order of the question exactly, and a half when it only ends. Nothing else teaches the model; how
often it does so before is what the base knows.

The reward is measured on prompts that are not trained on, one answer each, drawn with the same random numbers before
and after; the interval is that of the mean over the seeds (Student's t, 95%).

    python benchmarks/reinforcement.py --task toy
    python benchmarks/reinforcement.py --task shop
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.contracts.machine import find_machine
from tasks.contracts.records import EXAMPLES, content_id
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.shape import read_shape
from tasks.sample_shop.sample import generate_sample
from tasks.training_setup.counts import count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.fine_tuning.small import make_initial
from tests.tiny import example_rows, make_tiny_model

ROOT = Path(__file__).resolve().parents[1]
OBJECTIVES = ("grpo", "rloo", "ppo")
UNGUARDED = {"most_unfinished": None, "least_tokens": None, "most_flat": None}
SHOP_REWARD = """
import re

ORDER = re.compile(r"\\b[A-Z]\\d{4}\\b")


def names_order(answers, prompts, finished):
    values = []
    for answer, prompt, ended in zip(answers, prompts, finished):
        asked, said = set(ORDER.findall(prompt[-1]["content"])), set(ORDER.findall(answer))
        values.append(0.5 * ended + 0.5 * (ended and bool(said) and said <= asked))
    return values
"""
TASKS: dict[str, dict[str, Any]] = {
    "toy": {
        "rollout": {
            "samples": 8,
            "max_new_tokens": 4,
            "rewards": [{"name": "length", "unit": "characters", "at_least": 0, "at_most": 1, "slack": 16}],
        },
        "learning_rate": 6e-3,
        "steps": 60,
    },
    "shop": {
        "rollout": {
            "samples": 4,
            "max_new_tokens": 16,
            "rewards": [{"name": "function", "path": "rewards.py", "function": "names_order"}],
        },
        "learning_rate": 3e-4,
        "steps": 20,
    },
}


def read_toy(place: Path) -> tuple[Path, pa.Table, pa.Table]:
    initial = make_initial(make_tiny_model(place / "initial"))
    return initial, *(pa.Table.from_pylist(example_rows(n, seed), schema=EXAMPLES) for n, seed in ((64, 0), (64, 1)))


def read_shop(place: Path) -> tuple[Path, pa.Table, pa.Table]:
    """Single questions of the sample that name an order, each once."""
    import re
    import shutil

    initial = make_initial(Path(shutil.copytree(ROOT / "models/base", place / "initial")))
    table, rows = generate_sample(2000, 1, intents=12).table, {}
    for number, (messages, intent) in enumerate(
        zip(table["messages"].to_pylist(), table["intent"].to_pylist(), strict=True)
    ):
        named = re.search(r"\b[A-Z]\d{4}\b", messages[0]["content"] or "")
        if [turn["role"] for turn in messages] == ["user", "assistant"] and named:
            name = content_id(messages)
            rows[messages[0]["content"]] = {
                "id": name, "messages": messages, "source": "sample", "row": number, "label": intent, "cluster": name,
            }  # fmt: skip
    every = pa.Table.from_pylist(list(rows.values()), schema=EXAMPLES)
    return initial, every.slice(0, 400), every.slice(400, 64)


def train(
    name: str, seed: int, place: Path, rows: tuple[Path, pa.Table, pa.Table], arguments: argparse.Namespace
) -> Any:
    """One run; its rewards before and after, and what it took."""
    initial, train_rows, validation = rows
    task = TASKS[arguments.task]
    steps = arguments.steps or task["steps"]
    settings = TrainingSetup.model_validate(
        {
            "method": {"name": "full"},
            "objective": {
                "name": name,
                "rollout": {**task["rollout"], "updates": 1},
                "kl_weight": arguments.kl_weight,
                "guards": UNGUARDED,
            },
            "seed": seed,
            "learning_rate": task["learning_rate"],
            "schedule": {"name": "constant"},
            "packing": "none",
            "max_tokens": 128,
            "batch_size": 4,
            "max_steps": steps,
            "epochs": 1000,
            "threads": arguments.threads,
            "precision": "fp32",
            "checkpoint_every": {"steps": 1_000_000},
            "evaluate_every": {"steps": 1_000_000},
            "log_every_steps": 1,
        }
    )
    objective = settings.objective
    counts = count_tokens(train_rows, validation, initial, settings.max_tokens, objective=objective)
    plan = resolve_plan(settings, read_shape(initial), counts, find_machine()).plan
    splits = tokenize_splits(train_rows, validation, initial, settings.max_tokens, 64, objective=objective)
    began, cpu, shares = time.monotonic(), time.process_time(), list[float]()
    folder = place / f"{name}-{seed}"
    run = fine_tune(
        plan,
        splits,
        initial,
        folder / "checkpoints",
        folder / "tuned",
        on_metrics=lambda _, figures: shares.append(figures.get("generation_share", np.nan)),
    )
    rewards = [point.figures["eval_reward"] for point in run.curve if "eval_reward" in point.figures]
    return {
        "objective": name,
        "seed": seed,
        "before": rewards[0],
        "after": rewards[-1],
        "drawn": [round(point.figures["reward"], 3) for point in run.curve if "reward" in point.figures],
        "kl": run.curve[-1].figures.get("kl"),
        "entropy": run.curve[-1].figures["entropy"],
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
        "generation_share": float(np.nanmean(shares)),
    }


def describe(values: list[float]) -> str:
    """Mean and its interval over the seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="toy")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="optimizer steps of a run; that of the task by default")
    parser.add_argument("--kl-weight", type=float, default=0.001)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.chdir(place)  # functions of rewards lie inside the project
        Path("rewards.py").write_text(SHOP_REWARD)
        rows = read_toy(place) if arguments.task == "toy" else read_shop(place)
        found = []
        for seed in arguments.seeds:
            for name in arguments.objectives:
                found.append(train(name, seed, place, rows, arguments))
                print(json.dumps(found[-1]), flush=True)
    print(f"\n| {arguments.task} | reward before | after | KL, nats per answer | seconds | of it generation |")
    print("|---|---|---|---|---|---|")
    for name in arguments.objectives:
        own = [one for one in found if one["objective"] == name]
        kl = np.mean([one["kl"] for one in own]) if own[0]["kl"] is not None else float("nan")
        seconds, share = (np.mean([one[key] for one in own]) for key in ("seconds", "generation_share"))
        before, after = ([one[key] for one in own] for key in ("before", "after"))
        print(f"| `{name}` | {describe(before)} | {describe(after)} | {kl:.2f} | {seconds:.0f} | {share:.0%} |")


if __name__ == "__main__":
    main()
