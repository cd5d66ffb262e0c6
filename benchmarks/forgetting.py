"""What training costs of what a base knew: perplexity of the embedded base's own held-out text, before and after.

The embedded base learns the sample shop's conversations by each method, with the same rows, steps and learning rate,
once for each seed. Before and after it is asked for text that it was made with and that was held out then: novels and
news (``--corpus``, the folder that made it), and generated dialogues. Intervals are t intervals over the seeds; what is
compared with full fine-tuning is compared seed by seed.

    python benchmarks/forgetting.py --corpus FOLDER [--seeds 3] [--steps 30] [--json forgetting.json]
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import torch  # noqa: E402
from scipy.stats import t  # noqa: E402

from tasks.contracts.machine import find_machine  # noqa: E402
from tasks.contracts.manifest import seal  # noqa: E402
from tasks.contracts.records import EXAMPLES  # noqa: E402
from tasks.corpus.reading.ingest import read_sources  # noqa: E402
from tasks.corpus.reading.sources.sample import Sample  # noqa: E402
from tasks.data_preparation.cleaning.clean import clean_rows  # noqa: E402
from tasks.data_preparation.params import DataPreparation  # noqa: E402
from tasks.data_preparation.screening.duplicates import remove_duplicates  # noqa: E402
from tasks.data_preparation.splitting.split import split_examples  # noqa: E402
from tasks.fine_tuning.rows import tokenize_splits  # noqa: E402
from tasks.fine_tuning.train import fine_tune  # noqa: E402
from tasks.language_models.folder.model_folder import load_model, load_tokenizer  # noqa: E402
from tasks.language_models.folder.shape import describe_shape, read_shape  # noqa: E402
from tasks.model_initialisation.pretraining.corpus import (  # noqa: E402
    frequent_words,
    is_held_out,
    read_documents,
    sample_dialogues,
)
from tasks.training_setup.counts import count_tokens  # noqa: E402
from tasks.training_setup.params import TrainingSetup  # noqa: E402
from tasks.training_setup.resolve import resolve_plan  # noqa: E402

METHODS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "half": {"name": "half"},
    "half, embeddings frozen": {"name": "half", "outside": "frozen"},
    "last_layers": {"name": "last_layers", "layers": 2},
    "lora": {"name": "lora", "rank": 32},
}
WINDOW = 256  # tokens of a held-out text that are looked at together
TOKENS = 256
Windows = dict[str, list[list[int]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="folder with eltec_novels and digitalgov_news; without: dialogues")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows", type=int, default=600, help="rows of the sample")
    parser.add_argument("--validation", type=int, default=60, help="rows on which the task is measured")
    parser.add_argument("--windows", type=int, default=24, help=f"of {WINDOW} tokens, of each kind of text")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of all methods")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    arguments = parser.parse_args()
    torch.set_num_threads(find_machine().cores)
    with tempfile.TemporaryDirectory() as place:
        figures = measure(arguments, Path(place))
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Cross-entropy in nats per token of each kind of text, before and after each training."""
    initial = make_initial(place / "initial")
    train, validation = prepare_rows(arguments.rows)
    splits = tokenize_splits(train, validation, initial, TOKENS, arguments.validation)
    counts = count_tokens(train, validation, initial, TOKENS)
    windows = take_windows(arguments.corpus, load_tokenizer(initial), arguments.windows)
    base = load_model(initial).eval()
    figures: dict[str, Any] = {"before": losses_of(base, windows), "runs": []}
    print(figures["before"], flush=True)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name in arguments.methods:
            began = time.monotonic()
            settings = TrainingSetup.model_validate(
                {
                    "method": METHODS[name], "max_tokens": TOKENS, "batch_size": 3, "max_steps": arguments.steps,
                    "epochs": 20, "learning_rate": arguments.rate, "seed": seed,
                    "optimizer": {"name": "adamw", "fused": True},
                    "evaluate_every": {"steps": arguments.steps}, "checkpoint_every": {"steps": arguments.steps},
                }
            )  # fmt: skip
            plan = resolve_plan(settings, read_shape(initial), counts, find_machine()).plan
            run = fine_tune(plan, splits, initial, place / "checkpoints", place / "tuned")
            model = plan.method.load(initial, place / "tuned").eval()
            task = [point.eval_loss for point in run.curve if point.eval_loss is not None]
            found = {
                "method": name,
                "seed": seed,
                "task_before": task[0],
                "task": task[-1],
                **losses_of(model, windows),
            }
            print(f"{found}, {time.monotonic() - began:.0f} s", flush=True)
            figures["runs"].append(found)
            shutil.rmtree(place / "checkpoints")
    return figures


