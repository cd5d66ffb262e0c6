"""YAML files that cannot be read are refused in one line; the values are YAML 1.2's, as DVC reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from flows.wiring.params import read_params
from flows.wiring.yaml_file import LARGEST_BYTES, read_yaml
from tasks.contracts.errors import PipelineError

WRONG = {
    "a: 1\nb:\n  c: 1\n  c: 2\n": "params.yaml:4: b.c stands twice, first in line 3; keep one of them",
    "a: {b: 1, b: 2}": "params.yaml:1: a.b stands twice, first in line 1; keep one of them",
    "a:\n- b: 1\n  c: 2\n  b: 3\n": "params.yaml:4: a.0.b stands twice, first in line 2; keep one of them",
    "a: &x {p: 1}\nb: {<<: *x, q: 1, q: 2}": "params.yaml:2: b.q stands twice, first in line 2; keep one of them",
    "a:\n\tb: 1\n": "params.yaml:2: a tab among the spaces at the line's start; indent with spaces",
    "[1, 2]": "params.yaml: holds a list; expected sections with keys, such as `evaluation:`",
    "words": "params.yaml: holds the text or number 'words'; expected sections with keys, such as `evaluation:`",
    "a: 1\n---\nb: 2\n": "params.yaml:2: a second document begins here (`---`); expected one",
    "a: 1\n<<<<<<< HEAD\nb: 2\n=======\n": "params.yaml:2: the mark of a merge conflict; resolve it with git",
    "[" * 100_000: "params.yaml:1: nested more than 50 levels deep; expected sections with keys",
    "a: !!python/object/apply:os.getcwd []": "params.yaml:1: not YAML (could not determine a constructor",
    "a: b: c": "params.yaml:1: not YAML (mapping values are not allowed in this context); correct that line",
    "a: \0": "params.yaml: not YAML (control characters are not allowed); correct that line",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_read_is_one_line_with_its_place(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(text, encoding="utf-8")
    for read in (read_yaml, read_params.__wrapped__):
        with pytest.raises(PipelineError) as raised:
            read(Path("params.yaml"))
        assert str(raised.value).startswith(WRONG[text])
        assert "\n" not in str(raised.value)


def test_what_is_no_readable_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("params.yaml")

    def told() -> str:
        with pytest.raises(PipelineError) as raised:
            read_yaml(path)
        return str(raised.value)

    assert told() == "params.yaml: missing; run from the repository's root, where it lies"
    path.symlink_to("nowhere.yaml")
    assert "missing, a link to nowhere.yaml, which is not there" in told()
    path.unlink()
    path.mkdir()
    assert told() == "params.yaml: is a folder; expected a YAML file, move the folder away"
    path.rmdir()
    path.write_bytes("a: 1\nb: \u00e9t\u00e9\n".encode("latin-1"))
    assert told() == "params.yaml:2: no UTF-8 (byte 0xe9); save the file as UTF-8"
    path.write_bytes("a: 1".encode("utf-16"))
    assert told() == "params.yaml:1: no UTF-8 (byte 0xff); save the file as UTF-8"
    with path.open("wb") as stream:
        os.truncate(stream.fileno(), LARGEST_BYTES + 1)
    assert "expected at most 8 MiB of settings" in told()
    path.write_text("a: 1")
    monkeypatch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert told() == "params.yaml: cannot be read (Permission denied); see to its permissions (chmod u+r)"


VALUES = """
a: 2e-4
b: no
c: on
d: 12:30
e: .inf
f: 0x1F
g: 0o17
h: ~
i:
j: -1.5E+3
k: True
l: 007
m: "1"
n: 1_000
o: &x {p: 1, q: 2}
r: {<<: *x, q: 3}
s: .5
"""


def test_values_are_those_that_dvc_sees(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("\ufeff" + VALUES, encoding="utf-8")
    found = read_yaml(path)
    assert found == dict(parse_yaml(VALUES, str(path)))
    assert (found["a"], found["b"], found["c"], found["d"]) == (0.0002, "no", "on", "12:30")
    path.write_text("", encoding="utf-8")
    assert read_yaml(path) == {}
    path.write_text("day: 2024-01-31")
    assert read_yaml(path) == {"day": "2024-01-31"}


def test_a_number_where_a_text_belongs_is_told_to_be_quoted(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("data_preparation: {sources: [{name: sample, title: 2024}]}")
    with pytest.raises(PipelineError, match=r"title: found 2024; expected text, in quotes where YAML"):
        read_params(path)
    path.write_text("data_preparation: {cleaning: [{name: language, languages: [en, no]}, {name: missing}]}")
    assert "no" in str(read_params.__wrapped__(path).data_preparation.cleaning)
