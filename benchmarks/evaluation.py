"""Evaluation speed against other harnesses, in one run: same model, items, precision, batch size and threads.

Two kinds of work: log-likelihoods of four options after a question, and greedy answers to plain text. Rivals:
lm-evaluation-harness and lighteval with the same batch size, each in an environment that this script makes where it is
not installed here, and a plain transformers loop, one option and one prompt at a time. Every engine runs in a process
of its own; counted is the work alone, without loading. Rounds are interleaved, so that a load that comes and goes meets
all of them. Shown beside the speeds is for how many items each chose and wrote the same.

    python benchmarks/evaluation.py [--model models/base] [--rivals lm_eval lighteval plain] [--rounds 3]
    python benchmarks/evaluation.py --questions arc_easy.jsonl     # rows with query and choices, not made-up ones

On a busy machine take ``--threads 1`` and read the processor seconds: they do not count what others do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from training_scripts.trainers import ENVIRONMENTS, Environment, Trainer, find_python

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).parent / "evaluation_scripts" / "engines.py"
LM_EVAL = Environment(
    ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "peft==0.21.2", "lm_eval==0.4.13")
)
LIGHTEVAL = Environment(("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "lighteval==0.13.0"))
RIVALS = ("lm_eval", "lighteval", "plain")
WORDS = ("parcel", "refund", "order", "address", "size", "colour", "store", "open", "late", "card", "voucher", "return")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/base")
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS)
    parser.add_argument("--questions", type=Path, help="JSON Lines with query and choices; made-up ones by default")
    parser.add_argument("--items", type=int, default=200, help="questions, and as many prompts")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="folder of the rivals' environments")
    options = parser.parse_args()
    questions = read_questions(options.questions, options.items) if options.questions else make_questions(options.items)
    job = {
        "model": str(options.model.resolve()),
        "questions": questions,
        "prompts": [question["query"] for question in questions],
        "new_tokens": options.new_tokens,
        "batch": options.batch,
        "threads": options.threads,
    }
    pythons = {name: find_engine(name, options.environments) for name in ("heptune", *options.rivals)}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(options.rounds):
            for name, python in pythons.items():
                results[name].append(run(name, python, job, Path(place)))
    show(results, len(questions))


def make_questions(count: int) -> list[dict[str, Any]]:
    """Questions of 8 to 60 words with four options of 1 to 6 words, the same in every run."""
    rng = random.Random(0)

    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))

    return [
        {"query": f"Question {number}: {text(8, 60)}?\nAnswer:", "choices": [text(1, 6) for _ in range(4)]}
        for number in range(count)
    ]


def read_questions(path: Path, count: int) -> list[dict[str, Any]]:
    from tasks.evaluation.suites.files import read_rows

    rows = read_rows(str(path))[:count]
    return [{"query": f"{row['query']}\nAnswer:", "choices": row["choices"]} for row in rows]


def find_engine(name: str, environments: Path) -> Path:
    """The interpreter of an engine; this project's where it has the package."""
    if name in ("heptune", "plain"):
        return Path(sys.executable)
    from importlib.util import find_spec

    if find_spec(name):
        return Path(sys.executable)
    environment = {"lm_eval": LM_EVAL, "lighteval": LIGHTEVAL}[name]
    return find_python(Trainer(f"{name}.py", environment=environment), environments)


def run(name: str, python: Path, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One engine in a process of its own: seconds and processor seconds of each kind, and what it answered."""
    job_file, result = folder / "job.json", folder / "result.json"
    job_file.write_text(json.dumps(job))
    result.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(job["threads"]),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        [python, SCRIPT, name, job_file, result],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not result.is_file():
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def show(results: dict[str, list[dict[str, Any]]], items: int) -> None:
    """Items a second of each engine, by the clock and by processor seconds, and how far the answers agree."""
    ours = results["heptune"]
    print(f"{'engine':10} {'work':8} {'items/s':>9} {'items/cpu s':>12} {'heptune is':>11} {'by cpu':>8} {'same':>7}")
    for name, rounds in results.items():
        for work in ("choices", "answers"):
            clock, cpu = (statistics.median(one[work][key] for one in rounds) for key in ("seconds", "processor"))
            of_clock = [one[work]["seconds"] / mine[work]["seconds"] for one, mine in zip(rounds, ours, strict=True)]
            of_cpu = [one[work]["processor"] / mine[work]["processor"] for one, mine in zip(rounds, ours, strict=True)]
            same = sum(a == b for a, b in zip(rounds[0][work]["found"], ours[0][work]["found"], strict=True)) / items
            print(
                f"{name:10} {work:8} {items / clock:9.1f} {items / cpu:12.1f} {statistics.median(of_clock):10.2f}x "
                f"{statistics.median(of_cpu):7.2f}x {same:7.1%}"
            )


if __name__ == "__main__":
    main()
