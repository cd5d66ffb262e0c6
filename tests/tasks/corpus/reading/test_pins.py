"""The pin of a source is honoured or refused, for every kind of source."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any, get_args

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.web_pages import Pages, WebPage
from tasks.data_preparation.params import AnySource

KINDS = {kind.model_fields["name"].default: kind for kind in get_args(get_args(AnySource)[0])}
WRONG = "0" * 64
ROW = {"question": "Why?", "answer": "Because it is so."}
FUNCTIONS = [{"name": "regex", "label": "a", "pattern": "W"}]
FILES: dict[str, dict[str, Any]] = {
    "jsonl": {"path": "x.jsonl"},
    "csv": {"path": "x.csv"},
    "parquet": {"path": "x.parquet"},
    "text": {"path": "x.jsonl"},
    "hugging_face": {"path": "some/set", "revision": "a" * 40},
    "sample": {"rows": 20},
    "sql": {"url": "sqlite:///x.db", "query": "SELECT * FROM rows", "order_by": ["question"]},
    "web": {"urls": ["http://shop.example/a"], "cache": "data/raw/help"},
    "weak": {
        "source": {"name": "jsonl", "path": "x.jsonl"},
        "functions": [{"name": "regex", "label": "a", "pattern": "W"}],
    },
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "x.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "x.csv").write_text("question,answer\nWhy?,Because it is so.\n")
    pq.write_table(pa.Table.from_pylist([ROW]), tmp_path / "x.parquet")
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE rows (question TEXT, answer TEXT)")
        database.execute("INSERT INTO rows VALUES ('Why?', 'Because it is so.')")
    database.close()
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **b: datasets.Dataset.from_list([ROW, ROW]))
    page = WebPage(b"Why? Because it is so.", "text/plain", "ab" * 32)
    monkeypatch.setattr(Pages, "get", lambda self, url, most: page)
    return tmp_path


def test_every_kind_of_source_is_tried() -> None:
    assert set(FILES) == set(KINDS)


@pytest.mark.parametrize("name", FILES)
def test_another_content_than_the_pinned_one_stops(root: Path, name: str) -> None:
    if name == "weak":
        with pytest.raises(ValidationError, match="give it to the source inside"):
            KINDS[name](sha256=WRONG, **FILES[name])
        inner = {**FILES[name]["source"], "sha256": WRONG}
        source = KINDS[name](**{**FILES[name], "source": inner})
    else:
        source = KINDS[name](sha256=WRONG, **FILES[name])
    with pytest.raises(PipelineError, match=f"ha(s|ve) sha256 [0-9a-f]{{64}}; pinned is {WRONG}") as caught:
        read_sources([source], "quarantine", root)
    # The hash of the message is the one that holds.
    found = re.search(r"sha256 ([0-9a-f]{64})", str(caught.value))[1]  # type: ignore[index]
    held = {"source": {**FILES[name]["source"], "sha256": found}} if name == "weak" else {"sha256": found}
    options = {"fields": {"text": "text"}} if name == "text" else {}
    if name != "weak":
        assert read_sources([KINDS[name](**{**FILES[name], **held, **options})], "quarantine", root).table.num_rows > 0


def test_a_site_that_gives_no_page_is_not_the_pinned_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pages, "get", lambda self, url, most: WebPage(refusal="HTTP 404"))
    source = KINDS["web"](sha256=WRONG, **FILES["web"])
    with pytest.raises(PipelineError, match="pinned is"):
        read_sources([source], "quarantine", root)


def test_a_pinned_archive_with_a_damaged_member_stops(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"{name}.jsonl", json.dumps(ROW))
    data = (tmp_path / "set.zip").read_bytes()
    place = data.find(b"Why", data.find(b"b.jsonl"))
    (tmp_path / "set.zip").write_bytes(data[:place] + b"Who" + data[place + 3 :])
    source = KINDS["jsonl"](path="zip://*.jsonl::set.zip", sha256=WRONG)
    with pytest.raises(PipelineError, match="cannot be unpacked"):
        read_sources([source], "quarantine", tmp_path)
