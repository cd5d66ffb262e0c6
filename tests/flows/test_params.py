"""Params of several sections that do not go together are refused when the file is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.params import read_params
from tasks.contracts.errors import PipelineError


def write(path: Path, packing: str) -> Path:
    balancing = "data_preparation: {balancing: {stratified_batches: true}}"
    path.write_text(f"{balancing}\ntraining_setup: {{packing: {packing}}}\n", encoding="utf-8")
    return path


def test_stratified_batches_want_a_conversation_per_row(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"needs one conversation per row; set training_setup\.packing: none"):
        read_params(write(tmp_path / "packed.yaml", "bfd"))
    assert read_params(write(tmp_path / "alone.yaml", "none")).data_preparation.balancing.stratified_batches
