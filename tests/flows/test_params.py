"""Params of several sections that do not go together are refused when the file is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.wiring.params import read_params
from tasks.contracts.errors import PipelineError
from tests.checkout import ROOT


def write(path: Path, packing: str) -> Path:
    balancing = "data_preparation: {balancing: {stratified_batches: true}}"
    path.write_text(f"{balancing}\ntraining_setup: {{packing: {packing}}}\n", encoding="utf-8")
    return path


def test_stratified_batches_want_a_conversation_per_row(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"needs one conversation per row; set training_setup\.packing: none"):
        read_params(write(tmp_path / "packed.yaml", "bfd"))
    assert read_params(write(tmp_path / "alone.yaml", "none")).data_preparation.balancing.stratified_batches


MISTAKES = {
    "synthesys: null": ['synthesys: unknown key; did you mean "synthesis"?'],
    "data_preparation: {synthesis: null}": [
        'data_preparation.synthesis: this is now "synthesis", counted from the top level; write it there'
    ],
    "data_preparation: {annotation: {labels: [a]}}": [
        'data_preparation.annotation: this is now "annotation", counted from the top level; write it there'
    ],
    "evaluation: {gate: {must_not_fall: {loss: 0.1}}}": [
        'evaluation.gate.must_not_fall: this is now "evaluation.gate.must_not_worsen", counted from the top'
    ],
    "data_preparation: {cleaning: [{name: unicod}]}": [
        '.cleaning.0: unknown name "unicod"; did you mean "unicode"? valid'
    ],
    # The name of a plug-in is no key of the file.
    "data_preparation: {sources: [{name: jsonl, pth: x}]}": [
        "data_preparation.sources.0.path: Field required",
        'data_preparation.sources.0.pth: unknown key; did you mean "path"?',
    ],
    "data_preparation: {engine: {name: local, workers: 0}}": [
        "data_preparation.engine.workers: found 0; Input should be greater than or equal to 1 or 'auto'"
    ],
    "data_preparation: {cleaning: all}": ["data_preparation.cleaning: found 'all'; Input should be a list"],
    "data_preparation: {sources: []}": ["data_preparation.sources: List should have at least 1 item"],
    "data_preparation: {engine: ray}": ["data_preparation.engine: found 'ray'; Input should be keys with values"],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_in_the_words_of_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PipelineError) as raised:
        read_params(path)
    lines = str(raised.value).splitlines()[-len(MISTAKES[text]) :]
    assert all(any(wanted in line for line in lines) for wanted in MISTAKES[text]), lines


HEAVY = {"httpx", "jinja2", "numpy", "orjson", "polars", "pyarrow", "rich", "sqlalchemy", "torch", "transformers"}


@pytest.mark.parametrize("step", ["import flows.wiring.params", "flows.wiring.params.read_params()"])
def test_params_are_read_by_light_modules(step: str) -> None:
    program = f"import sys, flows.wiring.params\n{step}\nprint(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in loaded.stdout.split()} & HEAVY == set()
