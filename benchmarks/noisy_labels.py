"""Planted wrong labels: how many of them are found, and how many right ones with them.

A share of the labels is exchanged for another one at random; ``data_preparation.noise`` then looks for them with its
defaults, against confident learning's own rule on the same probabilities. Labels that were wrong before count as right
here, so the false positives are an upper bound.

    python benchmarks/noisy_labels.py [--flips 0.01] [--seeds 3]
    python benchmarks/noisy_labels.py --csv questions.csv --text text --label category
    python benchmarks/noisy_labels.py --json pairs.json      # lists of [text, label]
    python benchmarks/noisy_labels.py --embedder models/all-MiniLM-L6-v2
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.corpus.embedders.sentence_transformers import SentenceTransformers
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import cross_fit, find_confident, find_suspects
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.rows.rows import column_messages, join_turns


def read(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Distinct texts with their labels."""
    source: Sample | Csv | Jsonl = Sample(rows=arguments.rows, seed=1)
    if arguments.csv:
        fields = {"prompt": arguments.text, "answer": arguments.label}
        path = str(Path(arguments.csv).resolve())
        source = Csv.model_validate({"path": path, "label": arguments.label, "fields": fields})
    elif arguments.json:
        source = Jsonl(path=str(Path(arguments.json).resolve()))
    table = read_sources([source], "quarantine", Path()).table
    pairs = zip(join_turns(column_messages(table), ["user"]), table["label"].to_pylist(), strict=True)
    distinct = {text.casefold(): (text, label) for text, label in pairs if label}
    return [text for text, _ in distinct.values()], [label for _, label in distinct.values()]


def flip(labels: list[str], share: float, seed: int) -> tuple[list[str], set[int]]:
    """Labels of which a share is another, and which ones."""
    rng = random.Random(seed)
    classes = sorted(set(labels))
    planted = set(rng.sample(range(len(labels)), round(share * len(labels))))
    return [
        rng.choice([other for other in classes if other != label]) if row in planted else label
        for row, label in enumerate(labels)
    ], planted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=6000, help="rows of the sample")
    parser.add_argument("--csv", help="a file of one's own instead of the sample")
    parser.add_argument("--json", help="a JSON or JSON Lines file of one's own")
    parser.add_argument("--text", default="text", help="column with the text")
    parser.add_argument("--label", default="label", help="column with the label")
    parser.add_argument("--flips", type=float, default=0.01, help="share of the labels that is exchanged")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--embedder", help="folder of a sentence model, whose vectors are read too")
    arguments = parser.parse_args()
    embedder = SentenceTransformers(path=arguments.embedder) if arguments.embedder else None
    texts, labels = read(arguments)
    print(f"{len(texts):,} texts, {len(set(labels))} labels, {arguments.flips:.1%} exchanged")
    for seed in range(arguments.seeds):
        given, planted = flip(labels, arguments.flips, seed)
        began = time.monotonic()
        found = find_suspects(texts, given, Noise(embedder=embedder))
        seconds = time.monotonic() - began
        hits = len(planted & set(found.places))
        false = (len(found.places) - hits) / (len(texts) - len(planted))
        right = sum(
            labels[row] == label for row, label in zip(found.places, found.suggested, strict=True) if row in planted
        )
        classes = sorted(set(given))
        truth = np.array([classes.index(label) for label in given])
        beside = set(np.flatnonzero(find_confident(cross_fit(texts, truth, 0, embedder), truth)).tolist())
        print(
            f"seed {seed}: {hits / len(planted):.1%} of {len(planted)} found (estimated {found.recall:.1%}), "
            f"{false:.2%} false (estimated {found.false_positives:.2%}), "
            f"true label suggested {right / max(hits, 1):.0%}, "
            f"{seconds:.1f} s; confident learning's rule {len(planted & beside) / len(planted):.1%}, "
            f"{len(beside - planted) / (len(texts) - len(planted)):.2%} false",
            flush=True,
        )


if __name__ == "__main__":
    main()
