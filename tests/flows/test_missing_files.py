"""What params and ``dvc.yaml`` name and is not there is told before anything runs, all at once."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from flows.wiring.params import Params
from flows.wiring.preflight.paths import check_inputs, check_section, find_marked
from flows.wiring.staleness import STAGES
from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads

# Places that are written, or that only mention a file.
NOT_READ = {"cache", "column", "nvme_path", "sha256", "store", "title", "verdicts"}


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def test_every_field_that_names_a_place_is_marked() -> None:
    seen: set[type[BaseModel]] = set()
    waiting, unmarked, marked = [Params], [], 0
    while waiting:
        section = waiting.pop()
        if section in seen:
            continue
        seen.add(section)
        for name, field in section.model_fields.items():
            waiting += sections_in(field.annotation)
            assert "Reads(" not in str(field.annotation), (
                f"{section.__name__}.{name}: the mark is inside, so it is not found"
            )
            reads = any(isinstance(each, Reads) for each in field.metadata)
            marked += reads
            is_text = field.annotation in (str, Path, str | None, Path | None)
            if is_text and not reads and re.search(r"\b(folder|files?)\b", field.description or ""):
                unmarked += [f"{section.__name__}.{name}"] if name not in NOT_READ else []
    assert unmarked == []
    assert marked >= 15


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for path in (
        "data/raw/support.csv",
        "data/raw/part.jsonl",
        "models/base/config.json",
        "models/empty/x",
        "words.txt",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  download: {cmd: x, outs: [data/raw/made]}\n"
        "  data_preparation: {cmd: x, deps: [data/raw, tasks/gone], outs: [data/prepared]}\n"
        "  evaluation: {cmd: x, deps: [data/prepared/test.parquet]}\n"
    )
    return tmp_path


def told(values: dict[str, Any], stages: tuple[str, ...] = (), sections: tuple[str, ...] = STAGES) -> list[str]:
    try:
        check_inputs(Params.model_validate(values), stages, sections)
    except PipelineError as error:
        lines = str(error).splitlines()
        return [line.removeprefix("  - ").removeprefix("params.yaml: ") for line in lines if "problems" not in line]
    return []


def sources(*paths: str, **more: Any) -> dict[str, Any]:
    return {
        "data_preparation": {
            "sources": [{"name": "csv", "title": f"s{at}", "path": path, **more} for at, path in enumerate(paths)]
        }
    }


def test_what_is_there_or_made_or_elsewhere_is_not_missed(here: Path) -> None:
    right = ("data/raw/support.csv", "data/raw", "data/raw/*.csv", "s3://bucket/x.csv", "data/raw/made/x.csv")
    assert told(sources(*right)) == []
    assert told(sources("nowhere.csv", optional=True)) == []
    assert told({"model_initialisation": {"source": {"name": "hub", "id": "a/b", "revision": "0" * 40}}}) == []


def test_wrong_places_are_told_together_with_what_to_write(here: Path) -> None:
    lines = told(
        sources("data/raw/suport.csv", "data/raw/*.tsv", "elsewhere/x.csv", "zip://*.csv::data/raw/x.zip")
        | {"model_initialisation": {"source": {"name": "folder", "path": "models/empty"}}}
        | {"monitoring": {"drift": {"embedder": {"name": "sentence_transformers", "path": "words.txt"}}}}
    )
    places = "expected a file, a folder or a glob"
    assert lines == [
        f'data_preparation.sources.0.path: "data/raw/suport.csv" is not there; {places}; did you mean '
        '"data/raw/support.csv"?',
        f'data_preparation.sources.1.path: nothing matches "data/raw/*.tsv"; {places}',
        f'data_preparation.sources.2.path: "elsewhere/x.csv" is not there; {places}; elsewhere is not there either',
        f'data_preparation.sources.3.path: "data/raw/x.zip" is not there; {places}; data/raw holds part.jsonl, '
        "support.csv",
        'model_initialisation.source.path: "models/empty" has no config.json; expected a folder with config.json; '
        "models/empty holds x",
        'monitoring.drift.embedder.path: "words.txt" is a file; expected a folder',
    ]


def test_only_sections_of_stages_that_run_are_looked_at(here: Path) -> None:
    wrong = sources("nowhere.csv")
    assert told(wrong, sections=("evaluation",)) == []
    assert len(told(wrong, sections=("data_preparation",))) == 1


def test_a_file_of_a_suite_that_dvc_does_not_watch_is_told(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "dvc.yaml").write_text("stages: {evaluation: {cmd: x, deps: [data/suites, models/judges]}}\n")
    (here / "data/suites").mkdir()
    for path in ("data/suites/facts.csv", "data/facts.csv"):
        (here / path).write_text("question,answer\n1+1,2\n")
    (here / "data/suites/linked.csv").symlink_to(here / "data/facts.csv")

    def unwatched(*files: str) -> list[str]:
        caplog.clear()
        suites = [{"name": "known_answers", "title": f"s{at}", "files": file} for at, file in enumerate(files)]
        assert told({"evaluation": {"suites": suites}}) == []
        return [record.getMessage().partition(";")[0] for record in caplog.records]

    assert unwatched("data/suites/facts.csv", "data/suites", str(here / "data/suites/facts.csv")) == []
    rest = "is not among what DVC watches for evaluation, so a change of it goes unnoticed"
    assert unwatched("data/suites/facts.csv", "data/facts.csv", "data/suites/linked.csv") == [
        f"evaluation.suites.1.files: data/facts.csv {rest}",
        f"evaluation.suites.2.files: data/suites/linked.csv {rest}",
    ]


def test_models_that_evaluation_asks_are_watched_and_looked_at(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Guards, classifiers of entailment, embedders, judges and what judges are held against."""
    (here / "dvc.yaml").write_text("stages: {evaluation: {cmd: x, deps: [data/suites, models/judges]}}\n")
    labels = {"models/judges/nli": ["entailment", "neutral"], "models/nli": ["not_entailment", "entailment"],
              "models/judges/toxic": ["toxic", "severe"], "models/judges/plain": []}  # fmt: skip
    for path, names in labels.items():
        (here / path).mkdir(parents=True)
        config = {"id2label": dict(enumerate(names))} if names else {}
        (here / path / "config.json").write_text(json.dumps(config))
    (here / "people.jsonl").touch()

    def evaluation(nli: str, toxic: str = "models/judges/toxic", label: str = "toxic") -> dict[str, Any]:
        guard = {"name": "classifier", "path": toxic, "labels": [label]}
        writer = {"name": "openai", "url": "http://127.0.0.1:9/v1", "model": "m", "temperature": 0}
        agreement = {"file": "people.jsonl", "at_least": 0.7}
        return {"evaluation": {
            "metrics": ["intent_accuracy", "loss", "rouge_l",
                        {"name": "semantic_entropy", "by": {"name": "entailment", "path": nli}}],
            "suites": [{"name": "toxicity", "guard": guard}],
            "judges": [{"name": "pairwise", "panel": [{"writer": writer}], "agreement": agreement}],
        }}  # fmt: skip

    assert told(evaluation("models/judges/nli")) == []
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning.startswith("evaluation.judges.0.agreement.file: people.jsonl is not among what DVC watches")
    assert "move it into data/suites, or run" in warning
    caplog.clear()
    assert told(evaluation("models/nli")) == []
    assert "move it into models/judges, or run" in caplog.records[0].getMessage()
    assert told(evaluation("models/judges/toxic", label="rude")) == [
        "evaluation.metrics.3.by.path: entailment: models/judges/toxic has the labels toxic, severe, expected one that "
        "begins with entail; give it a classifier of natural language inference",
        "evaluation.suites.0.guard.path: guard classifier: models/judges/toxic has no label ['rude']; it has ['toxic', "
        "'severe']",
    ]
    assert "has the labels LABEL_0, LABEL_1" in told(evaluation("models/judges/plain"))[0]
    params = Params.model_validate(evaluation("nowhere"))
    with pytest.raises(
        PipelineError, match=r'evaluation\.metrics\.3\.by\.path: "nowhere" is not there; expected a folder'
    ):
        check_section(params.evaluation, "evaluation")


