"""How often a model prefers the better of two held-out answers, before and after training with each objective.

    python benchmarks/preferences.py --prepared data/prepared [--objectives dpo orpo] [--seeds 3] [--steps 60]
    python benchmarks/preferences.py --source pairs.jsonl.gz        # read, cleaned and split as stage 1 does it
    python benchmarks/preferences.py --json found.json              # goes on where it was ended

Trains the base of this checkout on the pairs of ``answers.parquet`` with low rank, a small budget and one seed after
another, and measures the pairs of the test split: the share whose better answer has the larger log-probability by
token, and the share that the objective's own reward has right (equal ones count half, so it is 0.5 before the first
step of an objective with a reference; of ``reward_model`` it is the reward of its head, and by token says nothing).
Supervised learning of the better answers on the same budget stands beside. The change by token is the mean over the
seeds, with the 95% interval of a bootstrap over the prompts, paired: each pair before and after.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

OBJECTIVES: dict[str, dict[str, Any]] = {
    "supervised": {"learning_rate": 1e-3},
    "dpo": {"learning_rate": 5e-4},
    "ipo": {"learning_rate": 5e-4},
    "orpo": {"learning_rate": 1e-3},
    "cpo": {"learning_rate": 5e-4},
    "simpo": {"learning_rate": 5e-4},
    "kto": {"learning_rate": 5e-4},
    "reward_model": {"learning_rate": 5e-4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="folder written by stage 1")
    parser.add_argument("--source", type=Path, help="a JSONL file of pairs, instead of --prepared")
    parser.add_argument("--initial", type=Path, default=Path("models/initial"), help="folder written by stage 2")
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--max-tokens", type=int, default=192)
    parser.add_argument("--pairs", type=int, default=None, help="most training rows")
    parser.add_argument("--json", type=Path, help="file of all figures; what it has of the same order is not repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(options.source, Path(folder)) if options.source else options.prepared
        tables = read_tables(prepared, options.pairs)
    order = {
        key: str(getattr(options, key)) for key in ("prepared", "source", "initial", "steps", "max_tokens", "pairs")
    }
    found: dict[str, Any] = {"order": order, "runs": {}}
    if options.json and options.json.is_file():
        found = json.loads(options.json.read_text())
        if found["order"] != order:
            sys.exit(f"{options.json} has figures of {found['order']}; expected {order}; name another file")
    for name in options.objectives:
        runs = found["runs"].setdefault(name, [])
        while len(runs) < options.seeds:
            runs.append(measure(name, len(runs), tables, options))
            if options.json:
                options.json.write_text(json.dumps(found, indent=1))
        show(name, runs[: options.seeds])


def show(name: str, runs: list[dict[str, Any]]) -> None:
    """A line of an objective."""
    before, after = (np.array([run[when] for run in runs]).mean(axis=1) for when in ("before", "after"))
    change, low, high = change_of(runs)
    own = [run["own"] for run in runs if run["own"] is not None]
    print(
        f"{name:11} {len(runs[0]['before'])} pairs: by token {before[0]:.3f} -> {describe(after.tolist())}, "
        f"change {change:+.3f} [{low:+.3f}, {high:+.3f}]" + (f", own reward {describe(own)}" if own else ""),
        flush=True,
    )


def change_of(runs: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Mean over the seeds of the change by token, and its 95% interval over the prompts."""
    from tasks.evaluation.bootstrap import replicate_means

    changes = np.array([np.subtract(run["after"], run["before"]) for run in runs]).mean(axis=0)
    drawn = replicate_means(changes[:, None], np.ones((len(changes), 1)), runs[0]["ids"], 10_000, 0)
    low, high = np.quantile(drawn[:, 0], (0.025, 0.975))
    return float(changes.mean()), float(low), float(high)


def prepare(source: Path, folder: Path) -> Path:
    """The splits and the answers of a file of pairs, by the steps and defaults of stage 1."""
    from tasks.contracts.records import EXAMPLES
    from tasks.contracts.tables import write_table
    from tasks.corpus.reading.answers import exclude_rejected, write_answers
    from tasks.corpus.reading.ingest import read_sources
    from tasks.corpus.reading.sources.jsonl import Jsonl
    from tasks.data_preparation.cleaning.clean import clean_rows
    from tasks.data_preparation.params import DataPreparation
    from tasks.data_preparation.screening.duplicates import remove_duplicates
    from tasks.data_preparation.splitting.split import split_examples

    settings = DataPreparation(sources=(Jsonl(path=str(source), title="pairs"),))
    rows = clean_rows(read_sources(settings.sources, "quarantine", Path()), settings.cleaning)
    rows = split_examples(remove_duplicates(rows, settings.duplicates), settings.split, settings.duplicates)
    rows = exclude_rejected(rows)
    write_answers(rows, folder / "answers.parquet")
    for split in ("train", "validation", "test"):
        own = rows.table.filter(pc.equal(rows.table["split"], split))
        write_table(own.select(EXAMPLES.names), folder / f"{split}.parquet", EXAMPLES)
    return folder


