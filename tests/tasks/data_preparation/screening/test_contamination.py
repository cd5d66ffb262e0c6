"""Items of benchmarks are found wherever they stand, and nothing else is."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.benchmark_items import Items, read_items
from tasks.corpus.reading.benchmarks import Benchmark
from tasks.corpus.rows.rows import Rows
from tasks.corpus.text.words import find_words
from tasks.data_preparation.screening.contamination import remove_contamination
from tasks.data_preparation.screening.duplicates import drop_exact_duplicates
from tasks.data_preparation.screening.item_coverage import find_contained, hash_texts, hash_words, index_items
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
@given(st.lists(st.text(alphabet="ab B.é_7-\n", max_size=20), max_size=6), st.integers(1, 4))
def test_ngrams_are_those_of_the_words(texts: list[str], size: int) -> None:
    words = [find_words(text) for text in texts]
    assert words == [re.findall(r"\w+", text.casefold()) for text in texts]
    hashed = hash_words(words)
    hashes, first = hashed.list_ngrams(size)
    ngrams = [tuple(row[i : i + size]) for row in words for i in range(len(row) - size + 1)]
    assert hashed.find_texts(first).tolist() == [i for i, row in enumerate(words) for _ in range(len(row) - size + 1)]
    assert len(dict(zip(ngrams, hashes.tolist(), strict=True))) == len(set(hashes.tolist()))
    of_texts = hash_texts(pl.Series(texts, dtype=pl.String))
    assert of_texts.hashes.tolist() == hashed.hashes.tolist()
    assert of_texts.offsets.tolist() == hashed.offsets.tolist()
    some = np.array([0, 2])
    assert set(hashed.find_texts(hashed.list_ngrams(size, some)[1]).tolist()) <= {0, 2}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_covered_words_are_those_of_shared_ngrams(data: st.DataObject) -> None:
    """By sets of words, text by text and row by row, with boilerplate."""
    word = st.sampled_from("abcde")
    texts = data.draw(st.lists(st.lists(word, min_size=8, max_size=24), min_size=1, max_size=5))
    rows = data.draw(st.lists(st.lists(word, max_size=20), min_size=1, max_size=4))
    rows += [text[: data.draw(st.integers(8, 24))] for text in texts]
    size = data.draw(st.sampled_from([8, 10]))
    items = Items("b", [" ".join(text) for text in texts], texts, list(range(1, len(texts) + 1)), len(texts), {}, 0)
    index = index_items([items], size, 0.5)
    found = find_contained(hash_words(rows), index)
    wanted = {}
    counts = Counter(ngram for text in texts for ngram in {tuple(text[i : i + 8]) for i in range(len(text) - 7)})
    for number, text in enumerate(texts):
        width = min(size, len(text))
        ngrams = [tuple(text[i : i + width]) for i in range(len(text) - width + 1)]
        is_counted = [any(counts[ngram[j : j + 8]] <= 2 for j in range(width - 7)) for ngram in ngrams]
        counted = {i + j for i, is_one in enumerate(is_counted) if is_one for j in range(width)}
        for place, row in enumerate(rows):
            of_row = {tuple(row[i : i + width]) for i in range(len(row) - width + 1)}
            shared = [i for i, ngram in enumerate(ngrams) if is_counted[i] and ngram in of_row]
            covered = {i + j for i in shared for j in range(width)}
            if covered and len(covered) >= min(len(counted), max(13, len(counted) / 2)):
                wanted[place, number] = len(covered)
    keys = zip(found.rows.tolist(), found.texts.tolist(), strict=True)
    assert dict(zip(keys, found.covered.tolist(), strict=True)) == wanted


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
    # Nine words in a row at most, which words alone see where n-grams are no longer.
    assert run(rows, tmp_path, bench, near=None, words=10).table.num_rows == 40
    assert run(rows, tmp_path, bench, near=0.7, words=10).table.num_rows <= 2
    assert run(rows, tmp_path, bench, near=None).table.num_rows == 0


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


@pytest.mark.parametrize("count", [30, 5])
def test_boilerplate_of_a_benchmark_is_no_hit(count: int, tmp_path: Path) -> None:
    """Instructions that make most of an item condemn neither rows that say them nor near duplicates of the whole."""
    rng = random.Random(7)
    order = "read the following passage with care and then answer the question below it with yes or no"
    questions = [sentence(rng, 4) for _ in range(count)]
    bench = write(tmp_path, [{"q": f"{order}: {question}", "hint": "answer yes or no"} for question in questions])
    rows = drop_exact_duplicates(
        make(
            pair(f"{order}: {sentence(rng, 30)}", "yes"),
            pair(f"{order}: {sentence(rng, 4)}", "no"),
            pair("Answer yes or no!", "yes"),
            pair(f"Please {order}: {questions[3]}", "no"),
            pair(f"{order}: {questions[1]}", "no"),
        )
    )
    assert run(rows, tmp_path, bench).dropped["row"].to_pylist() == [4, 5]


def test_an_item_of_nothing_but_boilerplate_is_found_as_a_whole(tmp_path: Path) -> None:
    """Expressions of two words: every n-gram is in many of them, no expression is there twice."""
    rng = random.Random(14)
    expressions = list(dict.fromkeys(" ".join(rng.choices(["true", "or"], k=14)) for _ in range(4000)))
    bench = write(tmp_path, [{"q": expression} for expression in expressions[:-1]])
    rows = drop_exact_duplicates(make(pair(expressions[3].upper(), "no"), pair(expressions[-1], "no")))
    assert run(rows, tmp_path, bench).dropped["row"].to_pylist() == [1]


def test_an_item_is_contained_by_the_share_of_its_words(tmp_path: Path) -> None:
    """One shared n-gram of 13 words is a quotation; half of the item is the item."""
    rng = random.Random(12)
    item = sentence(rng, 40).split()
    around = sentence(rng, 25)
    bench = write(tmp_path, [{"q": " ".join(item)}])
    cuts = {"13": item[:13], "19": item[5:24], "20": item[10:30], "two of 10": [*item[:10], "and", *item[30:]]}
    rows = drop_exact_duplicates(
        make(*[pair(f"{around} {' '.join(cut)} {around}", name) for name, cut in cuts.items()])
    )
    assert run(rows, tmp_path, bench).dropped["row"].to_pylist() == [3, 4]
    assert run(rows, tmp_path, bench, share=0.3).dropped["row"].to_pylist() == [1, 2, 3, 4]
    assert run(rows, tmp_path, bench, share=0.6).dropped.num_rows == 0


def test_a_question_to_a_passage_of_many_questions_is_found(tmp_path: Path) -> None:
    """Most items are of one passage, which is boilerplate; what is left of an item is its question."""
    rng = random.Random(13)
    passage = sentence(rng, 80)
    questions = [sentence(rng, 9) for _ in range(12)]
    bench = write(tmp_path, [{"passage": passage, "question": question} for question in questions])
    rows = drop_exact_duplicates(
        make(pair(f"{passage} {questions[0]}", "yes"), pair(f"{passage} {sentence(rng, 9)}", "no"))
    )
    assert run(rows, tmp_path, bench).dropped["row"].to_pylist() == [1]


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


def test_files_of_suites_are_benchmarks_too_and_too_short_ones_are_passed_over(tmp_path: Path) -> None:
    rng = random.Random(5)
    item = sentence(rng, 20)
    long = write(tmp_path, [{"question": item}], "suite.jsonl").model_copy(update={"title": "suite"})
    short = write(tmp_path, [{"question": "2+2="}], "short.jsonl").model_copy(update={"title": "short"})
    rows = drop_exact_duplicates(make(pair(item, "x"), pair(sentence(rng, 20), "y")))
    kept = remove_contamination(rows, Contamination(), tmp_path, [long, short])
    assert kept.table.num_rows == 1
    assert remove_contamination(rows, Contamination(), tmp_path, [short]).table.num_rows == 2
    with pytest.raises(PipelineError, match="holds no text of 3 words"):
        remove_contamination(rows, Contamination(benchmarks=(short,)), tmp_path)
    missing = short.model_copy(update={"path": "missing.jsonl"})
    with pytest.raises(PipelineError, match="does not exist"):
        remove_contamination(rows, Contamination(), tmp_path, [missing])