def test_a_reward_that_dvc_does_not_watch_is_told(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also one that another stage makes."""
    (here / "dvc.yaml").write_text(
        "stages:\n  training_setup: {cmd: x, deps: [models/reward]}\n  deployment: {cmd: x, outs: [models/release]}\n"
    )
    paths = ("models/reward/polite", "models/elsewhere", "models/release/model")
    for path in paths:
        (here / path).mkdir(parents=True)
        (here / path / "config.json").touch()
    rewards = [{"name": "model", "path": path} for path in paths]
    objective = {"name": "grpo", "rollout": {"rewards": rewards}}
    assert told({"training_setup": {"phases": [{}, {"objective": objective}], "packing": "none"}}) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"training_setup.phases.1.objective.rollout.rewards.{number}.path: {paths[number]} is not among what DVC "
        "watches for training_setup, so a change of it goes unnoticed; move it into models/reward, or run `heptune run "
        "training_setup fine_tuning --force` after a change"
        for number in (1, 2)
    ]


def test_a_configuration_of_deepspeed_is_looked_for_and_not_watched(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (here / "dvc.yaml").write_text("stages: {training_setup: {cmd: x, deps: [models/reward]}}\n")
    section: dict[str, Any] = {"distribution": {"name": "zero", "config": "zero.json"}, "processes": 2}
    (problem,) = told({"training_setup": section})
    assert 'training_setup.distribution.config: "zero.json" is not there; expected a file' in problem
    (here / "zero.json").write_text("{}")
    assert told({"training_setup": section}) == []
    (record,) = caplog.records
    assert "goes unnoticed; write what it holds in its place, or run" in record.getMessage()
    caplog.clear()
    section["distribution"]["config"] = {"zero_optimization": {"stage": 2}}
    assert told({"training_setup": section}) == []
    assert not caplog.records


def test_a_missing_dependency_says_how_it_comes_back(here: Path) -> None:
    assert told({}, ("evaluation",)) == []
    assert told({}, ("data_preparation",)) == [
        "tasks/gone: missing, and data_preparation reads it; tasks is not there either"
    ]
    (here / "data/raw/gone.csv.dvc").touch()
    assert told(sources("data/raw/gone.csv"))[0].endswith("; DVC has it: run `dvc pull`")
    (here / "models/base/config.json").unlink()
    assert told({})[0].startswith('model_initialisation.source.path: "models/base" has no config.json')
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    (here / "models/base/config.json").touch()
    for words in (["init", "-q"], ["add", "models"], ["commit", "-qm", "base"]):
        subprocess.run([*git, *words], check=True)
    (here / "models/base/config.json").unlink()
    (here / "models/base").rmdir()
    assert told({}) == [
        'model_initialisation.source.path: "models/base" is not there; expected a folder with config.json; '
        "`git checkout -- models/base` or `heptune pretrain-base` brings it back"
    ]


def test_marks_are_found_at_any_depth() -> None:
    weak = {"name": "weak", "source": {"name": "text", "path": "a.txt"}, "functions": [
        {"name": "python", "path": "votes.py", "functions": ["f"]}]}  # fmt: skip
    params = Params.model_validate({"data_preparation": {"sources": [weak]}})
    found = {key: value for key, value, _, _ in find_marked(params.data_preparation, "data_preparation")}
    assert found["data_preparation.sources.0.source.path"] == "a.txt"
    assert found["data_preparation.sources.0.functions.0.path"] == "votes.py"
