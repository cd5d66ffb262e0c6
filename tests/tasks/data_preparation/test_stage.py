"""The stage's tasks in a row on the sample: the files agree, nothing planted gets through, twice the same bytes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.contracts.manifest import read_manifest
from tasks.contracts.power import detectable_share
from tasks.contracts.records import EXAMPLES, QUARANTINE, Example, content_id
from tasks.contracts.tables import read_table
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.reading.unused_columns import write_extra
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.output.report import write_metrics, write_report
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.split import split_examples
from tasks.data_preparation.trainset.balancing.balance import balance_train
from tasks.sample_shop.sample import SampleData, generate_sample

COUNT, SEED = 800, 11


def prepare(settings: DataPreparation, root: Path, out: Path) -> Rows:
    rows = read_sources(settings.sources, settings.on_bad_row, root)
    rows = clean_rows(rows, settings.cleaning)
    rows = remove_duplicates(rows, settings.duplicates)
    rows = split_examples(rows, settings.split, settings.duplicates)
    write_quarantine(rows, out / "prepared/quarantine.parquet")
    verdict = check_quality(rows, settings.gate, settings.duplicates, settings.split, out / "report/data_docs")
    write_report(rows, verdict, out / "report/index.html")
    write_splits(rows, verdict, settings.split.seed, out / "prepared")
    write_metrics(rows, verdict, out / "report/metrics.json")
    return rows


@cache
def truth() -> SampleData:
    return generate_sample(COUNT, SEED)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage")
    settings = DataPreparation(sources=(Sample(rows=COUNT, seed=SEED, title="shop"),))
    for name in ("first", "second"):
        prepare(settings, folder, folder / name)
    return folder


def read_all(out: Path) -> dict[str, pa.Table]:
    return {n: read_table(out / f"first/prepared/{n}.parquet", EXAMPLES) for n in ("train", "validation", "test")}


def test_two_runs_give_the_same_bytes(out: Path) -> None:
    files = sorted(p.relative_to(out / "first") for p in (out / "first").rglob("*") if p.is_file())
    assert len(files) == 13
    for name in files:
        assert (out / "first" / name).read_bytes() == (out / "second" / name).read_bytes(), name


def test_every_row_is_somewhere_once(out: Path) -> None:
    tables = read_all(out)
    dropped = read_table(out / "first/prepared/quarantine.parquet", QUARANTINE)
    kept = [row for table in tables.values() for row in table["row"].to_pylist()]
    rows = sorted([*kept, *dropped["row"].to_pylist()])
    assert rows == list(range(1, truth().table.num_rows + 1))


def test_rows_are_examples(out: Path) -> None:
    for table in read_all(out).values():
        for row in table.to_pylist():
            example = Example(**row)
            assert example.messages[-1].role == "assistant"
            assert example.id == content_id(row["messages"])
            assert example.source == "shop"


def test_manifest_and_metrics_agree_with_the_files(out: Path) -> None:
    manifest = read_manifest(out / "first/prepared", verify=True)
    tables = read_all(out)
    counts = {name: table.num_rows for name, table in tables.items()}
    figures = json.loads((out / "first/report/metrics.json").read_text())
    assert {name: manifest["counts"][name] for name in counts} == counts
    assert {name: figures[f"rows_{name}"] for name in counts} == counts
    assert manifest["seed"] == 0
    assert set(manifest["labels"]) <= set(truth().truth.intents)
    assert manifest["sources"][0]["shape"] == "messages"
    assert figures["rows_read"] == truth().table.num_rows
    assert figures["rows_kept"] + figures["rows_dropped"] == figures["rows_read"]
    assert all(isinstance(value, int | float) for value in figures.values())


def test_planted_personal_data_is_nowhere(out: Path) -> None:
    known = truth().truth
    planted = [known.detail[row].partition(":")[2] for row in known.dirt["pii"]]
    assert len(planted) == 20
    content = "".join(p.read_text() for p in (out / "first").rglob("*") if p.suffix in (".html", ".json"))
    for table in (*read_all(out).values(), read_table(out / "first/prepared/quarantine.parquet", QUARANTINE)):
        content += str(table.to_pylist())
    assert [value for value in planted if value in content] == []


def test_planted_damage_is_repaired_or_dropped(out: Path) -> None:
    known = truth().truth
    rows = {row["row"]: row["messages"] for table in read_all(out).values() for row in table.to_pylist()}
    for row in known.dirt["mojibake"]:
        if row in rows:
            assert known.detail[row] in [turn["content"] for turn in rows[row]]
    assert [row for kind in ("lost_characters", "empty_answer") for row in known.dirt[kind] if row in rows] == []
    for row in known.dirt["html"]:
        if row in rows:
            assert "<" not in str(rows[row])
            assert "&" not in str(rows[row]).replace(" & ", "")


def test_no_planted_copy_sits_in_another_split(out: Path) -> None:
    known = truth().truth
    where = {row: name for name, table in read_all(out).items() for row in table["row"].to_pylist()}
    leaks = [
        copy
        for copy, source in known.copies.items()
        if copy in where and source in where and where[copy] != where[source]
    ]
    assert leaks == []


def test_the_page_shows_what_happened_and_needs_no_network(out: Path) -> None:
    page = (out / "first/report/index.html").read_text()
    held_out = read_table(out / "first/prepared/test.parquet", EXAMPLES)
    smallest = f"{detectable_share(len(set(held_out['cluster'].to_pylist()))):.2g}"
    assert f"a difference of about {smallest} in the share of right answers is likely to be proven" in page
    for words in (
        "gate passed",
        "From the sources to the splits",
        "exact duplicates",
        "empty answer",
        "Lengths",
        "Labels",
    ):
        assert words in page
    assert page.count("<script") == 2  # those of the header
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_several_sources_with_weights_feedback_and_bad_rows(tmp_path: Path) -> None:
    words = [a + b for a in ("ka", "lo", "mi", "tu", "ve", "zy") for b in ("ra", "sol", "ten", "wick", "dun")]
    texts = [
        f"{words[i % 30]} {words[(7 * i) % 29]} {words[(11 * i) % 23]} {'abcdefghij'[i % 10] * 3}" for i in range(300)
    ]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"{text},L-{i % 2}\n" for i, text in enumerate(texts)))
    lines = [
        json.dumps(
            {
                "messages": [{"role": "user", "content": f"{t} {t[::-1]}"}, {"role": "assistant", "content": t}],
                "label": " l-1",
            }
        )
        for t in texts[:60]
    ]
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback/1.jsonl").write_text("\n".join([*lines[:30], "{torn"]))
    (tmp_path / "feedback/2.jsonl").write_text("\n".join(lines[30:]))
    settings = DataPreparation(
        sources=(
            Csv(path="a.csv", title="half", weight=0.5),
            Jsonl(path="feedback/*.jsonl", title="feedback", weight=2),
        )
    )
    rows = prepare(settings, tmp_path, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out/prepared")
    assert manifest["labels"] == ["l-0", "l-1"]
    train = read_table(tmp_path / "out/prepared/train.parquet", EXAMPLES)
    feedback = [row["id"] for row in train.to_pylist() if row["source"] == "feedback"]
    assert len(feedback) == 2 * len(set(feedback))
    bad = [row for row in rows.dropped.to_pylist() if row["step"] == "read"]
    assert [(row["source"], row["row"], row["content"]) for row in bad] == [("feedback/1.jsonl", 31, "{torn")]
    assert [len(source["files"]) for source in manifest["sources"]] == [1, 2]


def test_params_refuse_what_cannot_work() -> None:
    with pytest.raises(ValidationError, match="several sources are called jsonl"):
        DataPreparation(sources=(Jsonl(path="a"), Jsonl(path="b")))
    with pytest.raises(ValidationError, match="cleaning must include the step missing"):
        DataPreparation(cleaning=())
    with pytest.raises(ValidationError, match=r"'sample', 'jsonl', 'csv', 'parquet'"):
        DataPreparation.model_validate({"sources": [{"name": "excel", "path": "x"}]})
    with pytest.raises(ValidationError, match="extra_forbidden"):
        DataPreparation.model_validate({"split": {"tset": 0.1}})


def test_the_manifest_names_every_file_and_a_stranger_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = DataPreparation(sources=(Sample(rows=200, seed=SEED, title="shop", keep=True),))
    prepared = tmp_path / "prepared"
    rows = read_sources(settings.sources, settings.on_bad_row, tmp_path)
    rows = clean_rows(rows, settings.cleaning)
    rows = remove_duplicates(rows, settings.duplicates)
    rows = split_examples(rows, settings.split, settings.duplicates)
    rows = balance_train(rows, settings.balancing, settings.split.seed, prepared / "balance")
    write_quarantine(rows, prepared / "quarantine.parquet")
    verdict = check_quality(rows, settings.gate, settings.duplicates, settings.split, tmp_path / "docs")
    write_extra(rows, prepared / "extra.parquet")
    for name in ("old.parquet", ".gitignore"):
        (prepared / name).write_text("")
    write_splits(rows, verdict, settings.split.seed, prepared)
    manifest = read_manifest(prepared, verify=True)
    written = {path.relative_to(prepared).as_posix() for path in prepared.rglob("*") if path.is_file()}
    assert written - set(manifest["files"]) == {"manifest.json", "old.parquet", ".gitignore"}
    assert {"extra.parquet", "balance/balance.json"} <= set(manifest["files"])
    assert manifest["counts"]["extra"] == pq.read_metadata(prepared / "extra.parquet").num_rows > 0
    assert f"{prepared}/old.parquet was not written by data preparation" in caplog.text
    assert ".gitignore" not in caplog.text


def test_a_row_of_several_files_is_traced_to_its_file(tmp_path: Path) -> None:
    texts = {"en/train": "question", "de/train": "Frage"}
    for place, word in texts.items():
        (tmp_path / "raw" / place).parent.mkdir(parents=True)
        lines = [json.dumps({"question": f"{word} {n * 7919} {word * n}?", "answer": f"{n}."}) for n in range(1, 71)]
        (tmp_path / "raw" / f"{place}.jsonl").write_text("\n".join(lines))
    for path, several in (("raw", True), ("raw/en", False)):
        settings = DataPreparation(
            sources=(Jsonl(path=path, title="faq", keep=True),), gate={"max_duplicate_share": 1.0}
        )
        rows = prepare(settings, tmp_path, tmp_path / path)
        prepared = tmp_path / path / "prepared"
        tables = [pq.read_table(prepared / f"{name}.parquet") for name in ("train", "validation", "test")]
        assert all(("file" in table.column_names) == several for table in tables)
        assert all(read_table(prepared / f"{n}.parquet", EXAMPLES).schema.equals(EXAMPLES) for n in ("train", "test"))
        if several:
            keys = [(row["source"], row["file"], row["row"]) for table in tables for row in table.to_pylist()]
            assert len(set(keys)) == len(keys) == rows.table.num_rows
            assert {file for _, file, _ in keys} == {"en/train.jsonl", "de/train.jsonl"}
