"""A tuned folder is opened through the method in its manifest, and one that cannot be is refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file, seal
from tasks.training.methods import names_where
from tasks.training.methods.full import Full
from tasks.training.tuned import load_tuned, merge_tuned, read_method


def make_tuned(initial: Path, folder: Path, facts: dict[str, Any]) -> Path:
    """The base's own weights as those of a full fine-tuning."""
    shutil.copytree(initial, folder / "weights", ignore=shutil.ignore_patterns("manifest.json"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    seal(folder, files, {"base": hash_file(initial / "manifest.json"), **facts})
    return folder


def test_the_manifest_names_the_method(initial: Path, tmp_path: Path) -> None:
    tuned = make_tuned(initial, tmp_path / "tuned", {"method": {"name": "full"}})
    assert read_method(initial, tuned) == Full()


@pytest.mark.parametrize("facts", [{}, {"method": {"name": "unheard_of"}}, {"method": {"name": "lora", "speed": 3}}])
@pytest.mark.parametrize("opened", [load_tuned, merge_tuned])
def test_an_unknown_method_is_answered_with_the_known_ones(
    initial: Path, tmp_path: Path, facts: dict[str, Any], opened: Any
) -> None:
    tuned = make_tuned(initial, tmp_path / "tuned", facts)
    known = ", ".join(names_where())
    with pytest.raises(PipelineError, match=f"none of this version, which has {known}; run training_setup") as refused:
        opened(initial, tuned)
    assert "\n" not in str(refused.value)


def test_names_where_a_fact_holds() -> None:
    assert names_where()[:2] == ["full", "lora"]
    frozen = names_where(lambda can: can.frozen_base)
    assert "lora" in frozen
    assert "full" not in frozen
