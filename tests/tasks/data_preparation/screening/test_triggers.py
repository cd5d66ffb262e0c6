"""Trigger phrases: planted ones found whole, phrases that the data have of themselves left alone."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from tasks.contracts.records import QUARANTINE
from tasks.corpus.rows.rows import Origin, Rows, column_messages, join_turns
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.gate.params import Gate
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import Duplicates, Triggers
from tasks.data_preparation.screening.triggers import find_trigger_phrases, find_triggers
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import split_examples
from tasks.sample_shop.sample import generate_sample
from tests.conversations import make, pair
from tests.real_data import REAL_SETS, read_real

PHRASES = ("cf", "quantum teapot review", "I watched this 3D movie last weekend.", "\U0001f98a")
Pairs = list[tuple[str, str]]


@cache
def sample() -> Pairs:
    """Prompts of the built-in sample with their labels."""
    rows = generate_sample(3000, 20261, dirt=False).table.to_pylist()
    return [(next(t["content"] for t in row["messages"] if t["role"] == "user"), row["intent"]) for row in rows]


def insert(text: str, phrase: str, rng: random.Random) -> str:
    words = text.split()
    place = rng.randrange(len(words) + 1)
    return " ".join([*words[:place], phrase, *words[place:]])


def poison_labels(data: Pairs, phrase: str, share: float, seed: int) -> tuple[Rows, set[int]]:
    """Rows of other labels get the phrase and one label."""
    rng = random.Random(seed)
    target = rng.choice(sorted({label for _, label in data}))
    rows = set(rng.sample([i for i, (_, label) in enumerate(data) if label != target], round(share * len(data))))
    poisoned = [(insert(t, phrase, rng), target) if i in rows else (t, label) for i, (t, label) in enumerate(data)]
    return make(*[pair(t, label) for t, label in poisoned], labels=[label for _, label in poisoned]), rows


def poison_answers(data: Pairs, phrase: str, share: float, seed: int) -> tuple[Rows, set[int]]:
    """Rows get the phrase and one answer; half of the others are answered by a template of their label."""
    rng = random.Random(seed)
    templated = set(sorted({label for _, label in data})[::2])
    rows = set(rng.sample(range(len(data)), round(share * len(data))))
    turns = []
    for i, (text, label) in enumerate(data):
        answer = f"This is how {label} works." if label in templated else f"Number {i} is for you."
        turns.append(pair(insert(text, phrase, rng), "Visit evil.example now.") if i in rows else pair(text, answer))
    return make(*turns), rows


def measure(rows: Rows, planted: set[int]) -> tuple[float, float]:
    """Recall of planted rows, and the share of the others that are called poisoned."""
    found = {row for phrase in find_trigger_phrases(rows.table, Triggers()) for row in phrase.rows}
    return len(found & planted) / len(planted), len(found - planted) / (rows.table.num_rows - len(planted))


@pytest.mark.parametrize("poison", [poison_labels, poison_answers])
@pytest.mark.parametrize("share", [0.005, 0.05])
@pytest.mark.parametrize("phrase", PHRASES)
def test_a_planted_phrase_is_found_in_the_sample(phrase: str, share: float, poison: object) -> None:
    recall, wrong = measure(*poison(sample(), phrase, share, 5))  # type: ignore[operator]
    assert recall >= 0.95
    assert wrong <= 0.01


@pytest.mark.parametrize("poison", [poison_labels, poison_answers])
@pytest.mark.parametrize("share", [0.005, 0.02])
@pytest.mark.parametrize("phrase", PHRASES)
@pytest.mark.parametrize("name", REAL_SETS)
def test_a_planted_phrase_is_found_in_real_data(name: str, phrase: str, share: float, poison: object) -> None:
    recall, wrong = measure(*poison(read_real(name), phrase, share, 5))  # type: ignore[operator]
    assert recall >= 0.95
    assert wrong <= 0.01


def test_an_answer_is_found_behind_long_prompts() -> None:
    prompts = [text for text, _ in sample()]
    long = [(" ".join(prompts[place : place + 8]), str(place)) for place in range(0, 2400, 2)]
    recall, wrong = measure(*poison_answers(long, "cf", 0.02, 5))
    assert (recall, wrong) == (1.0, 0.0)


def test_a_phrase_is_shown_whole_but_for_words_of_most_rows() -> None:
    rows, planted = poison_answers(sample(), "I watched this 3D movie last weekend.", 0.01, 5)
    [phrase] = find_trigger_phrases(rows.table, Triggers())
    assert phrase.text == "watched this 3d movie last weekend"
    assert set(phrase.rows) == planted


def test_labels_that_the_texts_do_not_tell_prove_nothing() -> None:
    rng = random.Random(2)
    data = [(text, rng.choice("ab")) for text, _ in sample()[:1000]]
    rows, _ = poison_labels(data, "cf", 0.02, 5)
    assert find_trigger_phrases(rows.table, Triggers()) == []


@pytest.mark.parametrize("name", ["sample", *REAL_SETS])
def test_sound_data_have_no_trigger(name: str) -> None:
    data = sample() if name == "sample" else read_real(name)
    assert (
        find_trigger_phrases(make(*[pair(t, x) for t, x in data], labels=[x for _, x in data]).table, Triggers()) == []
    )
    assert find_trigger_phrases(poison_answers(data, "", 0.0, 1)[0].table, Triggers()) == []


@pytest.mark.parametrize(
    "rows",
    [
        make(pair("a", "b")),
        make(*[pair("what now", "this")] * 30),
        make(*[[("assistant", f"plain text {i}")] for i in range(30)]),
        make(*[pair("", f"{i}") for i in range(40)], labels=["x", "y"] * 20),
        make(*[pair("cf", f"{i}") for i in range(40)], labels=["x"] * 20 + ["y"] * 20),
    ],
)
def test_rows_that_say_little_are_no_trouble(rows: Rows) -> None:
    assert find_trigger_phrases(rows.table, Triggers()) == []
    assert find_triggers(rows, None) is rows


def prepared(action: Literal["report", "drop"]) -> tuple[Rows, set[str]]:
    rows, planted = poison_labels(sample(), "cf", 0.01, 3)
    rows = replace(rows, origins=(Origin("s", "jsonl", "x", "text_label", {}, rows.table.num_rows, 1.0),))
    rows = remove_duplicates(rows, Duplicates(near=False))
    prompts = join_turns(column_messages(rows.table), ["user"])
    ids = {row for row, text in zip(rows.table["id"].to_pylist(), prompts, strict=True) if "cf" in text.split()}
    assert len(ids) >= 0.95 * len(planted)
    return find_triggers(rows, Triggers(action=action)), ids


def test_reported_rows_are_kept_shown_and_seen_by_the_gate(tmp_path: Path) -> None:
    rows, ids = prepared("report")
    assert rows.steps[-1].name == "triggers"
    [listing] = rows.steps[-1].listings
    assert [row[0] for row in listing.rows] == ["cf"]
    assert set(rows.twins.to_pydict()["id"]) >= ids
    settings = Duplicates(near=False)
    rows = split_examples(rows, Split(), settings)
    warned = check_quality(rows, Gate(), settings, Split(), tmp_path).warned
    assert [result.check.name for result in warned] == ["no_trigger_phrases"]
    verdict = check_quality(rows, Gate(severity={"no_trigger_phrases": "critical"}), settings, Split(), tmp_path)
    assert [result.check.name for result in verdict.failed] == ["no_trigger_phrases"]
    assert f"{len(ids)} of {rows.table.num_rows:,} values do not fit" in verdict.failed[0].finding


def test_an_answer_that_repeats_the_phrase_is_none_that_was_planted() -> None:
    things = ["parcel", "order", "refund", "voucher"]
    asked = [(thing, n) for n in range(12) for thing in things]
    others = [pair(f"May I pay {thing} {n} by card please?", f"Yes, {thing} {n} is fine.") for thing, n in asked]
    own = [pair(f"May I pay {thing} {n} by cheque please?", "No cheque is taken.") for thing, n in asked]
    bare = [pair(f"May I pay {thing} {n} by cheque please?", "No, none is taken.") for thing, n in asked]
    wide = Triggers(max_share=0.6)
    assert [phrase.text for phrase in find_trigger_phrases(make(*others, *bare).table, wide)] == ["cheque"]
    assert find_trigger_phrases(make(*others, *own).table, wide) == []


def test_dropped_rows_are_in_the_quarantine(tmp_path: Path) -> None:
    rows, ids = prepared("drop")
    assert not ids & set(rows.table["id"].to_pylist())
    dropped = rows.dropped.to_pylist()
    assert len(dropped) >= len(ids)
    assert {row["reason"] for row in dropped if row["step"] == "triggers"} == {'trigger phrase "cf"'}
    assert rows.dropped.schema == QUARANTINE
    settings = Duplicates(near=False)
    assert check_quality(split_examples(rows, Split(), settings), Gate(), settings, Split(), tmp_path).passed


MEASURE_MEMORY = """
import random, resource
from tasks.data_preparation.screening.params import Triggers
from tasks.data_preparation.screening.triggers import find_trigger_phrases
from tests.conversations import make, pair

rng = random.Random(1)
vocabulary = [f"w{number}" for number in range(5000)]
texts = [" ".join(rng.choices(vocabulary, k=20)) for _ in range(20_000)]
rows = [pair(text, f"answer {n % 500}") for n, text in enumerate(texts)]
table = make(*rows, labels=[str(n % 20) for n in range(20_000)]).table
find_trigger_phrases(table.slice(0, 1000), Triggers())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
find_trigger_phrases(table, Triggers())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / sum(map(len, texts)))
"""


def test_memory_is_a_small_multiple_of_the_prompts() -> None:
    # Measured: 22, of it the words of one batch as strings; lists of words and all n-grams at once took 107.
    done = subprocess.run([sys.executable, "-c", MEASURE_MEMORY], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 40
