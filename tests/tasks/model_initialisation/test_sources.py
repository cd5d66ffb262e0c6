"""What every source of a base has to answer, and how a registered version is asked for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.model_initialisation.params import ModelInitialisation, Source
from tasks.model_initialisation.pin import fetch_model
from tasks.model_initialisation.sources.access import Access
from tasks.model_initialisation.sources.registry import RegisteredVersion

SOURCES: tuple[Any, ...] = get_args(get_args(Source)[0])


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_source_answers_the_same_questions(source: Any) -> None:
    assert issubclass(source, Section)
    assert isinstance(source.immutable, bool)
    assert "Example: ``" in (inspect.getmodule(source).__doc__ or "")  # type: ignore[union-attr]
    wanted = {
        "fetch": ["self", "access"],
        "origin": ["self", "folder"],
        "reference": ["self", "folder"],
        "facts": ["self", "folder"],
    }
    assert {name: list(inspect.signature(getattr(source, name)).parameters) for name in wanted} == wanted


def test_names_are_those_of_their_files() -> None:
    folder = Path(inspect.getfile(RegisteredVersion)).parent
    names = {source.model_fields["name"].default for source in SOURCES}
    assert names == {path.stem for path in folder.glob("*.py")} - {"__init__", "access"}


def test_a_registered_version_is_opened_by_the_flow(tmp_path: Path) -> None:
    asked: list[str] = []

    def open_release(name: str) -> Path:
        asked.append(name)
        return tmp_path / "abc/model"

    access = Access(open_release=open_release)
    champion, third = RegisteredVersion(alias="champion"), RegisteredVersion(version=3)
    assert fetch_model(champion, access) == fetch_model(third, access) == tmp_path / "abc/model"
    assert asked == ["alias champion", "version 3"]
    assert third.origin(tmp_path / "abc/model") == {"registry": "version 3", "release": "abc"}
    with pytest.raises(PipelineError, match="only a flow opens the registry"):
        fetch_model(champion)


@pytest.mark.parametrize("wrong", [{}, {"alias": "champion", "version": 1}, {"version": 0}, {"alias": "../x"}])
def test_a_registered_version_has_one_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"exactly one of them|greater than or equal to 1|should match pattern"):
        ModelInitialisation.model_validate({"source": {"name": "registry", **wrong}})
