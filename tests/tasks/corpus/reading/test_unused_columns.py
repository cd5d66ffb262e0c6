"""Columns that take no part are kept where asked for, as they came but for personal data, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES, QUARANTINE
from tasks.contracts.tables import read_table
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.unused_columns import EXTRA, join_values, pick_values, write_extra
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.output.report import write_metrics, write_report
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.split import split_examples

WORDS = [a + b for a in ("ka", "lo", "mi", "tu", "ve", "zy") for b in ("ra", "sol", "ten", "wick", "dun")]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text("abc.", max_size=3), below, max_size=3),
    max_leaves=8,
)  # fmt: skip


def say(number: int) -> str:
    return " ".join(WORDS[(place * number + number // 30) % 30] for place in range(1, 8))


def prepare(root: Path, rows: list[dict[str, Any]], **source: Any) -> Rows:
    root.mkdir(exist_ok=True)
    (root / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    params = DataPreparation.model_validate(
        {
            "sources": [{"name": "jsonl", "path": "x.jsonl", "title": "x", **source}],
            "gate": {"min_rows": 5},
            "split": {"test": 0.2, "validation": 0.2},
        }
    )
    done = clean_rows(read_sources(params.sources, "quarantine", root), params.cleaning)
    done = split_examples(remove_duplicates(done, params.duplicates), params.split, params.duplicates)
    write_quarantine(done, root / "prepared/quarantine.parquet")
    verdict = check_quality(done, params.gate, params.duplicates, params.split, root / "report/data_docs")
    write_report(done, verdict, root / "report/index.html")
    write_extra(done, root / "prepared/extra.parquet")
    write_splits(done, verdict, 0, root / "prepared")
    write_metrics(done, verdict, root / "report/metrics.json")
    return done


def make_rows(count: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "question": f"{say(n)}?",
            "answer": f"{say(n)[::-1]}.",
            "intent": f"kind_{n % 3}",
            "ticket": f"T-{n}",
            "meta": {"region": "north", "score": n / 8, "tags": ["a", n]},
            "closed": n % 2 == 0,
        }
        for n in range(count)
    ]


def read_extra(root: Path) -> dict[int, Any]:
    lines = read_table(root / "prepared/extra.parquet", EXTRA).to_pylist()
    return {line["row"]: json.loads(line["extra"]) for line in lines}


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("abcd", min_size=1, max_size=3), JSON, max_size=5))
def test_what_is_kept_is_what_came(row: dict[str, Any]) -> None:
    assert json.loads(join_values(pick_values(True, (), row))) == row


def test_all_columns_that_take_no_part(tmp_path: Path) -> None:
    rows = make_rows()
    done = prepare(tmp_path, rows, keep=True)
    found = read_extra(tmp_path)
    assert len(found) == done.table.num_rows
    for number, extra in found.items():
        assert extra == {name: rows[number - 1][name] for name in ("ticket", "meta", "closed")}
    ids = read_table(tmp_path / "prepared/extra.parquet", EXTRA)["id"].to_pylist()
    assert ids == done.table["id"].to_pylist()
    assert done.origins[0].unused == ()


def test_some_columns_by_name_also_inside_objects(tmp_path: Path) -> None:
    rows = make_rows()
    rows[1].pop("ticket")
    done = prepare(tmp_path, rows, keep=["ticket", "meta.region", "intent"])
    found = read_extra(tmp_path)
    assert found[1] == {"ticket": "T-0", "meta.region": "north", "intent": "kind_0"}
    assert found[2] == {"meta.region": "north", "intent": "kind_1"}
    assert done.origins[0].unused == ("meta", "closed")


def test_of_an_object_that_holds_the_text_the_rest_is_kept(tmp_path: Path) -> None:
    rows = [{"content": {"body": f"{say(n)} {say(n + 100)}.", "page": n}, "n": n} for n in range(60)]
    prepare(tmp_path, rows, keep=True, fields={"text": "content.body"})
    for number, extra in read_extra(tmp_path).items():
        assert extra == {"content": {"page": number - 1}, "n": number - 1}


def test_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="keep names tikcet, which no row has; columns are"):
        prepare(tmp_path, make_rows(), keep=["tikcet", "ticket"])


def test_other_outs_are_the_same_bytes_with_and_without(tmp_path: Path) -> None:
    prepare(tmp_path / "off", make_rows())
    prepare(tmp_path / "on", make_rows(), keep=True)
    prepare(tmp_path / "capped", make_rows(), keep=True, limit=30)
    capped = prepare(tmp_path / "capped_off", make_rows(), limit=30)
    assert read_table(tmp_path / "off/prepared/extra.parquet", EXTRA).num_rows == 0
    for file in (
        *(f"prepared/{name}.parquet" for name in ("train", "validation", "test", "answers")),
        "report/metrics.json",
    ):
        assert (tmp_path / "off" / file).read_bytes() == (tmp_path / "on" / file).read_bytes(), file
    # What is kept beside a row has no say in whether it stays.
    kept = pq.read_table(tmp_path / "capped/prepared/extra.parquet")["row"].to_pylist()
    assert kept == capped.table["row"].to_pylist()


def test_personal_data_is_taken_out_of_what_is_kept(tmp_path: Path) -> None:
    canaries = ("zoe.canary@example.org", "4111 1111 1111 1111", "4012888888881881")
    rows = make_rows()
    for row in rows:
        row["ticket"] = f"by {canaries[0]}"
        row["meta"] = {"note": f"line\ncard {canaries[1]}", "deep": [{"mail": canaries[0]}]}
        row["closed"] = int(canaries[2])
    rows[7]["answer"] = ""
    prepare(tmp_path, rows, keep=True)
    found = read_extra(tmp_path)
    assert found[1]["ticket"] == "by <email>"
    assert found[1]["meta"]["deep"] == [{"mail": "<email>"}]
    assert found[1]["closed"] == "<card>"
    dropped = read_table(tmp_path / "prepared/quarantine.parquet", QUARANTINE).to_pylist()
    assert "<email>" in next(row["content"] for row in dropped if row["row"] == 8)
    tables = [pq.read_table(path).to_pylist() for path in (tmp_path / "prepared").glob("*.parquet")]
    pages = [path.read_text() for path in (tmp_path / "report").rglob("*") if path.suffix in (".html", ".json")]
    assert [value for value in canaries if value in str(tables) + "".join(pages)] == []


def test_sources_that_keep_nothing_stand_beside_those_that_do(tmp_path: Path) -> None:
    for name, start in (("a", 0), ("b", 500)):
        lines = [json.dumps(row | {"question": f"{say(start + n)}?"}) for n, row in enumerate(make_rows(30))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sources = [Jsonl(path="a.jsonl", title="a", keep=("ticket",)), Jsonl(path="b.jsonl", title="b")]
    rows = clean_rows(read_sources(sources, "stop", tmp_path), DataPreparation().cleaning)
    split = split_examples(
        remove_duplicates(rows, DataPreparation().duplicates), DataPreparation().split, DataPreparation().duplicates
    )
    assert write_extra(split, tmp_path / "extra.parquet") == {"lines": split.table["source"].to_pylist().count("a")}
    assert set(read_table(tmp_path / "extra.parquet", EXTRA)["source"].to_pylist()) == {"a"}
    assert EXAMPLES.names == ["id", "messages", "source", "row", "label", "cluster"]
