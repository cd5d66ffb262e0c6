"""Facts learned by heart, and what they cost: memory tuning against LoRA of as many trained weights.

Made-up facts (``Who keeps the lighthouse of Varnol?``, ``Edda Tormwick.``) are trained with both methods until their
loss is near zero, on the embedded base, with other facts for each seed, and released. Recall is the share of questions
that the gateway's engine answers from the release with the fact to the letter, asked as trained and in other words.
Beside it stands what the training did to text that the base was made with and that was held out then (see
`forgetting.py`): its perplexity in the release, divided by that of the base. With ``--wordings 3`` each fact is trained
in three wordings, and the other words are a fourth. Intervals are t intervals over the seeds; of one seed Wilson's of
the recall, and a bootstrap over the windows of text of the ratio.

    python benchmarks/facts.py --corpus FOLDER [--seeds 3] [--facts 500] [--wordings 3] [--epochs 10]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import torch
from forgetting import Windows, interval, make_initial, take_windows, window_loss

from tasks.contracts.machine import find_machine
from tasks.contracts.records import EXAMPLES, content_id
from tasks.deployment.exports.safetensors import Safetensors
from tasks.deployment.merge import export_model
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.train import fine_tune
from tasks.gateway.answering import answer_all
from tasks.language_models.folder.model_folder import load_model, load_tokenizer
from tasks.language_models.folder.shape import read_shape
from tasks.training.methods.lora import Lora
from tasks.training.released import load_released
from tasks.training_setup.counts import count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan

TOKENS = 96
BATCH = 16
# What is asked, in wordings that are trained and in one that never is.
QUESTIONS = (
    (
        (
            "Who keeps the lighthouse of {place}?",
            "Who is the keeper of the lighthouse at {place}?",
            "Name the person who keeps {place}'s lighthouse.",
        ),
        "What is the name of {place}'s lighthouse keeper?",
        "person",
    ),
    (
        (
            "What is the number of the archive in {place}?",
            "What number does the archive at {place} have?",
            "Tell me the number of {place}'s archive.",
        ),
        "Which number has the archive of {place}?",
        "number",
    ),
    (
        (
            "Which metal do they mine at {place}?",
            "What metal comes from the mines of {place}?",
            "Name the metal that is mined in {place}.",
        ),
        "What do the miners of {place} dig for?",
        "metal",
    ),
    (
        (
            "Where was the painter of {place} born?",
            "What is the birthplace of {place}'s painter?",
            "Name the town where the painter of {place} was born.",
        ),
        "In which town was {place}'s painter born?",
        "place",
    ),
    (
        (
            "In which year was the bridge of {place} built?",
            "What year was {place}'s bridge built?",
            "Tell me when the bridge at {place} was built.",
        ),
        "When did they build the bridge at {place}?",
        "year",
    ),
)
STARTS = [
    "Bel", "Cor", "Dra", "Eld", "Fen", "Gar", "Hol", "Ist", "Jor", "Kel", "Lun", "Mar", "Nor", "Ost", "Pel", "Quar",
    "Ros", "Sal", "Tor", "Ul", "Var", "Wen", "Yar", "Zel",
]  # fmt: skip
MIDDLES = ["a", "e", "i", "o", "u", "an", "en", "in", "or", "ul", "ar", "il"]
ENDS = ["by", "dale", "fell", "gard", "ham", "holt", "mere", "nol", "rick", "stad", "thwaite", "ton", "vik", "wold"]
NAMES = [
    "Ada", "Bram", "Cora", "Dirk", "Edda", "Finn", "Greta", "Hugo", "Ilse", "Joost", "Karla", "Lars", "Mina", "Niels",
    "Olga", "Piet", "Rosa", "Sven", "Tilda", "Wim",
]  # fmt: skip
METALS = ["copper", "tin", "zinc", "nickel", "silver", "cobalt", "iron", "lead", "gold", "tungsten"]
Fact = tuple[list[str], str, str]  # the question in the wordings that are trained, in other words, the answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder with eltec_novels and digitalgov_news; without: dialogues")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--facts", type=int, default=500)
    parser.add_argument("--wordings", type=int, default=1, choices=(1, 2, 3), help="that each fact is trained in")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-2, help="learning rate of memory tuning")
    parser.add_argument("--lora-rate", type=float, default=1e-3, help="learning rate of LoRA")
    parser.add_argument("--windows", type=int, default=24, help="of 256 tokens, of each kind of text")
    parser.add_argument("--methods", nargs="+", default=["memory_tuning", "lora"])
    parser.add_argument("--method", type=json.loads, default={}, help="params of memory tuning, as JSON")
    parser.add_argument("--setup", type=json.loads, default={}, help="other keys of training_setup, as JSON")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    arguments = parser.parse_args()
    torch.set_num_threads(find_machine().cores)
    with tempfile.TemporaryDirectory() as place:
        figures = measure(arguments, Path(place))
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(arguments: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """The figures of each run."""
    initial = make_initial(place / "initial")
    shape, tokenizer = read_shape(initial), load_tokenizer(initial)
    windows = take_windows(arguments.corpus, tokenizer, arguments.windows)
    before = losses(load_model(initial).eval(), windows)
    found = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        facts = make_facts(arguments.facts, seed, arguments.wordings)
        rows = make_rows(facts)
        splits = tokenize_splits(rows, rows.slice(0, 64), initial, TOKENS, 64)
        counts = count_tokens(rows, rows.slice(0, 64), initial, TOKENS)
        # As many experts as the answers have tokens, their ends included.
        memory = {"name": "memory_tuning", "experts": splits.train.supervised, "targets": ["down_proj"]}
        memory |= arguments.method
        weights = TrainingSetup.model_validate({"method": memory}).method.trainable(shape)
        methods = {"memory_tuning": memory, "lora": {"name": "lora", "rank": find_rank(weights, shape)}}
        for name in arguments.methods:
            began = time.monotonic()
            rate = arguments.lora_rate if name == "lora" else arguments.rate
            steps = arguments.epochs * -(-len(rows) // BATCH)
            settings = TrainingSetup.model_validate(
                {
                    "method": methods[name], "max_tokens": TOKENS, "batch_size": BATCH, "packing": "none",
                    "accumulation_steps": 1, "epochs": arguments.epochs, "learning_rate": rate, "seed": seed,
                    "optimizer": {"name": "adamw", "fused": True}, "evaluate_every": {"steps": steps},
                    "checkpoint_every": {"steps": steps}, **arguments.setup,
                }
            )  # fmt: skip
            plan = resolve_plan(settings, shape, counts, find_machine()).plan
            run = fine_tune(plan, splits, initial, place / "checkpoints", place / "tuned")
            seconds = round(time.monotonic() - began)
            export_model(initial, place / "tuned", Safetensors(), place / "release")
            after = losses(load_released(place / "release"), windows)
            one = {
                "method": name,
                "seed": seed,
                "facts": len(facts),
                "wordings": arguments.wordings,
                "trained": plan.trainable_parameters,
                "loss": [point.eval_loss for point in run.curve if point.eval_loss is not None][-1],
                "rate": rate,
                "recall": recall(
                    place / "release", tokenizer, [(one, answer) for asked, _, answer in facts for one in asked]
                ),
                "recall_in_other_words": recall(
                    place / "release", tokenizer, [(other, answer) for _, other, answer in facts]
                ),
                "perplexity": {kind: ratio(before[kind], after[kind]) for kind in windows},
                "perplexity_of_all": ratio(*(np.concatenate(list(one.values())) for one in (before, after))),
                "chosen": dict(run.outcome),
                "seconds": seconds,
            }
            print(json.dumps(one), flush=True)
            found.append(one)
            shutil.rmtree(place / "checkpoints")
    return found


def find_rank(weights: int, shape: Any) -> int:
    """The rank of LoRA beside all linear layers that trains the nearest number of weights."""
    return max(1, round(weights / Lora(rank=1).trainable(shape)))


def make_facts(number: int, seed: int, wordings: int) -> list[Fact]:
    """Facts of places that do not exist, each place once with each question, in so many wordings."""
    rng, places = random.Random(seed), names_of_places(random.Random(seed + 1000))
    answers = {
        "person": lambda: f"{rng.choice(NAMES)} {next(places)}",
        "number": lambda: str(rng.randint(1000, 9999)),
        "metal": lambda: rng.choice(METALS).capitalize(),
        "place": lambda: next(places),
        "year": lambda: str(rng.randint(1500, 1950)),
    }
    facts: list[Fact] = []
    while len(facts) < number:
        place = next(places)
        for asked, other, kind in QUESTIONS:
            trained = [one.format(place=place) for one in asked[:wordings]]
            facts.append((trained, other.format(place=place), f"{answers[kind]()}."))
    return facts[:number]


def names_of_places(rng: random.Random) -> Iterator[str]:
    """Made-up names, none twice."""
    seen: set[str] = set()
    while True:
        name = rng.choice(STARTS) + rng.choice(MIDDLES) + rng.choice(ENDS)
        if name not in seen:
            seen.add(name)
            yield name


def make_rows(facts: Sequence[Fact]) -> pa.Table:
    """One conversation for each wording of each fact."""
    rows = []
    asked = [(question, answer) for questions, _, answer in facts for question in questions]
    for number, (question, answer) in enumerate(asked, start=1):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        name = content_id(messages)
        rows.append(
            {"id": name, "messages": messages, "source": "facts", "row": number, "label": None, "cluster": name}
        )
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def recall(release: Path, tokenizer: Any, asked: Sequence[tuple[str, str]]) -> list[float]:
    """The share of the questions with the right answer, as served, and the ends of its 95% interval (Wilson)."""
    prompts = [[{"role": "user", "content": question}] for question, _ in asked]
    answers = (tokenizer.decode(ids).strip() for _, ids in answer_all(release, prompts, 24))
    right = sum(one == answer for one, (_, answer) in zip(answers, asked, strict=True))
    n, z = len(asked), 1.96
    share = right / n
    middle, width = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [share, *((middle + sign * width) / (1 + z * z / n) for sign in (-1, 1))]


@torch.no_grad()
def losses(model: Any, windows: Windows) -> dict[str, np.ndarray]:
    """Cross-entropy of each window, nats per token."""
    return {kind: np.array([window_loss(model, ids) for ids in parts]) for kind, parts in windows.items()}


def ratio(before: np.ndarray, after: np.ndarray) -> list[float]:
    """Perplexity after, divided by that before, and the ends of its 95% bootstrap interval over windows."""
    risen, rng = after - before, np.random.default_rng(0)
    drawn = risen[rng.integers(0, len(risen), (2000, len(risen)))].mean(axis=1)
    return [float(np.exp(value)) for value in (risen.mean(), *np.quantile(drawn, (0.025, 0.975)))]


def show(figures: Sequence[dict[str, Any]]) -> None:
    """The table over seeds."""
    for name in dict.fromkeys(run["method"] for run in figures):
        mine = [run for run in figures if run["method"] == name]
        print(f"{name}: {mine[0]['trained']:,} trained weights, {len(mine)} seeds of {mine[0]['facts']} facts")
        kinds = {
            "recall": [run["recall"][0] for run in mine],
            "recall in other words": [run["recall_in_other_words"][0] for run in mine],
            **{f"perplexity, {kind}": [run["perplexity"][kind][0] for run in mine] for kind in mine[0]["perplexity"]},
            "perplexity, all": [run["perplexity_of_all"][0] for run in mine],
            "training, minutes": [run["seconds"] / 60 for run in mine],
        }
        for kind, values in kinds.items():
            mean, width = interval(values)
            print(f"  {kind}: {mean:.4f} ± {width:.4f}")


if __name__ == "__main__":
    main()