def make_initial(folder: Path) -> Path:
    """The embedded base as model initialisation leaves it."""
    shutil.copytree(ROOT / "models/base", folder)
    files = [path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"]
    shape = describe_shape(folder, 512)
    facts = {"reference": None, "context": 512, "tokenizer_class": "TokenizersBackend", "shape": shape.facts()}
    facts["architecture"] = shape.architecture
    seal(folder, files, facts)
    return folder


def prepare_rows(number: int) -> tuple[pa.Table, pa.Table]:
    """Training and validation rows of the sample shop, cleaned and without duplicates."""
    settings = DataPreparation(sources=(Sample(rows=number, intents=12, seed=20261),))
    rows = clean_rows(read_sources(settings.sources, "quarantine", Path()), settings.cleaning)
    table = split_examples(remove_duplicates(rows, settings.duplicates), settings.split, settings.duplicates).table
    columns = [name for name in EXAMPLES.names if name in table.column_names]
    train, test = (table.filter(pa.compute.equal(table["split"], split)).select(columns) for split in ("train", "test"))
    return train, test


def take_windows(corpus: Path | None, tokenizer: Any, number: int) -> Windows:
    """Windows of held-out text by its kind, spread evenly over it."""
    texts: dict[str, list[str]] = {}
    if corpus is not None:
        for kind, pattern in (("novels", "eltec_novels/*.jsonl.xz"), ("news", "digitalgov_news/*.jsonl.gz")):
            documents = (one for path in sorted(corpus.glob(pattern)) for one in read_documents(path))
            texts[kind] = [text[:100_000] for name, text in documents if is_held_out(name)]
    # Another seed than that of the base's recipe, so that none of them was seen.
    words = frequent_words(texts["news"]) if "news" in texts else ["stone", "river"]
    texts["dialogues"] = sample_dialogues(600, 4711, words)
    found: Windows = {}
    for kind, parts in texts.items():
        ids = tokenizer("\n".join(parts), add_special_tokens=False)["input_ids"]
        whole = [ids[start : start + WINDOW] for start in range(0, len(ids) - WINDOW, WINDOW)]
        found[kind] = list(islice(whole, 0, None, max(1, len(whole) // number)))[:number]
    return found


@torch.no_grad()
def losses_of(model: Any, windows: Windows) -> dict[str, float]:
    """Mean cross-entropy of each kind of text, nats per token."""
    return {kind: float(np.mean([window_loss(model, ids) for ids in parts])) for kind, parts in windows.items()}


def window_loss(model: Any, ids: Sequence[int]) -> float:
    tokens = torch.tensor([ids])
    return float(model(input_ids=tokens, labels=tokens, use_cache=False).loss)


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean and half the width of its 95% t interval; no width of a single value."""
    found = list(values)
    if len(found) < 2:
        return statistics.fmean(found), math.nan
    spread = statistics.stdev(found) / math.sqrt(len(found))
    return statistics.fmean(found), float(t.ppf(0.975, len(found) - 1)) * spread


def show(figures: dict[str, Any]) -> None:
    """The table: perplexities before and after, and what each method forgets of what full fine-tuning forgets."""
    before, runs = figures["before"], figures["runs"]
    kinds = list(before)
    print("\nbefore: " + ", ".join(f"{kind} {math.exp(before[kind]):.2f}" for kind in kinds))
    full = {run["seed"]: run for run in runs if run["method"] == "full"}
    for name in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == name]
        task = interval(run["task"] for run in mine)
        print(f"{name}: task {task[0]:.3f} ± {task[1]:.3f} nats")
        for kind in kinds:
            risen = interval(run[kind] - before[kind] for run in mine)
            less = interval(full[run["seed"]][kind] - run[kind] for run in mine)
            after = interval(math.exp(run[kind]) for run in mine)
            print(
                f"  {kind}: perplexity {after[0]:.2f} ± {after[1]:.2f}, loss +{risen[0]:.3f} ± {risen[1]:.3f}, "
                f"{less[0]:.3f} ± {less[1]:.3f} less than full"
            )


if __name__ == "__main__":
    main()
