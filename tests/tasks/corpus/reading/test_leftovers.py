"""What lies beside data and is none is not read, and is listed; a file that is named is read."""

from __future__ import annotations

import json
import logging
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.leftovers import find_reason, is_asked_for
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.hugging_face import HuggingFace
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.text import Text
from tasks.corpus.rows.rows import Rows
from tasks.monitoring.feedback import read_versions

LEFTOVERS = [
    *(".ipynb_checkpoints/faq-checkpoint.jsonl", ".faq.jsonl", ".cache/faq.jsonl", "._faq.jsonl", "__MACOSX/faq.jsonl"),
    *("__MACOSX/._faq.jsonl", "faq.jsonl~", "#faq.jsonl#", ".faq.jsonl.swp", "faq.jsonl.bak", "~$faq.jsonl"),
    *(".~lock.faq.jsonl#", ".DS_Store", "Thumbs.db", "_SUCCESS", ".faq.jsonl.crc", "_delta_log/0.json"),
    *("faq.jsonl.part", "faq.jsonl.tmp", "faq.jsonl.crdownload", "faq.jsonl.dvc", ".gitignore", "SOURCE.txt"),
    *("README.md", "LICENSE", "LICENSE-MIT", "_temporary/faq.jsonl", ".git/faq.jsonl"),
]
DATA = ["faq.jsonl", "part-0001.jsonl", "de/readme_questions.jsonl", "source.jsonl", "license_questions.jsonl"]


def line(name: str) -> str:
    return json.dumps({"question": f"What is in {name}?", "answer": f"It is {name}."})


def questions(rows: Rows) -> list[str]:
    return sorted(messages[0]["content"] for messages in rows.table["messages"].to_pylist())


EXPECTED = sorted(json.loads(line(name))["question"] for name in DATA)


@pytest.mark.parametrize("name", LEFTOVERS)
def test_a_leftover_has_a_reason(name: str) -> None:
    assert find_reason(name)
    assert find_reason(f"deeper/{name}")


@pytest.mark.parametrize("name", [*DATA, "source.txt", "target.txt", "a.old_habits.csv", "tmp.csv", "lock.json"])
def test_data_has_none(name: str) -> None:
    assert find_reason(name) is None


def test_a_glob_that_names_a_kind_asks_for_it() -> None:
    for pattern, reason in (
        ("*.bak", "lock or backup of an editor"),
        ("**/.cache/*.jsonl", "hidden"),
        (".*.jsonl", "hidden"),
        ("README*", "note about the data"),
        ("*.part", "unfinished download"),
    ):
        assert is_asked_for(pattern, reason)
        assert not is_asked_for("**/*", reason)
        assert not is_asked_for("*.jsonl", reason)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (*LEFTOVERS, *DATA):
        (tmp_path / "data/raw/set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/raw/set" / name).write_text(line(name) + "\n")
    with zipfile.ZipFile(tmp_path / "data/raw/set.zip", "w") as archive:
        for name in (*LEFTOVERS, *DATA):
            archive.write(tmp_path / "data/raw/set" / name, name)
    with tarfile.open(tmp_path / "data/raw/set.tar", "w") as packed:
        for name in (*LEFTOVERS, *DATA):
            packed.add(tmp_path / "data/raw/set" / name, name)
    return tmp_path


def paths(root: Path) -> list[str]:
    store = fsspec.filesystem("memory")
    for name in (*LEFTOVERS, *DATA):
        store.pipe(f"/leftovers/{name}", (root / "data/raw/set" / name).read_bytes())
    return [
        *("data/raw/set", "data/raw/set/**/*", "memory://leftovers", "memory://leftovers/**"),
        *("zip://::data/raw/set.zip", "zip://**::data/raw/set.zip", "tar://::data/raw/set.tar"),
    ]


def test_leftovers_are_not_read_wherever_they_lie_and_are_listed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in paths(root):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            rows = read_sources([Jsonl(path=path, title="faq")], "stop", root)
        assert questions(rows) == EXPECTED, path
        assert rows.dropped.num_rows == 0
        (listing,) = rows.steps[0].listings
        assert listing.heading == 'Files left out of source "faq"'
        assert sum(int(row[1]) for row in listing.rows) == len(LEFTOVERS), path
        assert "files left out (hidden), such as .DS_Store" in caplog.text


def test_a_leftover_that_is_named_is_read(root: Path) -> None:
    for path in (".faq.jsonl", "faq.jsonl~", ".ipynb_checkpoints", ".ipynb_checkpoints/*.jsonl", "*.bak", ".git/*"):
        rows = read_sources([Jsonl(path=f"data/raw/set/{path}")], "stop", root)
        assert len(rows.table) == 1, path


def test_a_folder_of_leftovers_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "set/.cache").mkdir(parents=True)
    (tmp_path / "set/.cache/x.jsonl").write_text(line("x"))
    with pytest.raises(PipelineError, match=r"holds no file of this kind, but \.cache/x\.jsonl \(hidden\)"):
        read_sources([Jsonl(path="set")], "stop", tmp_path)


def test_notes_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("story.txt", "SOURCE.txt", "README.md", "LICENSE.txt", "source.txt"):
        (tmp_path / "set" / name).write_text(f"This is {name}, and it goes on.")
    rows = read_sources([Text(path="set")], "stop", tmp_path)
    assert sorted(rows.table["file"].to_pylist()) == ["source.txt", "story.txt"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_hugging_face_folder(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    text = line("a") if suffix == "jsonl" else "question,answer\nWhat is in a?,It is a.\n"
    names = ("train", "~$train", ".train", ".ipynb_checkpoints/train", "__MACOSX/train")
    for name in (*(f"{name}.{suffix}" for name in names), f"train.{suffix}.bak", ".DS_Store"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(text)
    rows = read_sources([HuggingFace(path="set")], "stop", tmp_path)
    assert questions(rows) == ["What is in a?"]
    assert list(rows.origins[0].files) == [f"set/train.{suffix}"]


def test_feedback_versions(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}]}) + "\n")
    (tmp_path / "._a.jsonl").write_bytes(b"\0\5\26\7")
    assert list(read_versions(tmp_path)) == ["a"]


@pytest.mark.parametrize("kind", [Jsonl, Csv, Text])
def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path: Path, kind: Any) -> None:
    good = {"jsonl": line("a"), "csv": "question,answer\na?,b", "text": "A text."}[kind.model_fields["name"].default]
    for place in ("en/train", "de/train"):
        (tmp_path / "set" / place).parent.mkdir(parents=True, exist_ok=True)
        ending = {"jsonl": "jsonl", "csv": "csv", "text": "txt"}[kind.model_fields["name"].default]
        (tmp_path / "set" / f"{place}.{ending}").write_bytes(good.encode() + b"\n\xff\n")
    options = {"rows": "lines"} if kind is Text else {}
    for path in ("set", "set/*/*"):
        rows = read_sources([kind(path=path, title="faq", **options)], "quarantine", tmp_path)
        assert rows.dropped["source"].to_pylist() == [f"faq/de/train.{ending}", f"faq/en/train.{ending}"]
        assert rows.table["file"].to_pylist() == [f"de/train.{ending}", f"en/train.{ending}"]
