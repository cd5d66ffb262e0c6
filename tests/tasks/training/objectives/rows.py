"""Small tables that have rows for every objective: conversations, and two or three answers to a prompt."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks.contracts.records import ANSWER_SETS, EXAMPLES, STEP_END, STEPS
from tests.tiny import example_rows

SPLITS = {"train": (40, 0), "validation": (8, 100), "test": (8, 200)}  # rows and seed


def examples(split: str) -> pa.Table:
    return pa.Table.from_pylist(example_rows(*SPLITS[split]), schema=EXAMPLES)


def answer_set(row: dict[str, Any], split: str, *answers: tuple[str, float]) -> dict[str, Any]:
    """The row's prompt with these answers and scores, the best first."""
    kept = {key: row[key] for key in ("id", "source", "row", "cluster")}
    turns = [{"turns": [{"role": "assistant", "content": text}], "score": score} for text, score in answers]
    return {**kept, "split": split, "prompt": row["messages"][:-1], "answers": turns}


def answers() -> pa.Table:
    """Answers of all splits: help is better than none, and rudeness worse still."""
    found = []
    for split, (count, seed) in SPLITS.items():
        for row in example_rows(count, seed):
            label = str(row["label"]).replace("_", " ")
            # About equally long, since some objectives compare whole answers.
            scored = [
                (f"We will help with {label} now.", 2.0),
                (f"We know nothing of {label}, sorry.", 1.0),
                (f"You ask of {label} too often.", 0.0),
            ]
            found.append(answer_set(row, split, *scored[: 2 + len(found) % 2]))
    return pa.Table.from_pylist(found, schema=ANSWER_SETS)


def stepwise() -> pa.Table:
    """Answers of two or three steps of all splits; those that guess are wrong."""
    found = []
    for split, (count, seed) in SPLITS.items():
        for number, row in enumerate(example_rows(count, seed)):
            label = str(row["label"]).replace("_", " ")
            right, wrong = f"We look {label} up.", f"We guess about {label}."
            steps = [right, wrong, right] if number % 3 == 0 else [right, wrong] if number % 3 == 1 else [right, right]
            marks = [step == right for step in steps]
            made = answer_set(row, split, (STEP_END.join(steps), float(all(marks))))
            found.append({**made, "steps": marks})
    return pa.Table.from_pylist(found, schema=ANSWER_SETS.append(STEPS))
