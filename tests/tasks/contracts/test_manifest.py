"""A file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import find_json, replacing, write_bytes


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file.txt"
    write_bytes(path, b"one")
    with replacing(path) as aside:
        aside.write_bytes(b"tw")
        assert path.read_bytes() == b"one"
        aside.write_bytes(b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_bytes(path, b"one")

    def fail() -> None:
        with replacing(path) as aside:
            aside.write_bytes(b"tw")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_refusing_disk_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PipelineError, match=r"file/x\.txt: cannot write \(.+\); free some space and run again"):
        write_bytes(tmp_path / "file/x.txt", b"one")


def test_a_file_that_tells_nothing_is_an_empty_object(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    assert find_json(path) == {}
    for content, found in (('{"a": 1}', {"a": 1}), ('{"a": ', {}), ("[1]", {}), ("", {})):
        path.write_text(content)
        assert find_json(path) == found
