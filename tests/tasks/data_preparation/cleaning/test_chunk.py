"""Long plain texts in parts: nothing is lost, nothing is too long, and a document stays in one split."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.records import EXAMPLES, QUARANTINE
from tasks.contracts.tables import read_table
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.unused_columns import COLUMN as EXTRA_COLUMN
from tasks.corpus.reading.unused_columns import EXTRA, write_extra
from tasks.corpus.reading.unused_columns import TYPE as EXTRA_TYPE
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.cleaning.steps.chunk import Chunk, cut_text
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.output.report import write_report
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.split import split_examples
from tests.conversations import make, pair, texts

TEXTS = st.text(st.sampled_from("abc é漢。.?!\n \t\"'"), max_size=2_000)


def squeeze(text: str) -> str:
    return re.sub(r"\s+", "", text)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(10, 300))
def test_parts_without_overlap_are_the_text(text: str, characters: int) -> None:
    parts = cut_text(text, characters)
    assert all(0 < len(part) <= characters for part in parts)
    assert squeeze("".join(parts)) == squeeze(text)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(20, 300), st.floats(0, 0.25))
def test_every_part_stands_in_the_text_and_hides_nothing(text: str, characters: int, share: float) -> None:
    overlap = int(characters * share)
    end = 0
    for part in cut_text(text, characters, overlap):
        assert len(part) <= characters
        begin = text.index(part, max(end - overlap, 0))
        assert not text[end:begin].strip()
        end = begin + len(part)
    assert not text[end:].strip()


def test_it_is_cut_behind_paragraphs_then_sentences_then_words() -> None:
    paragraph = "One two three four. Five six seven eight."
    two = f"{paragraph}\n\n{paragraph}"
    assert cut_text(f"{two}\n\n{two}", 100) == [two, two]
    assert cut_text(f"{paragraph} {paragraph}", 50) == [paragraph, paragraph]
    assert cut_text("alpha beta gamma delta", 12) == ["alpha beta", "gamma delta"]
    assert cut_text("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert cut_text("第一句话在这里。第二句话在这里。", 10) == ["第一句话在这里。", "第二句话在这里。"]
    assert cut_text("short", 10) == ["short"]
    assert cut_text(" \n ", 10) == []


def test_overlap_repeats_whole_words() -> None:
    parts = cut_text(" ".join(f"w{i:03}" for i in range(100)), 100, 20)
    for one, other in pairwise(parts):
        repeated = one.split()[one.split().index(other.split()[0]) :]
        assert 1 <= len(repeated) <= 4
        assert other.split()[: len(repeated)] == repeated


def write_story(number: int, sentences: int) -> str:
    rng = random.Random(number)
    words = iter("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 8))) for _ in range(9 * sentences))
    lines = [" ".join(islice(words, 9)).capitalize() + "." for _ in range(sentences)]
    return "\n\n".join(" ".join(lines[start : start + 4]) for start in range(0, sentences, 4))


def prepare(root: Path, rows: list[dict[str, Any]], cleaning: list[dict[str, Any]], **more: Any) -> Rows:
    (root / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    params = DataPreparation.model_validate(
        {
            "sources": [{"name": "jsonl", "path": "x.jsonl", "title": "x"}],
            "cleaning": cleaning,
            "gate": {"min_rows": 5},
            "split": {"test": 0.25, "validation": 0.25},
            **more,
        }
    )
    done = clean_rows(read_sources(params.sources, "quarantine", root, params.split.method.columns), params.cleaning)
    done = split_examples(remove_duplicates(done, params.duplicates), params.split, params.duplicates)
    write_quarantine(done, root / "prepared/quarantine.parquet")
    verdict = check_quality(done, params.gate, params.duplicates, params.split, root / "report/data_docs")
    write_report(done, verdict, root / "report/index.html")
    write_extra(done, root / "prepared/extra.parquet")
    write_splits(done, verdict, 0, root / "prepared")
    return done


CUT = [{"name": "chunk", "characters": 500, "overlap": 50}, {"name": "missing"}, {"name": "length", "max_total": 500}]


def test_documents_stay_whole_in_one_split_with_their_place(tmp_path: Path) -> None:
    stories = [write_story(number, 30 if number % 3 else 4) for number in range(40)]
    done = prepare(tmp_path, [{"text": story} for story in stories], CUT)
    names = ("train", "validation", "test")
    tables = {name: read_table(tmp_path / f"prepared/{name}.parquet", EXAMPLES) for name in names}
    where: dict[int, set[str]] = defaultdict(set)
    clusters: dict[int, set[str]] = defaultdict(set)
    for name, table in tables.items():
        for row in table.to_pylist():
            where[row["row"]].add(name)
            clusters[row["row"]].add(row["cluster"])
            assert len(row["messages"][0]["content"]) <= 500
    assert len(where) == 40
    assert all(len(splits) == 1 for splits in where.values())
    assert all(len(each) == 1 for each in clusters.values())
    assert read_table(tmp_path / "prepared/quarantine.parquet", QUARANTINE).num_rows == 0

    text_of = {row["id"]: row["messages"][0]["content"] for table in tables.values() for row in table.to_pylist()}
    parts: dict[int, list[str]] = defaultdict(list)
    lines = read_table(tmp_path / "prepared/extra.parquet", EXTRA).to_pylist()
    for line in lines:
        assert line["extra"] is None
        parts[line["row"]].append(text_of[line["id"]])
        assert line["part"] == len(parts[line["row"]])
    assert {line["row"] for line in lines} == {n + 1 for n, story in enumerate(stories) if len(story) > 500}
    for number, found in parts.items():
        assert found == cut_text(stories[number - 1], 500, 50)
    step = next(step for step in done.steps if step.name == "chunk")
    assert (step.rows_in, step.rows_out) == (40, sum(map(len, parts.values())) + 40 - len(parts))
    assert step.listings[0].rows == (("x", len(parts), step.changed),)
    assert "Long texts split into chunks" in (tmp_path / "report/index.html").read_text()


def test_a_document_keeps_its_split_when_others_come(tmp_path: Path) -> None:
    stories = [{"text": write_story(number, 24)} for number in range(40)]

    def place(rows: list[dict[str, Any]], name: str) -> dict[str, str]:
        (tmp_path / name).mkdir()
        table = prepare(tmp_path / name, rows, CUT).table
        return dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))

    few, more = place(stories[:25], "few"), place(stories, "more")
    assert len(more) > len(few)
    assert few.items() <= more.items()


def test_dialogues_and_short_texts_stay_as_they_are(tmp_path: Path) -> None:
    rows = [{"question": f"{write_story(n, 2)}", "answer": write_story(n + 1000, 12)} for n in range(30)]
    steps = [{"name": "chunk", "characters": 300}, {"name": "missing"}]
    done = prepare(tmp_path, rows, steps)
    assert done.table.num_rows == 30
    assert "document" not in done.table.column_names
    assert read_table(tmp_path / "prepared/extra.parquet", EXTRA).num_rows == 0


def test_a_long_text_is_copied_once_and_its_own_columns_stand_with_the_first_chunk() -> None:
    text = " ".join(f"word{number}" for number in range(200_000))
    rows = make([("assistant", text)], pair("a", "b"), [("assistant", text[:100])])
    extra = pa.array([[{"name": "summary", "value": text, "json": False}], None, None], EXTRA_TYPE)
    before = pa.total_allocated_bytes()
    done = clean_rows(replace(rows, table=rows.table.append_column(EXTRA_COLUMN, extra)), [Chunk(characters=1000)])
    assert pa.total_allocated_bytes() - before < 8 * len(text)
    chunks = cut_text(text, 1000)
    assert texts(done) == [*([chunk] for chunk in chunks), ["a", "b"], [text[:100]]]
    assert done.table["part"].to_pylist() == [*range(1, len(chunks) + 1), None, None]
    assert set(done.table["parts"].to_pylist()) == {len(chunks), None}
    assert pc.count(done.table[EXTRA_COLUMN]).as_py() == 1
    assert done.table[EXTRA_COLUMN][0].as_py() == extra[0].as_py()


def test_a_column_that_splits_goes_along(tmp_path: Path) -> None:
    rows = [{"text": write_story(n, 16), "part_of": ("train", "validation", "test")[n % 3]} for n in range(30)]
    done = prepare(tmp_path, rows, CUT, split={"method": {"name": "column", "column": "part_of"}})
    for row in done.table.select(["row", "split"]).to_pylist():
        assert row["split"] == rows[row["row"] - 1]["part_of"]


def test_params_refuse_torn_texts_and_too_much_overlap() -> None:
    missing, chunk = Missing(), Chunk()
    with pytest.raises(ValidationError, match="html, pii after chunk"):
        DataPreparation.model_validate({"cleaning": [chunk, {"name": "html"}, {"name": "pii"}, missing]})
    with pytest.raises(ValidationError, match="length before chunk"):
        DataPreparation.model_validate({"cleaning": [{"name": "length"}, chunk, missing]})
    with pytest.raises(ValidationError, match="chunk after chunk"):
        DataPreparation.model_validate({"cleaning": [chunk, chunk, missing]})
    with pytest.raises(ValidationError, match="more than a quarter"):
        Chunk(characters=100, overlap=26)


def test_no_part_tells_a_reader_of_the_rows_more_than_it_needs(tmp_path: Path) -> None:
    """Without the step the rows have no column of it."""
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"text": write_story(n, 3)}) for n in range(5)))
    rows = clean_rows(read_sources([Jsonl(path="x.jsonl")], "stop", tmp_path), [Missing()])
    assert isinstance(rows.table, pa.Table)
    assert {"document", "part", "parts", "extra"}.isdisjoint(rows.table.column_names)
