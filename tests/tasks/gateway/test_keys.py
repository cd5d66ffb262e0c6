"""Keys are kept as hashes, found only by their exact text, and the file is followed while it changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.gateway.api.keys import Keyring, add_key, read_keys, remove_key


def test_the_file_holds_the_hash_and_never_the_key(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    key = add_key(path, "ci")
    assert key not in path.read_text()
    assert key.split("_", 2)[2] not in path.read_text()
    assert [(kept.name, kept.sha256) for kept in read_keys(path)] == [("ci", hashlib.sha256(key.encode()).hexdigest())]
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_the_exact_key_is_found(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first, second = add_key(path, "first"), add_key(path, "second")
    ring = Keyring(path, required=False)
    assert ring.required
    found = ring.find(second)
    assert found is not None
    assert found.name == "second"
    last = "A" if first[-1] != "A" else "B"
    for wrong in ("", first[:-1], first + "A", first[:-1] + last, first[:13] + second[13:], "é", "hep_"):
        assert ring.find(wrong) is None


def test_a_key_made_or_removed_while_serving_counts_at_once_and_the_door_stays_shut(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = add_key(path, "first")
    ring = Keyring(path, required=False)
    second = add_key(path, "second")
    assert ring.find(second) is not None
    remove_key(path, "second")
    assert ring.find(second) is None
    remove_key(path, "first")
    assert ring.find(first) is None
    path.unlink()
    assert ring.find(first) is None
    assert ring.required


def test_wrong_names_and_files_are_one_line_errors(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "ci")
    with pytest.raises(PipelineError, match='named "ci" exists'):
        add_key(path, "ci")
    with pytest.raises(PipelineError, match="key name"):
        add_key(path, "")
    with pytest.raises(PipelineError, match="there are: ci"):
        remove_key(path, "other")
    path.write_text('{"a": 1}')
    with pytest.raises(PipelineError, match="not a list of keys"):
        read_keys(path)
