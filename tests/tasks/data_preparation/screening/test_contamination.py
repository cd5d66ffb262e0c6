"""Items of benchmarks are found wherever they stand, and nothing else is."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.benchmark_items import read_items
from tasks.corpus.reading.benchmarks import Benchmark
from tasks.corpus.rows.rows import Rows
from tasks.corpus.text.words import find_words
from tasks.data_preparation.screening.contamination import hash_word_ngrams, remove_contamination
from tasks.data_preparation.screening.duplicates import drop_exact_duplicates
from tasks.data_preparation.screening.params import Contamination
from tests.conversations import make, pair

WORDS = [a + b for a in ("ka", "lo", "mi", "tu", "ve", "zy") for b in ("ra", "sol", "ten", "wick", "dun", "fel", "gor")]


def sentence(rng: random.Random, length: int) -> str:
    return " ".join(rng.choices(WORDS, k=length))


def write(folder: Path, items: list[dict[str, object]], name: str = "bench.jsonl") -> Benchmark:
    (folder / name).write_text("\n".join(json.dumps(item) for item in items))
    return Benchmark(title="bench", path=name)


def run(rows: Rows, folder: Path, *benchmarks: Benchmark, **params: object) -> Rows:
    return remove_contamination(rows, Contamination.model_validate({"benchmarks": benchmarks, **params}), folder)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text(alphabet="ab B.é", max_size=20), max_size=6), st.integers(1, 4))
def test_runs_are_those_of_the_words(texts: list[str], size: int) -> None:
    words = [find_words(text) for text in texts]
    assert words == [re.findall(r"\w+", text.casefold()) for text in texts]
    hashes, owners, places = hash_word_ngrams(words, size)
    found: dict[int, list[int]] = {i: hashes[owners == i].tolist() for i in range(len(texts))}
    runs = [
        [tuple(row[i : i + min(size, len(row))]) for i in range(len(row) - min(size, len(row)) + 1)] if row else []
        for row in words
    ]
    assert all(places[owners == i].tolist() == list(range(len(row))) for i, row in enumerate(runs))
    assert [len(found[i]) for i in range(len(texts))] == [len(row) for row in runs]
    seen: dict[tuple[str, ...], int] = {}
    for i, row in enumerate(runs):
        for run_, value in zip(row, found[i], strict=True):
            assert seen.setdefault(run_, value) == value
    assert len(set(seen.values())) == len(seen)


PLANTS: dict[str, tuple[Callable[[str], str], str]] = {
    "verbatim": (lambda text: text, "prompt"),
    "case and punctuation": (lambda text: text.upper().replace(" ", ", ", 3) + "?!", "prompt"),
    "inside a longer prompt": (lambda text: f"Please help me with this. {text} Show every step.", "prompt"),
    "in the answer": (lambda text: text, "answer"),
    "its first half": (lambda text: " ".join(text.split()[:15]), "prompt"),
    "a word in the middle": (lambda text: " ".join([*text.split()[:15], "so", *text.split()[15:]]), "prompt"),
}


@pytest.mark.parametrize("kind", PLANTS)
def test_planted_items_are_found_and_nothing_else(kind: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    items = [sentence(rng, 30) for _ in range(60)]
    change, where = PLANTS[kind]
    planted = [
        pair(change(item), "It is done.") if where == "prompt" else pair(f"number {i}", change(item))
        for i, item in enumerate(items[:40])
    ]
    clean = [pair(sentence(rng, 30), sentence(rng, 20)) for _ in range(300)]
    rows = drop_exact_duplicates(make(*clean, *planted))
    out = run(rows, tmp_path, write(tmp_path, [{"question": item, "answer": "7"} for item in items]))
    assert out.dropped["row"].to_pylist() == list(range(301, 341))
    assert set(out.dropped["reason"].to_pylist()) == {"holds an item of benchmark bench"}
    # Row 301 holds item 1, and so on.
    assert [(p["row"], p["twin_row"]) for p in sorted(out.twins.to_pylist(), key=lambda p: p["row"])] == [
        (301 + i, 1 + i) for i in range(40)
    ]


def test_a_changed_word_in_ten_is_seen_by_nearness(tmp_path: Path) -> None:
    rng = random.Random(6)
    items = [sentence(rng, 30) for _ in range(40)]
    changed = [" ".join("some" if i % 10 == 5 else word for i, word in enumerate(item.split())) for item in items]
    rows = drop_exact_duplicates(make(*[pair(text, "yes") for text in changed]))
    bench = write(tmp_path, [{"question": item} for item in items])
    # Nine words in a row at most, so words alone see nothing.
    assert run(rows, tmp_path, bench, near=None).table.num_rows == 40
    assert run(rows, tmp_path, bench, near=0.7).table.num_rows <= 2


def test_short_texts_must_be_there_as_a_whole(tmp_path: Path) -> None:
    nine = "the quick brown fox jumps over the lazy dog"
    bench = write(tmp_path, [{"q": nine, "a": "yes"}, {"q": "What is it?", "a": "no"}])
    items = read_items(bench, tmp_path)
    assert (items.texts, items.numbers, items.rows, items.short) == ([nine], [1], 2, 2)
    assert items.whole == {"whatisit": 2}
    prompts = [
        f"Say {nine} again",
        nine.replace("lazy", "sleepy") + " and then some more words",
        "what is it",
        "yes",
        "and what is it then",
    ]
    out = run(drop_exact_duplicates(make(*[pair(text, "what is it") for text in prompts])), tmp_path, bench)
    assert out.dropped["row"].to_pylist() == [1, 3]
    assert out.steps[-1].listings[0].rows == (("bench", 2, 2, 1, 1, 1, 2, 2),)


def test_boilerplate_of_a_benchmark_is_no_hit(tmp_path: Path) -> None:
    rng = random.Random(7)
    order = "read the following passage with care and then answer the question below it with yes or no"
    bench = write(tmp_path, [{"q": f"{order}: {sentence(rng, 20)}"} for _ in range(30)])
    rows = drop_exact_duplicates(make(pair(f"{order}: {sentence(rng, 30)}", "yes")))
    assert run(rows, tmp_path, bench).table.num_rows == 1
    few = write(tmp_path, [{"q": f"{order}: {sentence(rng, 20)}"} for _ in range(5)], "few.jsonl")
    assert run(rows, tmp_path, few).table.num_rows == 0


def test_a_quoted_phrase_is_no_item(tmp_path: Path) -> None:
    """Eight words that are a small part of an item, in a row about something else."""
    rng = random.Random(10)
    phrase = "please let me know if you have questions"
    bench = write(tmp_path, [{"q": sentence(rng, 40), "closing": phrase}])
    rows = drop_exact_duplicates(make(pair("a", f"{sentence(rng, 30)}, and {phrase}."), pair(f"Say {phrase}!", "yes")))
    assert run(rows, tmp_path, bench).dropped["row"].to_pylist() == [2]


def test_every_prompt_of_a_transcript_and_plain_texts_are_compared(tmp_path: Path) -> None:
    rng = random.Random(11)
    bench = write(tmp_path, [{"q": "What is the tallest mountain?"}])
    (tmp_path / "lines.txt").write_text("Where do the wild geese go?\n\nWho wrote it?\n")
    transcript = [*pair("What is the tallest mountain?", "Everest."), *pair("And how do I get there now?", "You fly.")]
    later = [*pair("Good morning to you.", "Hello."), *pair("where do the wild geese go", "South.")]
    plain = [("assistant", "What is the tallest mountain?")]
    rows = drop_exact_duplicates(make(transcript, later, plain, pair(sentence(rng, 9), "Where do the wild geese go?")))
    lines = Benchmark(title="lines", path="lines.txt")
    assert run(rows, tmp_path, bench, lines).dropped["row"].to_pylist() == [1, 2, 3]


def test_report_only_keeps_the_rows_and_names_them(tmp_path: Path) -> None:
    rng = random.Random(8)
    items = [sentence(rng, 20) for _ in range(5)]
    rows = drop_exact_duplicates(make(*[pair(item, "yes") for item in items[:3]], pair(sentence(rng, 20), "yes")))
    bench = write(tmp_path, [{"q": item} for item in items])
    out = run(rows, tmp_path, bench, action="report")
    assert out.table.num_rows == 4
    assert out.steps[-1].notes == {"contaminated": 3, "benchmarks": 1}
    assert out.steps[-1].listings[0].rows == (("bench", 5, 0, 3, 3, 0, 3, 3),)
    assert out.twins["dropped"].to_pylist() == [False] * 3
    assert run(rows, tmp_path) is rows


def test_nested_columns_and_other_kinds_of_files(tmp_path: Path) -> None:
    rng = random.Random(9)
    item = sentence(rng, 20)
    rows = drop_exact_duplicates(make(pair(item, "yes")))
    write(tmp_path, [{"turns": ["short", item], "id": 3}], "nested.json")
    (tmp_path / "b.csv").write_text(f"text,n\n{item},1\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps({"deep": {"er": [item]}}).encode()))
    for name in ("nested.json", "b.csv", "c.jsonl.gz"):
        assert run(rows, tmp_path, Benchmark(title="bench", path=name)).table.num_rows == 0, name
    assert run(rows, tmp_path, Benchmark(title="x", path="nested.json", columns=("turns",))).table.num_rows == 0


def test_what_cannot_be_compared_is_said_in_one_go(tmp_path: Path) -> None:
    rows = drop_exact_duplicates(make(pair("a", "b")))
    bench = write(tmp_path, [{"q": sentence(random.Random(1), 20)}])
    write(tmp_path, [{"q": "yes no"}], "short.jsonl")
    digest = hashlib.sha256((tmp_path / "bench.jsonl").read_bytes()).hexdigest()
    run(rows, tmp_path, bench.model_copy(update={"sha256": digest}))
    with pytest.raises(PipelineError) as caught:
        run(
            rows,
            tmp_path,
            Benchmark(title="gone", path="gone.jsonl"),
            Benchmark(title="short", path="short.jsonl"),
            Benchmark(title="column", path="bench.jsonl", columns=("p",)),
            Benchmark(title="pinned", path="bench.jsonl", sha256="0" * 64),
        )
    text = str(caught.value)
    assert "4 problems" in text
    assert 'benchmark "gone": gone.jsonl does not exist or holds no item' in text
    assert 'benchmark "short": short.jsonl holds no text of 3 words' in text
    assert 'benchmark "column": bench.jsonl has no column p' in text
    assert f"has sha256 {digest}; pinned is {'0' * 64}" in text
    with pytest.raises(ValidationError, match="several benchmarks are called bench"):
        Contamination(benchmarks=(bench, bench))


def test_real_sets(tmp_path: Path) -> None:
    """200 problems of GSM8K among 1,000 real instructions are found, and none of the others."""
    folder = os.environ.get("HEPTUNE_REAL_DATA")
    if not folder or not (Path(folder) / "gsm8k/train.jsonl.gz").exists():
        pytest.skip("HEPTUNE_REAL_DATA names no folder with public sets")
    with gzip.open(Path(folder) / "gsm8k/train.jsonl.gz", "rt") as stream:
        problems = [json.loads(line)["question"] for line in stream]
    with (Path(folder) / "dolly_hhrlhf_small/dolly_hhrlhf_train_small.jsonl").open() as stream:
        others = [json.loads(line) for line in stream]
    chosen = np.random.default_rng(1).choice(len(problems), 200, replace=False).tolist()
    planted = [pair(f"Solve this. {problems[i].lower()} Give the steps.", "The result is below.") for i in chosen]
    rows = drop_exact_duplicates(make(*[pair(row["prompt"], row["response"]) for row in others], *planted))
    bench = Benchmark(title="gsm8k", path=str(Path(folder) / "gsm8k/train.jsonl.gz"))
    out = run(rows, tmp_path, bench)
    numbers = out.dropped["row"].to_pylist()
    assert [number for number in numbers if number <= 1000] == []
    assert len(numbers) >= 199


def test_items_in_scripts_without_spaces_are_found(tmp_path: Path) -> None:
    item = "房间很干净，服务员也非常热情，早餐的种类比想象中多"
    bench = write(tmp_path, [{"question": item}, {"question": "ห้องพักสะอาดและพนักงานเป็นมิตรมาก"}])
    altered = "这次住得很满意：房间很干净，服务员也非常热情，就是离地铁站稍远，晚上打车不太方便，下次还会考虑"
    other = "这本书的内容很空洞，写得太浮于表面，送货倒是很快，包装也完好"
    thai = "รีวิว: ห้องพักสะอาดและพนักงานเป็นมิตรมาก แนะนำ"
    done = run(drop_exact_duplicates(make(*[pair(text, "谢谢") for text in (altered, other, thai)])), tmp_path, bench)
    assert done.dropped["row"].to_pylist() == [1, 3]
    assert len(read_items(bench, tmp_path).texts) == 2
