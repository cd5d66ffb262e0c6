"""Cleaning steps on hostile texts: is ten times the length at most some ten times the time?

Every step cleans a row of 40,000 and one of 400,000 characters made of one unit again and again: markup that is never
closed, brackets, digits, signs. A step that looks at all of the rest of a text from every place in it takes a hundred
times as long. The largest ratio of each step is printed; `--all` prints every row that takes a tenth of a second.

    python benchmarks/long_texts.py [--steps html pii] [--characters 400000] [--all]

The exit status is 1 where a ratio is above 15, so that it can stand in a pipeline.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.data_preparation.cleaning.clean import NoRowLeft, clean_rows
from tasks.data_preparation.params import DataPreparation
from tests.conversations import make, pair
from tests.hostile_texts import UNITS

STEPS = ["unicode", "controls", "html", "whitespace", "pii", "missing", "length"]
STEPS += ["c4", "quality", "repetition", "refusals", "echo", "labels"]
MOST = 15.0
# Shorter runs say nothing about growth.
SHORTEST_S = 0.1


def measure(step: object, text: str) -> float:
    """Processor seconds of a step on a row with this text as prompt and answer."""
    rows = make(pair(text, text), pair("Where is it?", "Here."), labels=["a", "b"])
    began = time.process_time()
    with contextlib.suppress(NoRowLeft):
        clean_rows(rows, [step], None)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", nargs="+", default=STEPS)
    parser.add_argument("--characters", type=int, default=400_000)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    steep = False
    names = [*arguments.steps, *({"missing"} - set(arguments.steps))]
    for step in DataPreparation.model_validate({"cleaning": [{"name": name} for name in names]}).cleaning:
        measure(step, "warm up")
        worst = (0.0, 0.0, "")
        for unit in UNITS:
            long = measure(step, f"x{unit * (arguments.characters // len(unit))}x")
            if long < SHORTEST_S:
                continue
            ratio = long / max(measure(step, f"x{unit * (arguments.characters // 10 // len(unit))}x"), 1e-3)
            worst = max(worst, (ratio, long, unit))
            if arguments.all:
                print(f"  {step.name:12} {unit!r:16} {long:7.2f} s {ratio:6.1f} x")
        ratio, seconds, unit = worst
        steep |= ratio > MOST
        of = f"{ratio:5.1f} x the time of a tenth ({seconds:.2f} s, {unit!r})" if unit else f"under {SHORTEST_S} s"
        print(f"{step.name:12} {of}", flush=True)
    sys.exit(int(steep))


if __name__ == "__main__":
    main()