def describe(values: list[float]) -> str:
    """Mean and, of several, the smallest and the largest."""
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def read_tables(prepared: Path, limit: int | None) -> dict[str, pa.Table]:
    from tasks.contracts.records import ANSWER_SETS
    from tasks.contracts.tables import read_examples, read_table

    answers = read_table(prepared / "answers.parquet", ANSWER_SETS)
    compared = pc.greater(pc.list_value_length(answers["answers"]), 1)
    answers = answers.filter(compared)
    ids = pc.unique(answers["id"])
    tables = {"answers": answers}
    for split in ("train", "validation", "test"):
        examples = read_examples(prepared / f"{split}.parquet")
        # The same rows for supervised learning as for the others.
        tables[split] = examples.filter(pc.is_in(examples["id"], ids)).slice(0, limit if split == "train" else None)
    return tables


def measure(name: str, seed: int, tables: dict[str, pa.Table], options: argparse.Namespace) -> dict[str, Any]:
    """Train with one objective and seed, and measure the pairs of the test split before and after."""
    from tasks.contracts.machine import find_machine
    from tasks.fine_tuning.rows import Splits, tokenize_splits
    from tasks.fine_tuning.train import fine_tune
    from tasks.language_models.folder.model_folder import load_tokenizer
    from tasks.language_models.folder.shape import read_shape
    from tasks.training.objectives.answers import tokenize_pairs
    from tasks.training.objectives.data import Tokenization, split_tables
    from tasks.training_setup.counts import count_tokens
    from tasks.training_setup.params import TrainingSetup
    from tasks.training_setup.resolve import resolve_plan

    settings = TrainingSetup.model_validate(
        {
            "method": {"name": "lora", "rank": 16},
            "objective": {"name": name},
            "packing": "none",
            "batch_size": 4,
            "max_tokens": options.max_tokens,
            "max_steps": options.steps,
            "epochs": 100.0,
            "seed": seed,
            "precision": "fp32",
            "threads": 1,
            "divergence": None,
            "evaluate_every": {"steps": options.steps},
            "checkpoint_every": {"steps": options.steps},
            **OBJECTIVES[name],
        }
    )
    train, test, answers = tables["train"], tables["test"], tables["answers"]
    objective = settings.objective
    counts = count_tokens(train, test, options.initial, options.max_tokens, objective=objective, answers=answers)
    plan = resolve_plan(settings, read_shape(options.initial), counts, find_machine()).plan
    # Validation is of the held-out pairs; nothing is chosen by it.
    others = {"test": "validation", "validation": "unused", "train": "train"}
    place = answers.schema.get_field_index("split")
    moved = pa.array([others[split] for split in answers["split"].to_pylist()], pa.string())
    held_out = answers.set_column(place, answers.schema.field("split"), moved)
    splits = tokenize_splits(
        train, test, options.initial, options.max_tokens, 1 << 30, objective=plan.objective, answers=held_out
    )
    how = Tokenization(load_tokenizer(options.initial), options.max_tokens)
    pairs = tokenize_pairs(split_tables(test, answers, "test").answers, how, "best")
    after: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        before = prefer_by_token(make_base(plan, options.initial), pairs)
        run = fine_tune(
            plan, Splits(splits.train, splits.validation), options.initial, Path(folder) / "c", Path(folder) / "t",
            on_trained=lambda trainer: after.append(prefer_by_token(trainer.model, pairs)),
        )  # fmt: skip
    own = [point.figures["eval_accuracy"] for point in run.curve if "eval_accuracy" in point.figures]
    return {"ids": pairs.ids, "before": before, "after": after[0], "own": own[-1] if own else None}


def make_base(plan: Any, initial: Path) -> Any:
    from tasks.fine_tuning.trainer.start import make_model

    return make_model(plan, initial)


def prefer_by_token(model: Any, pairs: Any) -> list[float]:
    """Of each pair 1 where the better answer has the larger mean log-probability by token, 0.5 where they are equal."""
    import torch

    from tasks.fine_tuning.loss.batch_loss import BatchLoss
    from tasks.fine_tuning.loss.batches import collate, validation_batches
    from tasks.fine_tuning.loss.scorer import ModelScorer
    from tasks.training.losses.cross_entropy import CrossEntropy

    model.eval()
    scorer = ModelScorer(BatchLoss(model, False), model, CrossEntropy(), {}, 0, lambda _: None)  # type: ignore[arg-type,return-value]
    right = np.full(len(pairs), 0.5)
    with torch.no_grad():
        for batch in validation_batches(pairs.lengths.tolist(), 2048):
            found = scorer.log_probabilities(collate(pairs, batch, 0, packed=False))
            means = (found.sums() / found.lengths()).double().numpy()
            right[[row for rows in batch for row in rows]] += np.sign(means[0::2] - means[1::2]) / 2
    model.train()
    return [float(value) for value in right]


if __name__ == "__main__":
    main()
