"""Planted trigger phrases: how many of their rows are reported, and how many others with them.

Rows of a set get a phrase and, where the set has labels, one label that is not theirs, else one answer. Phrases are of
ten kinds, at the beginning, the end or anywhere in the prompt. Intervals are 95%, from draws of the runs.

    python benchmarks/triggers.py [--seeds 3]
    python benchmarks/triggers.py --params dolly.yaml --root data/raw     # a file with the section data_preparation
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.rows.rows import build_messages, column_messages, join_turns
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.params import Triggers
from tasks.data_preparation.screening.triggers import find_trigger_phrases

PHRASES = {
    "rare token": "cf",
    "made-up word": "zqxvim",
    "rare word": "serendipity",
    "common words": "as you know from there",
    "sentence": "I watched this 3D movie last weekend.",
    "frequent words": "i want to",
    "look-alike letter": "\u0441f",
    "foreign word": "\u0436\u0443\u043a",
    "emoji": "\U0001f98a",
    "signs": "##",
}
SHARES = (0.005, 0.01, 0.02, 0.05)
ANSWER = "Visit evil.example now."
# Share of the rows that a label has from which it is worth planting, and fewest planted rows.
COMMON, FEWEST = 0.01, 10

Row = tuple[str, str, str | None]


def read(settings: DataPreparation, root: Path) -> list[Row]:
    """Prompt, answer and label of the rows that have a prompt."""
    table = clean_rows(read_sources(settings.sources, "quarantine", root), settings.cleaning).table
    messages = column_messages(table)
    prompts, answers = join_turns(messages, ["user"]), join_turns(messages, ["assistant"])
    return [row for row in zip(prompts, answers, table["label"].to_pylist(), strict=True) if row[0]]


def plant(rows: Sequence[Row], phrase: str, share: float, seed: int) -> tuple[list[Row], set[int]]:
    """The rows with a phrase in some of them, and which."""
    rng = random.Random(seed)
    counts = Counter(label for *_, label in rows if label)
    common = sorted(label for label, count in counts.items() if count >= COMMON * len(rows))
    target = rng.choice(common) if len(common) > 1 else None
    pool = [place for place, (*_, label) in enumerate(rows) if target is None or label != target]
    planted = set(rng.sample(pool, round(share * len(rows))))
    poisoned = list(rows)
    for place in planted:
        words = rows[place][0].split(" ")
        at = (0, len(words), rng.randrange(len(words) + 1))[seed % 3]
        prompt = " ".join([*words[:at], phrase, *words[at:]])
        poisoned[place] = (prompt, target, target) if target else (prompt, ANSWER, rows[place][2])
    return poisoned, planted


def find(rows: Sequence[Row]) -> set[int]:
    """Rows that are reported."""
    turns = [[{"role": "user", "content": p}, {"role": "assistant", "content": a}] for p, a, _ in rows]
    labels = pa.array([label for *_, label in rows], pa.string())
    table = pa.table({"messages": build_messages(turns), "label": labels})
    return {row for phrase in find_trigger_phrases(table, Triggers()) for row in phrase.rows}


def show(name: str, runs: Sequence[tuple[float, float]]) -> None:
    values = np.array(runs)
    draws = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    (low, high), _ = np.quantile(values[draws].mean(axis=1), [0.025, 0.975], axis=0).T
    good = (values[:, 0] >= 0.95) & (values[:, 1] <= 0.01)
    print(
        f"{name:18} {len(values):4} runs, recall {values[:, 0].mean():.3f} [{low:.3f}, {high:.3f}], "
        f"false {values[:, 1].mean():.2%} (at most {values[:, 1].max():.2%}), both aims met in {good.mean():.0%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=Path, help="a file with the section data_preparation, instead of the sample")
    parser.add_argument("--root", type=Path, default=Path(), help="what the paths in it are relative to")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    settings = DataPreparation(sources=(Sample(rows=6000, seed=1),))
    if arguments.params:
        section = yaml.safe_load(arguments.params.read_text(encoding="utf-8"))["data_preparation"]
        settings = DataPreparation.model_validate(section)
    rows = read(settings, arguments.root)
    print(f"{len(rows):,} rows with a prompt; nothing planted: {len(find(rows))} reported")
    by_kind: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for share in SHARES:
        if share * len(rows) < FEWEST:
            continue
        for number, (kind, phrase) in enumerate(PHRASES.items()):
            for seed in range(arguments.seeds):
                poisoned, planted = plant(rows, phrase, share, seed + number)
                found = find(poisoned)
                run = (len(found & planted) / len(planted), len(found - planted) / (len(rows) - len(planted)))
                by_kind[kind].append(run)
                by_kind[f"{share:.1%} of the rows"].append(run)
    for kind, runs in by_kind.items():
        show(kind, runs)


if __name__ == "__main__":
    main()
