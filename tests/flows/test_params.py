"""Params of several sections that do not go together are refused when the file is read."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from flows.wiring.params import Params, hub_commit, read_params
from flows.wiring.params.messages import describe
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


def test_a_teacher_lies_where_dvc_sees_it_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def read(teacher: str) -> Params:
        objective = {"name": "gkd", "teacher": teacher}
        return Params.model_validate({"training_setup": {"phases": [{}, {"objective": objective}]}})

    for wrong in ("models/smollm2", "models/teacher/../smollm2"):
        with pytest.raises(ValidationError, match="models/smollm2 is outside of models/teacher, where DVC sees it"):
            read(wrong)
    Path("models/teacher").mkdir(parents=True)
    Path("models/teacher/large").symlink_to(tmp_path)
    with pytest.raises(ValidationError, match=r"is a link to a folder, into which DVC does not look; link its files"):
        read("models/teacher/large")
    read("models/teacher/other")
    read("models/teacher")


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
        "data_preparation.sources.0.path: missing; expected file, folder or glob, relative to the repository",
        'data_preparation.sources.0.pth: unknown key; did you mean "path"?',
    ],
    "data_preparation: {engine: {name: local, workers: 0}}": [
        "data_preparation.engine.workers: found 0; expected 1 or more or auto"
    ],
    "data_preparation: {cleaning: all}": [
        'data_preparation.cleaning: found "all"; expected a list; valid names: c4, chunk'
    ],
    "training_setup: {batch_size: true}": ['training_setup.batch_size: found "true"; expected'],
    "evaluation: {items: false}": ['evaluation.items: found "false"; expected a whole number'],
    "training_setup: {epochs: true}": ['training_setup.epochs: found "true"; expected a number'],
    "data_preparation: {sources: []}": ["data_preparation.sources: found a list; expected a list of at least 1"],
    "data_preparation: {engine: ray}": [
        'data_preparation.engine: found "ray"; expected keys with values: write {name: ray}'
    ],
    "training_setup: {method: lora}": ['.method: found "lora"; expected keys with values: write {name: lora}'],
    "training_setup: {optimizer: adamw}": ['.optimizer: found "adamw"; expected keys with values: write {name: adamw}'],
    "training_setup: {optimizer: adamw_torch_fused}": [
        'found "adamw_torch_fused"; expected keys with values: write {name: adamw, fused: true}'
    ],
    "model_initialisation: {source: hub}": [
        'source: found "hub"; expected keys with values: write {name: hub, id: ..., revision: ...}'
    ],
    "data_preparation: {sources: data/raw/x.csv}": [
        'sources: found "data/raw/x.csv"; expected a list: write [{name: csv, path: data/raw/x.csv}]'
    ],
    "training_setup: {batch_size: many}": ['batch_size: found "many"; expected a whole number or auto'],
    "training_setup: {packing: bdf}": ['found "bdf"; expected none or bfd (did you mean "bfd"?)'],
    "training_setup: {schedule: cosine}": [
        '.schedule: found "cosine"; expected keys with values: write {name: cosine}'
    ],
    "training_setup: {schedule: {name: wds}}": [
        'unknown name "wds"; did you mean "wsd"? valid names: constant, cosine'
    ],
    "training_setup: {evaluate_every_steps: 50}": [
        'evaluate_every_steps: this is now "training_setup.evaluate_every.steps"'
    ],
    "training_setup: {checkpoint_every: {steps: 5, epochs: 1}}": [
        "training_setup.checkpoint_every: found both or neither of steps and epochs; write {steps: 200} or {epochs: 1}"
    ],
    "training_setup: {lerning_rate: 1e-4}": ['.lerning_rate: unknown key; did you mean "learning_rate"?'],
    "evaluation: {learning_rate: 1e-4}": [".learning_rate: unknown key; there is training_setup.learning_rate"],
    "training_setup: {learning_rate: .inf}": ["training_setup.learning_rate: found inf; expected a finite number"],
    "training_setup: {optimizer: {name: muon, fused: true}}": [
        "training_setup.optimizer.fused: unknown key; others have it, muon does not; take it out, or write the section"
    ],
    "search: {space: {}}": ["search.space: found {}; expected keys with values, at least 1"],
    "rank: 8": ["rank: unknown key; there is training_setup.method.rank"],
    "monitoring: {schedule: 5}": [".schedule: found 5; expected keys with values: cron, timezone"],
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


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


JUNK: tuple[Any, ...] = ("x y", "", 5, -1, 1.5, 10**12, True, None, [], [[]], {}, {"k": {}}, float("nan"))


def test_no_message_speaks_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands at whichever key: found, expected, and no word of pydantic."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    waiting: list[type[BaseModel]] = [Params]
    seen: set[type[BaseModel]] = set()
    told = 0
    while waiting:
        section = waiting.pop()
        if section in seen:
            continue
        seen.add(section)
        for name, field in section.model_fields.items():
            waiting += sections_in(field.annotation)
            for junk in JUNK:
                values = {name: junk}
                try:
                    section.model_validate(values)
                except ValidationError as error:
                    for problem in error.errors():
                        line = describe(section, values, problem)
                        told += 1
                        assert not re.search(
                            r"Input|should|unable|Tuple|dictionary|instance of|Field required|None|another value", line
                        ), f"{section.__name__}: {problem} -> {line}"
    assert told > 1000


def test_a_branch_is_answered_with_its_commit_or_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("model_initialisation: {source: {name: hub, id: owner/model, revision: main}}")

    def line() -> str:
        with pytest.raises(PipelineError) as raised:
            read_params.__wrapped__(path)
        return str(raised.value).removeprefix(f"{path}: model_initialisation.source.revision: ")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert line() == (
        'found "main"; expected a commit, 40 hex digits, as `git ls-remote https://huggingface.co/owner/model main` or '
        "https://huggingface.co/owner/model/commits/main shows it"
    )
    monkeypatch.setattr(hub_commit, "find_commit", lambda *_: "0123456789" * 4)
    assert line() == f'found "main"; expected a commit, 40 hex digits; main of owner/model is at {"0123456789" * 4} now'
