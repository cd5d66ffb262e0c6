"""Texts chosen for labelling against as many taken at random: accuracy of a classifier on held-out texts.

Rows of a labelled set play both the pool and, once chosen, the annotator. From a first round without labels on, each
round adds the same number of texts; the classifier (logistic regression on TF-IDF, or on the vectors of a sentence
model) then learns from all of them.

    python benchmarks/active_learning.py [--rows 4000] [--items 100] [--rounds 8] [--seeds 3]
    python benchmarks/active_learning.py --csv questions.csv --text text --label category
    python benchmarks/active_learning.py --embedder models/all-MiniLM-L6-v2
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.noisy_labels import read
from tasks.annotation.choose import choose_next, predict_labels
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.sentence_transformers import SentenceTransformers
from tasks.corpus.embedders.tfidf import Tfidf

HELD = 1000


def score(labelled: list[tuple[str, str]], held: list[str], truth: list[str], embedder: AnyEmbedder) -> float:
    """Accuracy on held-out texts."""
    texts, labels = map(list, zip(*labelled, strict=True))
    told = predict_labels(texts, labels, held, embedder, 0)
    return 0.0 if told is None else float(np.mean(told[1][told[0].argmax(axis=1)] == np.array(truth)))


def run(
    pairs: list[tuple[str, str]], items: int, rounds: int, seed: int, embedder: AnyEmbedder
) -> dict[str, list[float]]:
    """Accuracy after each round, per way of choosing."""
    order = random.Random(seed).sample(pairs, len(pairs))
    held, pool = order[:HELD], order[HELD:]
    texts, truth = [text for text, _ in held], [label for _, label in held]
    found: dict[str, list[float]] = {"chosen": [], "random": []}
    known: list[int] = []
    for turn in range(1, rounds + 1):
        labelled = [pool[place] for place in known]
        chosen = choose_next(
            [text for text, _ in pool],
            [text for text, _ in labelled],
            [label for _, label in labelled],
            [],
            items,
            embedder,
            seed=seed,
        )
        known += chosen.indices
        found["chosen"].append(score([pool[place] for place in known], texts, truth, embedder))
        found["random"].append(score(pool[: items * turn], texts, truth, embedder))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000, help="rows of the sample")
    parser.add_argument("--csv", help="a file of one's own instead of the sample")
    parser.add_argument("--json", help="a JSON or JSON Lines file of one's own")
    parser.add_argument("--text", default="text", help="column with the text")
    parser.add_argument("--label", default="label", help="column with the label")
    parser.add_argument("--items", type=int, default=100, help="texts labelled in a round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--embedder", help="folder of a sentence model that the choice and the classifier read by")
    arguments = parser.parse_args()
    embedder = SentenceTransformers(path=arguments.embedder) if arguments.embedder else Tfidf()
    pairs = list(zip(*read(arguments), strict=True))
    runs = [run(pairs, arguments.items, arguments.rounds, seed, embedder) for seed in range(arguments.seeds)]
    print(f"{len(pairs):,} texts, {len({label for _, label in pairs})} labels, mean of {arguments.seeds} seeds")
    for turn in range(arguments.rounds):
        chosen, taken = (float(np.mean([found[way][turn] for found in runs])) for way in ("chosen", "random"))
        print(
            f"{arguments.items * (turn + 1):6,} labelled: chosen {chosen:.3f}  random {taken:.3f}  "
            f"{chosen / max(taken, 1e-9):.3f} of random"
        )


if __name__ == "__main__":
    main()
