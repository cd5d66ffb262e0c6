"""What a row teaches: numbers as they were meant, doubt where nothing says which answer is right, lists once."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.shapes.listed_choices import find_listed, label_choices
from tasks.corpus.reading.shapes.suggestions import suggest_fields
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.hugging_face import HuggingFace
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.rows.rows import Rows

NAN = float("nan")


def read_json(tmp_path: Path, rows: list[dict[str, Any]], **params: Any) -> Rows:
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return read_sources([Jsonl(path="x.jsonl", **params)], "quarantine", tmp_path)


def answers(rows: Rows) -> list[str]:
    return [messages[-1]["content"] for messages in rows.table["messages"].to_pylist()]


@pytest.mark.parametrize(
    ("numbers", "taught"),
    [
        ([NAN, 1.0, 2.0], ["", "1", "2"]),
        ([NAN, -1.0, 0.0], ["", "-1", "0"]),
        ([1.5, 2.0, NAN], ["1.5", "2.0", ""]),
        ([0.1, 0.25, 1.0], ["0.1", "0.25", "1.0"]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet", "float32", "jsonl", "arrow", "null"])
def test_whole_numbers_that_pandas_made_floats(
    tmp_path: Path, kind: str, numbers: list[float], taught: list[str]
) -> None:
    rows = [{"text": f"Text {n}", "label": number} for n, number in enumerate(numbers)]
    table = pa.table({"text": [row["text"] for row in rows], "label": pa.array(numbers, pa.float64())})
    source: Any
    if kind == "csv":
        lines = [
            "text,label",
            *(f"{row['text']},{'' if row['label'] != row['label'] else row['label']}" for row in rows),
        ]
        (tmp_path / "x.csv").write_text("\n".join(lines))
        source = Csv(path="x.csv")
    elif kind == "jsonl":
        (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
        source = Jsonl(path="x.jsonl")
    elif kind == "arrow":
        import datasets

        datasets.Dataset(table).save_to_disk(str(tmp_path / "set"))
        source = HuggingFace(path="set")
    else:
        if kind == "float32":
            table = table.set_column(1, "label", table["label"].cast(pa.float32()))
        elif kind == "null":
            given = [None if number != number else number for number in numbers]
            table = table.set_column(1, "label", pa.array(given, pa.float64()))
        pq.write_table(table, tmp_path / "x.parquet")
        source = Parquet(path="x.parquet")
    found = read_sources([source.model_copy(update={"shape": "text_label"})], "stop", tmp_path)
    assert answers(found) == taught
    assert found.table["label"].to_pylist() == [text or None for text in taught]


def test_versions_in_csv_stay(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("question,answer\nWhich?,1.0\nAnd now?,2.0\n")
    assert answers(read_sources([Csv(path="x.csv")], "stop", tmp_path)) == ["1.0", "2.0"]


@pytest.mark.parametrize(
    ("array", "taught"),
    [
        (pa.array([True, False]), ["True", "False"]),
        (pa.array([datetime.date(2024, 2, 29), None]), ["2024-02-29", ""]),
        (pa.array([datetime.datetime(2024, 2, 29, 12, 30)], pa.timestamp("us")), ["2024-02-29T12:30:00"]),
        (pa.array([decimal.Decimal("1.50"), decimal.Decimal("-2.00")]), ["1.50", "-2.00"]),
        (pa.array([2**63 + 1, 3], pa.uint64()), ["9223372036854775809", "3"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([7, 8, 7]).dictionary_encode(), ["7", "8", "7"]),
        (pa.array(["a", None], pa.large_string()), ["a", ""]),
        (pa.array([b"caf\xc3\xa9"], pa.binary()), ["caf\u00e9"]),
        (pa.array([1, None, 2], pa.int8()), ["1", "", "2"]),
        (pa.array([float("inf"), 1.0]), ["", "1"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_how_a_value_of_arrow_becomes_text(tmp_path: Path, array: pa.Array, taught: list[str]) -> None:
    texts = [f"Text {n}" for n in range(len(array))]
    pq.write_table(pa.table({"text": texts, "label": array}), tmp_path / "x.parquet")
    rows = read_sources([Parquet(path="x.parquet", shape="text_label")], "stop", tmp_path)
    assert answers(rows) == taught


def test_a_large_integer_keeps_its_digits(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"question": "How much?", "answer": 123456789012345678901234567890}')
    assert answers(read_sources([Jsonl(path="x.jsonl")], "stop", tmp_path)) == ["123456789012345678901234567890"]


NAMED = [
    {"prompt": "p", "answers": [{"model": "gpt-4", "text": "a"}, {"model": "llama", "text": "b"}]},
    {"prompt": "p", "responses": [{"source": "claude", "response": "a"}, {"source": "palm", "response": "b"}]},
    {"prompt": "p", "answers": ["a", "b"], "models": ["gpt-4", "llama"]},
    {"instruction": "p", "outputs": ["a", "b", "c"]},
    {"question": "p", "answers": ["Paris", "paris, France"]},
    {"prompt": "p", "completions": ["a", "b"]},
]


@pytest.mark.parametrize("row", NAMED)
def test_answers_without_an_order_of_merit_are_asked_about(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"no ranked, since nothing says which answer is better; .*shape: ranked"):
        read_json(tmp_path, [row] * 3)
    assert answers(read_json(tmp_path, [row], shape="ranked"))[0] in ("a", "Paris")


@pytest.mark.parametrize(
    "row", [{"prompt": "p", "gpt4": "a", "llama": "b"}, {"prompt": "p", "response_a": "a", "response_b": "b"}]
)
def test_columns_named_for_models_are_no_ranking(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match="unknown shape"):
        read_json(tmp_path, [row] * 3)


def test_a_winner_that_pandas_made_a_float(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "output_1": "a", "output_2": "b", "label": n} for n in (1.0, 2.0)]
    assert answers(read_json(tmp_path, [*rows, {**rows[0], "label": None}])) == ["a", "b"]


TEXTS = [{"text": f"Order {n} is late and I want a refund."} for n in range(6)]
SEVERAL: list[list[dict[str, Any]]] = [
    [row | {"intents": ["refund", "delay"]} for row in TEXTS],
    [row | {"labels": [3, 7]} for row in TEXTS],
    [row | {"emotions": ["joy"]} for row in TEXTS],
    [row | {"kinds": ["joy", "fear"][: 1 + n % 2]} for n, row in enumerate(TEXTS)],
    [row | {"joy": n % 2, "fear": 0, "anger": 1} for n, row in enumerate(TEXTS)],
    [row | {"emotion": ["joy", "fear"][n % 2]} for n, row in enumerate(TEXTS)],
]


@pytest.mark.parametrize("rows", SEVERAL)
def test_texts_with_several_labels_are_no_plain_text(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(PipelineError, match=r"unknown shape"):
        read_json(tmp_path, rows)


def test_documents_and_texts_with_facts_about_them_stay_plain_text(tmp_path: Path) -> None:
    facts = {"lang": "en", "source": "web", "url": "https://a.example/b", "license": "MIT"}
    assert read_json(tmp_path, [row | facts for row in TEXTS]).origins[0].shape == "plain_text"
    long = [{"text": "A sentence of a story. " * 100, "tags": ["news", "sport"]} for _ in range(6)]
    assert read_json(tmp_path, long).origins[0].shape == "plain_text"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"commit": "a3f5b2c1d4e6f708192a3b4c5d6e7f8091a2b3c4", "change": "Fix the gate", "why": "It never closed"},
            "{prompt: change, answer: why}",
        ),
        (
            {"link": "https://a.example/a/very/long/path/to/it", "said": "Where is it?", "reply": "Here it is."},
            "{prompt: said, answer: reply}",
        ),
        ({"uuid": "123e4567-e89b-12d3-a456-426614174000", "line": "A short story."}, "such as fields: {text: line}"),
        (
            {"when": "2024-02-29 12:30:00 and so on", "who": "ann@shop.example", "line": "Hello there."},
            "such as fields: {text: line}",
        ),
        ({"key": "8842-1", "hash": "deadbeef0123"}, "name the columns with fields: {prompt: ..., answer: ...}"),
        (
            {
                "id": "x-1",
                "zh": "\u60a8\u7684\u8ba2\u5355\u5df2\u53d1\u8d27",
                "ja": "\u306f\u3044\u305d\u3046\u3067\u3059",
            },
            "{prompt: zh, answer: ja}",
        ),
    ],
)
def test_a_suggestion_names_texts_of_a_language(row: dict[str, Any], expected: str) -> None:
    assert expected in suggest_fields([row] * 2)


@pytest.mark.parametrize(
    ("question", "listed"),
    [
        ("Capital of France?\nA) Rome\nB) Paris", ["B) Paris", "A) Rome"]),
        ("Capital of France? A. Rome B. Paris", ["B. Paris", "A. Rome"]),
        ("Capital of France? (a) Rome (b) Paris", ["(b) Paris", "(a) Rome"]),
        ("Capital of France? [A] Rome, [B] Paris", ["[B] Paris", "[A] Rome"]),
        ("Capital of France?\n1. Rome\n2. Paris", ["2. Paris", "1. Rome"]),
        ("Capital of France?\n1: Rome\n2: Paris", ["2: Paris", "1: Rome"]),
        ("Capital of France?\n- Rome\n- Paris", ["Paris", "Rome"]),
        ("Capital of France?\nOptions: Rome, Paris", ["Paris", "Rome"]),
        ("Capital of France?\nChoices: Rome or Paris.", ["Paris", "Rome"]),
        ("Capital of France?", None),
        ("Capital of France? A) Rome", None),
        ("Is Paris or Rome the capital of France?", None),
        ("Options: Rome, Paris, Berlin", None),
    ],
)
def test_choices_that_the_question_lists_are_not_listed_again(
    tmp_path: Path, question: str, listed: list[str] | None
) -> None:
    assert find_listed(question, ["Paris", "Rome"]) == listed
    rows = read_json(tmp_path, [{"question": question, "choices": ["Paris", "Rome"], "answer": 0}])
    asked, answered = rows.table["messages"][0].as_py()
    assert asked["content"] == (question if listed else f"{question}\n\nA. Paris\nB. Rome")
    assert answered["content"] == (listed[0] if listed else "A. Paris")


def test_choices_with_letters_of_their_own_keep_them() -> None:
    assert label_choices(["A. Paris", "B. Rome"]) == ["A. Paris", "B. Rome"]
    assert label_choices(["(1) Paris", "(2) Rome"]) == ["(1) Paris", "(2) Rome"]
    assert label_choices(["A. Lincoln", "G. Washington"]) == ["A. A. Lincoln", "B. G. Washington"]
