"""Pruned training rows against random ones of the same number: accuracy of a classifier on held-out rows.

The rows go through the stage's own cleaning, duplicates and split. Each method then keeps a share of the training rows,
a classifier of the labels (TF-IDF and logistic regression) learns from those alone, and answers the test rows. A
ratio above 1 means that the method's rows teach more than random ones. ``--flips`` gives that share of the training
rows a wrong label first.

    python benchmarks/pruning.py [--rows 3000] [--keep 0.1 0.3] [--seeds 3] [--flips 0.1]
    python benchmarks/pruning.py --csv requests.csv --text text --label category
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.corpus.label_classifier import fit_label_classifier
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.rows.rows import Rows, column_messages, join_turns
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.split import split_examples
from tasks.data_preparation.trainset.pruning import AnyPruner
from tasks.data_preparation.trainset.pruning.difficulty import Difficulty
from tasks.data_preparation.trainset.pruning.diversity import Diversity
from tasks.data_preparation.trainset.pruning.influence import Influence
from tasks.data_preparation.trainset.pruning.params import Pruning
from tasks.data_preparation.trainset.pruning.prune import prune_train
from tasks.data_preparation.trainset.pruning.random import Random

METHODS: dict[str, AnyPruner] = {
    "random": Random(),
    "difficulty, hard": Difficulty(take="hard", skip=0.05),
    "difficulty, middle": Difficulty(take="middle"),
    "difficulty, easy": Difficulty(take="easy"),
    "influence": Influence(),
    "diversity, cover": Diversity(take="cover"),
    "diversity, prototypes": Diversity(take="prototypes"),
    "diversity, outskirts": Diversity(take="outskirts"),
}


def prepare(arguments: argparse.Namespace) -> Rows:
    source = Sample(rows=arguments.rows, seed=1)
    if arguments.csv:
        path = Path(arguments.csv).resolve()
        fields = {"prompt": arguments.text, "answer": arguments.label}
        source = Csv.model_validate({"path": str(path), "label": arguments.label, "fields": fields})
    settings = DataPreparation(sources=(source,))
    rows = clean_rows(read_sources(settings.sources, "quarantine", Path()), settings.cleaning)
    return split_examples(remove_duplicates(rows, settings.duplicates), settings.split, settings.duplicates)


def flip(rows: Rows, share: float, seed: int) -> Rows:
    """Wrong labels for a share of the training rows."""
    rng = random.Random(seed)
    labels = rows.table["label"].to_pylist()
    every = sorted({label for label in labels if label is not None})
    splits = rows.table["split"].to_pylist()
    wrong = [
        rng.choice(every) if split == "train" and rng.random() < share else label
        for label, split in zip(labels, splits, strict=True)
    ]
    index = rows.table.schema.get_field_index("label")
    return replace(rows, table=rows.table.set_column(index, "label", pa.array(wrong, pa.string())))


def score(rows: Rows) -> float:
    """Accuracy on test of a classifier of the training rows."""
    splits = rows.table["split"].to_pylist()
    prompts = join_turns(column_messages(rows.table), ["user"])
    labels = rows.table["label"].to_pylist()
    train = [i for i, split in enumerate(splits) if split == "train"]
    test = [i for i, split in enumerate(splits) if split == "test" and labels[i] is not None]
    reader = fit_label_classifier([prompts[i] for i in train], [labels[i] for i in train])
    if reader is None:
        raise SystemExit("the training rows have fewer than two labels")
    return float(
        np.mean([a == labels[i] for a, i in zip(reader.predict([prompts[i] for i in test]), test, strict=True)])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3000, help="rows of the sample")
    parser.add_argument("--csv", help="a file of one's own instead of the sample")
    parser.add_argument("--text", default="text", help="its column with the prompt")
    parser.add_argument("--label", default="label", help="its column with the label")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flips", type=float, default=0.0, help="share of wrong labels in train")
    arguments = parser.parse_args()
    clean = prepare(arguments)
    print(f"{clean.table.num_rows:,} rows; all training rows: {score(clean):.4f}")
    for keep in arguments.keep:
        found: dict[str, list[float]] = {name: [] for name in METHODS}
        for seed in range(arguments.seeds):
            rows = flip(clean, arguments.flips, seed) if arguments.flips else clean
            for name, method in METHODS.items():
                found[name].append(score(prune_train(rows, Pruning(method=method, keep=keep, seed=seed))))
        base = float(np.mean(found["random"]))
        for name, scores in found.items():
            mean, spread = float(np.mean(scores)), float(np.std(scores))
            print(f"keep {keep:.0%}  {name:22} {mean:.4f} ± {spread:.4f}  {mean / base:.3f} of random", flush=True)


if __name__ == "__main__":
    main()
