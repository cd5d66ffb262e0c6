"""Runs of synthesis, and a teacher of sums to run them with."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.language_models.writers.openai import OpenAi
from tasks.synthesis.checks.arithmetic import ArithmeticCheck
from tasks.synthesis.checks.duplicates import DuplicateCheck
from tasks.synthesis.checks.exact import ExactCheck
from tasks.synthesis.checks.length import LengthCheck
from tasks.synthesis.drafts import SynthesisResult
from tasks.synthesis.params import Synthesis
from tasks.synthesis.publish import write_figures, write_synthetic
from tasks.synthesis.report import write_report
from tasks.synthesis.rounds import write_rows
from tasks.synthesis.seeds import read_known, read_seeds


def run(settings: Synthesis, folder: Path, splits: dict[str, Path] | None = None) -> SynthesisResult:
    seeds = read_seeds(settings, splits or {}, folder)
    known = read_known(settings, seeds, splits or {}, folder)
    return write_rows(settings, seeds, known, folder / "written", folder)


def publish(settings: Synthesis, written: SynthesisResult, folder: Path) -> bytes:
    write_report(settings, written, folder / "index.html", folder / "refused.jsonl")
    write_figures(written, folder / "metrics.json")
    write_synthetic(settings, written, folder / "rows.jsonl", folder / "refused.jsonl")
    return (folder / "rows.jsonl").read_bytes()


class Sums:
    """A good teacher of sums, but for the sums it gets wrong: those whose first number ends in 7."""

    WORDS = (
        "apples", "boats", "coins", "drums", "eggs", "forks", "gloves", "hats", "inks", "jars", "kites", "lamps",
        "maps", "nails", "oars", "pens",
    )  # fmt: skip

    def __init__(self) -> None:
        self.pause: Callable[[], None] = lambda: None

    def __call__(self, order: str) -> str:
        self.pause()
        if find_topic(order):
            return json.dumps([self.propose(order, place) for place in range(4)])
        if "topics" in order and "JSON array" in order:
            known = order.count(";")
            return json.dumps(["shop sums", "kitchen sums", "Shop sums.", "zoo sums", 7][: 5 if not known else 0])
        request = find_request(order)
        if "whole number" in order:
            return '{"critique": "", "score": 5}'
        first, second = (int(number) for number in re.findall(r"\d+", request))
        total = first + second + (1 if first % 10 == 7 else 0)
        return f"{first} + {second} = {total}\n#### {total:,}.0"

    def propose(self, order: str, place: int) -> dict[str, str]:
        digest = hashlib.sha256(f"{order}{place}".encode()).digest()
        words = [self.WORDS[byte % 16] for byte in digest[:5]]
        first, second = 1000 + digest[6], 2000 + digest[7]
        text = f"Add {first} {' and '.join(words[:3])} to {second} {' or '.join(words[3:])}"
        return {"instruction": text, "expected": str(first + second)}


def sums(url: str, **values: Any) -> Synthesis:
    params: dict[str, Any] = {
        "teacher": OpenAi(url=url, model="t", concurrency=1),
        "judge": OpenAi(url=url, model="j", concurrency=1, temperature=0),
        "seeds": None,
        "task": "Sums of two numbers, told as a story.",
        "topics_wanted": 3,
        "instructions_per_call": 4,
        "checks": (LengthCheck(), DuplicateCheck(), ArithmeticCheck(required=True), ExactCheck()),
        "teacher_price": {"prompt": 2.0, "completion": 8.0},
        "judge_price": {"prompt": 1.0, "completion": 1.0},
        **values,
    }
    return Synthesis.model_validate(params)


def find_topic(order: str) -> str | None:
    found = re.search(r"about this topic: (.+)", order)
    return found[1] if found else None


def find_request(order: str) -> str:
    # Examples stand before it.
    return re.findall(r"Request:\s*(.+)", order)[-1].strip()
