"""Every file that params can name, hostile: each reader answers with one line that names the file, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.evaluation.judges.people import read_labelled_pairs
from tasks.evaluation.metrics.form.json_validity import JsonValidity
from tasks.evaluation.suites.files import read_rows
from tasks.language_models.guards.rules import RuleGuard
from tasks.model_initialisation.sources.gguf import Gguf
from tasks.training.distribution.deepspeed_config import read_configuration
from tasks.training.objectives.rollouts.tools import OpenTools, Tools
from tasks.training.rewards.function import FunctionReward
from tests.checkout import ROOT

NOT_TEXT = b"\x80\xff\x00\xfe PAR1"
# A folder; nothing; an empty file; what no program reads; pieces of JSON and of other shapes than expected.
CONTENTS: dict[str, bytes | None] = {
    "a folder": None,
    "empty": b"",
    "no text": NOT_TEXT,
    "half": b'{"a": [1, ',
    "null": b"null",
    "a number": b"3",
    "a list": b'["a"]',
    "a text": b'"a"',
    "an object": b'{"b": {"c": null}}',
    "deep": b"[" * 200_000,
}
CODE: dict[str, bytes | None] = {
    "a folder": None,
    "empty": b"",
    "no text": NOT_TEXT,
    "half": b"def f(",
    "raises": b"import nowhere\n",
    "leaves": b"raise SystemExit(0)\n",
    "no function": b"f = 3\n",
    "other": b"def g():\n    return 1\n",
}
# Of files that a process of their own loads.
CODE_APART = CODE | {"ends": b"import os\nos._exit(3)\n"}


@dataclass(frozen=True)
class FileReader:
    """How a field's file is read.

    Attributes:
        read: Reads a path.
        contents: What the file may hold that is wrong.
        takes: Contents that are right.
        suffix: Of the file's name.
    """

    read: Callable[[Path], Any]
    contents: dict[str, bytes | None]
    takes: tuple[str, ...] = ()
    suffix: str = ".json"


def _vote(path: Path) -> Any:
    from tasks.corpus.weak_supervision.functions.python import Python

    return Python(path=path.name, functions=("f",)).vote(["a"], path.parent)


def _read_synonyms(path: Path) -> Any:
    from tasks.data_preparation.trainset.augmentation.synonyms import read_synonyms

    return read_synonyms(path)


def _measure_json(path: Path) -> Any:
    from tasks.evaluation.items import Item

    return JsonValidity(schema_file=str(path)).measure(Item.__new__(Item), "{}")


READERS = {
    "Python.path": FileReader(_vote, CODE, suffix=".py"),
    "Synonyms.sets": FileReader(_read_synonyms, CONTENTS, ("empty",), ".txt"),
    "Gguf.path": FileReader(lambda path: Gguf(path=path).fetch(), CONTENTS, (), ".gguf"),
    "StatedAgreement.file": FileReader(read_labelled_pairs, CONTENTS),
    "JsonValidity.schema_file": FileReader(_measure_json, CONTENTS, ("an object",)),
    "FunctionReward.path": FileReader(
        lambda path: FunctionReward(path=path.name, function="f").open(None), CODE_APART, suffix=".py"
    ),
    "Tools.path": FileReader(lambda path: OpenTools(Tools(path=path.name, functions=("f",))), CODE_APART, suffix=".py"),
    "Zero.config": FileReader(read_configuration, CONTENTS, ("an object",)),
    "RuleGuard.file": FileReader(
        lambda path: RuleGuard(file=str(path)).open(),
        CONTENTS,
        ("empty", "half", "null", "a number", "a list", "a text", "an object", "deep"),
        ".txt",
    ),
}

# Readers of what fields name that take a file or a folder.
PLACES = {
    "rows of JSON": FileReader(read_rows, CONTENTS, ("a list",)),
    "rows of JSON Lines": FileReader(read_rows, CONTENTS, ("an object",), ".jsonl"),
    "rows of a table": FileReader(
        read_rows, {name: CONTENTS[name] for name in ("a folder", "empty", "no text")}, (), ".csv"
    ),
}


def test_every_field_that_names_a_file_is_here() -> None:
    for path in (ROOT / "tasks").rglob("*.py"):
        if 'Reads("file"' in path.read_text(encoding="utf-8"):
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert {f"{kind.__name__}.{name}" for kind in _list_sections(Section) for name in _list_files(kind)} == set(READERS)


@pytest.mark.parametrize("field", [*READERS, *PLACES])
def test_a_hostile_file_is_answered_with_one_line(field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reader = (READERS | PLACES)[field]
    wrong = {}
    for name, content in {"missing": b"", **reader.contents}.items():
        path = tmp_path / f"{name.replace(' ', '-')}{reader.suffix}"
        if content is None:
            path.mkdir()
        elif name != "missing":
            path.write_bytes(content)
        answer = _answer(reader.read, path)
        if name not in reader.takes and (path.name not in answer or "\n" in answer or len(answer) > 500):
            wrong[name] = answer
        if name in reader.takes and answer:
            wrong[name] = answer
    assert not wrong


def _answer(read: Callable[[Path], Any], path: Path) -> str:
    """What a reader says of a file; empty where it takes it."""
    try:
        read(path)
    except PipelineError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 -- whatever it raises is what the test is about
        return f"raised {type(error).__name__}: {error}"
    return ""


def _list_sections(kind: type[Section]) -> Iterator[type[Section]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _list_sections(inner)


def _list_files(kind: type[Section]) -> Iterator[str]:
    """Fields of a section's own that name a file."""
    for name in kind.__annotations__:
        field = kind.model_fields.get(name)
        if field and any(isinstance(mark, Reads) and mark.kind == "file" for mark in field.metadata):
            yield name
