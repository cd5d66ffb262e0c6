"""Speculative decoding against the release alone, in one run: the same answers token for token, and how much sooner.

In a checkout after `make demo`: the release answers held-out prompts one at a time, greedily, by itself and with a
draft that proposes tokens. The draft is every n-th block of the release's base, distilled from the release for some
steps (as `benchmarks/distillation.py` does). Both ways answer each prompt in turn; the seconds are those of all
prompts, the ratio that of both ways in the same round, with the least and the largest over the rounds.

    python benchmarks/speculation.py [--checkout .] [--layers 2] [--steps 60] [--prompts 20] [--ahead 2 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LONGEST = 48  # tokens of an answer


def make_draft(checkout: Path, release: Path, folder: Path, layers: int, steps: int) -> Path:
    """A small model that was distilled from the release."""
    from benchmarks.distillation import make_student, train
    from tasks.training.tuned import load_tuned

    student = make_student(checkout / "models/initial", folder / "student", layers)
    if not steps:
        return student
    objective = {"name": "distillation", "teacher": str(release)}
    train(checkout, student, objective, 0, steps, folder / "draft")
    model, tokenizer = load_tuned(student, folder / "draft/tuned")
    model.save_pretrained(folder / "trained")
    tokenizer.save_pretrained(folder / "trained")
    return folder / "trained"


def answer(engine: Any, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], float]:
    """Answers to prompts, one after another, and the seconds of all."""
    from tasks.gateway.answering import wait_for_tokens
    from tasks.gateway.engine import GenerationRequest

    found, began = [], time.perf_counter()
    for prompt in prompts:
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        engine.submit(GenerationRequest(prompt, LONGEST, events.put))
        found.append(wait_for_tokens(events))
    return found, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--ahead", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    from tasks.contracts.tables import read_examples
    from tasks.gateway.decodings.plain import PlainDecoding
    from tasks.gateway.decodings.speculative import SpeculativeDecoding
    from tasks.gateway.engines.transformers import Transformers

    checkout = options.checkout.resolve()
    release = checkout / "models/release/model"
    turns = [row[:-1] for row in read_examples(checkout / "data/prepared/test.parquet")["messages"].to_pylist()]
    with tempfile.TemporaryDirectory() as name:
        draft = make_draft(checkout, release, Path(name), options.layers, options.steps)
        ways: dict[str, Any] = {"the release alone": PlainDecoding()}
        ways |= {f"a draft, {ahead} ahead": SpeculativeDecoding(draft=draft, ahead=ahead) for ahead in options.ahead}
        engines = {
            way: Transformers(max_batch=1, decoding=decoding).load(release, on_step=lambda rows: None)
            for way, decoding in ways.items()
        }
        plain = next(iter(engines.values()))
        prompts = [plain.encode(messages) for messages in turns[: options.prompts]]
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        answers: dict[str, list[list[int]]] = {}
        for way, engine in engines.items():
            answer(engine, prompts[:2])  # warm
            answers[way], _ = answer(engine, prompts)
            if answers[way] != next(iter(answers.values())):
                raise SystemExit(f"{way}: other tokens than {next(iter(ways))}")
        for _ in range(options.rounds):
            for way, engine in engines.items():
                seconds[way].append(answer(engine, prompts)[1])
        tokens = sum(map(len, next(iter(answers.values()))))
        print(f"{len(prompts)} prompts, {tokens} tokens, the same by every way\n")
        print("| decoding | tokens/s | proposals taken | times as fast, least to largest of the rounds |")
        print("|---|---|---|---|")
        first = next(iter(seconds.values()))
        for way, engine in engines.items():
            load = engine.load()
            taken = f"{load.accepted / load.proposed:.0%}" if load.proposed else ""
            ratios = [one / other for one, other in zip(first, seconds[way], strict=True)]
            shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {way} | {tokens / statistics.median(seconds[way]):.0f} | {taken} | {shown} |")
            engine.close()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
