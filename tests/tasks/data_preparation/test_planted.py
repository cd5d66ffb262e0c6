"""Defects planted in data and what becomes of them on the whole way: leaks, items of benchmarks, floods of copies."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.corpus.reading.benchmarks import Benchmark
from tasks.corpus.rows.rows import Origin, Rows
from tasks.data_preparation.gate import measures
from tasks.data_preparation.gate.gate import Verdict, check_quality
from tasks.data_preparation.gate.params import Gate
from tasks.data_preparation.screening.contamination import remove_contamination
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import Contamination, Duplicates
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import split_examples
from tasks.sample_shop.sample import generate_sample
from tests.conversations import Turns, make, pair
from tests.real_data import REAL_SETS, read_real

NAMES = ["sample", *REAL_SETS]
ROWS = 1200
SETTINGS, SPLIT = Duplicates(probes=0), Split(validation=0.1, test=0.2)
NO_NEAR = Duplicates(near=False)


@cache
def read_turns(name: str) -> list[Turns]:
    """Conversations of the built-in sample, or prompts of a real set with answers of their own."""
    if name == "sample":
        rows = generate_sample(ROWS, 5, dirt=False).table.to_pylist()
        return [[(t["role"], t["content"]) for t in row["messages"]] for row in rows]
    data = read_real(name)
    chosen = random.Random(1).sample(data, min(ROWS, len(data)))
    return [pair(text, f"{label.replace('_', ' ')} it is, as you said: {text[:40]}") for text, label in chosen]


def read_rows(turns: list[Turns]) -> Rows:
    return replace(make(*turns), origins=(Origin("s", "jsonl", "x", "messages", {}, len(turns), 1.0),))


@cache
def split_rows(name: str) -> Rows:
    return split_examples(remove_duplicates(read_rows(read_turns(name)), SETTINGS), SPLIT, SETTINGS)


def edit(text: str, rng: random.Random) -> str:
    """Another end of the sentence, other capitals, a letter twice: the same text to a reader."""
    words = text.split()
    if len(text) > 80:
        place = rng.randrange(len(words))
        words[place] = words[place][:1] + words[place] if words[place].isalpha() else words[place]
    return (" ".join(words).rstrip(".?!") + rng.choice(["!", "", "..", " ?"])).upper()


def leak(rows: Rows, copies: int, near: bool) -> tuple[Rows, int]:
    """Training rows come up in the test split, as they are or with small edits; and how many."""
    rng = random.Random(7)
    train = [r for r in rows.table.to_pylist() if r["split"] == "train" and len(r["messages"][-1]["content"]) > 60]
    added = []
    for number, row in enumerate(rng.sample(train, min(copies, len(train)))):
        turns = [{**t, "content": edit(t["content"], rng)} for t in row["messages"]] if near else row["messages"]
        added.append({**row, "id": f"leak{number}", "split": "test", "messages": turns, "cluster": f"leak{number}"})
    table = pa.concat_tables([rows.table, pa.Table.from_pylist(added, schema=rows.table.schema)])
    return replace(rows, table=table), len(added)


def check(rows: Rows, folder: Path) -> Verdict:
    return check_quality(rows, Gate(), SETTINGS, SPLIT, folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("near", [False, True])
def test_a_leak_behind_the_split_is_found_whole(name: str, near: bool, tmp_path: Path) -> None:
    rows, planted = leak(split_rows(name), 40, near)
    assert planted >= 20
    described = measures.describe_rows(rows, SETTINGS, texts=False)
    leaks = dict(zip(described["id"].to_pylist(), described["leaks"].to_pylist(), strict=True))
    assert all(leaks[f"leak{number}"] for number in range(planted))
    failed = {result.check.name for result in check(rows, tmp_path).failed}
    assert {"near_duplicates_in_one_split"} <= failed <= {"near_duplicates_in_one_split", "prompts_in_one_split"}


@pytest.mark.parametrize("name", NAMES)
def test_no_copy_of_a_row_reaches_another_split(name: str, tmp_path: Path) -> None:
    turns = read_turns(name)
    rng = random.Random(9)
    chosen = [place for place, t in enumerate(turns) if sum(len(content) for _, content in t) > 120][:60]
    verbatim = [turns[place] for place in chosen]
    copies = [[(role, edit(content, rng)) for role, content in t] for t in verbatim]
    rows = split_examples(remove_duplicates(read_rows([*turns, *verbatim, *copies]), SETTINGS), SPLIT, SETTINGS)
    assert check(rows, tmp_path).passed
    splits = dict(zip(rows.table["row"].to_pylist(), rows.table["split"].to_pylist(), strict=True))
    for number, place in enumerate(chosen):
        assert len(turns) + number + 1 not in splits
        # An edited copy that stays is where its row is, or its row is nowhere.
        copy = splits.get(len(turns) + len(chosen) + number + 1)
        assert copy is None or splits.get(place + 1, copy) == copy


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("near", [False, True])
def test_items_of_a_benchmark_are_found_whole(name: str, near: bool, tmp_path: Path) -> None:
    turns = read_turns(name)
    rng = random.Random(3)
    things = ["mayor", "song", "tower", "bread", "wool", "king", "harbour", "clock", "mill", "bell"]
    items = [
        f"The {a} of {b} was {c} in the year {1700 + i} when {d} came to {e} and asked for {f} number {i * 37}"
        for i, (a, b, c, d, e, f) in enumerate(rng.choices(things, k=6) for _ in range(50))
    ]
    (tmp_path / "exam.jsonl").write_text("\n".join(json.dumps({"question": item}) for item in items))
    planted = [pair(edit(item, rng) if near else item, "I know that one.") for item in items]
    settings = Contamination(benchmarks=(Benchmark(title="exam", path=str(tmp_path / "exam.jsonl")),))
    rows = remove_duplicates(read_rows([*turns, *planted]), NO_NEAR)
    clean = remove_contamination(rows, settings, Path())
    gone = {row["row"] for row in clean.dropped.to_pylist() if row["step"] == "contamination"}
    assert gone == set(range(len(turns) + 1, len(turns) + len(planted) + 1))

    # Kept by `report`, the gate says so.
    reported = remove_contamination(rows, settings.model_copy(update={"action": "report"}), Path())
    gate = Gate(severity={"nothing_contaminated": "critical"})
    verdict = check_quality(split_examples(reported, SPLIT, NO_NEAR), gate, NO_NEAR, SPLIT, tmp_path)
    assert [result.check.name for result in verdict.failed] == ["nothing_contaminated"]
    assert verdict.failed[0].finding.startswith(f"{len(planted)} of ")


@pytest.mark.parametrize("name", NAMES)
def test_a_flood_of_near_copies_is_stopped_and_flagged(name: str, tmp_path: Path) -> None:
    turns = read_turns(name)
    rng = random.Random(4)
    question = "Could you please tell me once more how the blue harbour lamp is cleaned before the winter storms begin"
    answer = "Wipe the harbour lamp with a dry cloth, then oil the hinge, and close the shutter before the storms."
    flood = [pair(edit(question, rng), edit(answer, rng)) for _ in range(500)]
    rows = split_examples(remove_duplicates(read_rows([*turns, *flood]), SETTINGS), SPLIT, SETTINGS)
    left = sum(row > len(turns) for row in rows.table["row"].to_pylist())
    assert left <= 5
    verdict = check(rows, tmp_path)
    assert verdict.passed
    assert "copies_few" in [result.check.name for result in verdict.warned]
    assert "copies_few" not in [result.check.name for result in check(split_rows(name), tmp_path).warned]
