"""Label Studio's files: tasks to import there, and its exports.

Tasks are a JSON array of ``{"data": {"text": ...}, "predictions": [...]}``; the labelling configuration is XML with one
choice per label. Supported exports are JSON (a task with its annotations), JSON-MIN and CSV (a line per annotation).

Example of an exported task:

    {"id": 7, "data": {"text": "where is my parcel"},
     "annotations": [{"completed_by": 1, "was_cancelled": false,
                      "result": [{"from_name": "label", "type": "choices", "value": {"choices": ["parcel"]}}]}]}
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import orjson

from tasks.contracts.errors import PipelineError

FROM_NAME, TO_NAME = "label", "text"
MODEL_VERSION = "heptune"
# Columns of JSON-MIN and CSV besides the data and the label.
REQUIRED_COLUMNS = ("annotation_id", "annotator")


@dataclass(frozen=True)
class Task:
    """A text to label.

    Attributes:
        text: The text to show.
        data: Further values, returned with the label.
        label: Suggested label, if any.
        score: Confidence of the suggestion, 0 to 1.
    """

    text: str
    data: Mapping[str, str | int | float] = field(default_factory=dict)
    label: str | None = None
    score: float | None = None


@dataclass
class AnnotatedText:
    """A text with its annotations, as exported.

    Attributes:
        task: File and task id, for messages.
        text: The text.
        data: All values of the task.
        votes: Annotator to label.
        relabelled: Number of repeated labels by the same annotator; the last counts.
        cancelled: Number of skipped annotations.
        empty: Number of annotations without a choice.
        predicted: The suggested label, if any.
    """

    task: str
    text: str
    data: dict[str, Any]
    votes: dict[str, str] = field(default_factory=dict)
    relabelled: int = 0
    cancelled: int = 0
    empty: int = 0
    predicted: str | None = None


def make_tasks(tasks: Iterable[Task]) -> bytes:
    """Tasks in the format that Label Studio imports, one a line."""
    lines = [orjson.dumps(_make_task(task)) for task in tasks]
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


def _make_task(task: Task) -> dict[str, Any]:
    exported: dict[str, Any] = {"data": {"text": task.text, **task.data}}
    if task.label is not None:
        value = {"from_name": FROM_NAME, "to_name": TO_NAME, "type": "choices", "value": {"choices": [task.label]}}
        exported["predictions"] = [
            {"model_version": MODEL_VERSION, "score": round(task.score or 0.0, 6), "result": [value]}
        ]
    return exported


def make_config(labels: Sequence[str]) -> str:
    """The labelling configuration: the text, and one choice per label."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        f'<View>\n  <Text name="{TO_NAME}" value="$text"/>\n  <Choices name="{FROM_NAME}" toName="{TO_NAME}" '
        f'choice="single" required="true">\n{choices}\n  </Choices>\n</View>\n'
    )


def read_export(path: Path) -> list[AnnotatedText]:
    """Read an export of Label Studio, JSON, JSON-MIN or CSV.

    Annotators without a numeric id are numbered in the order of their names, so that no e-mail address is stored.

    Raises:
        PipelineError: The file is missing, in another format, or a task is not as expected.
    """
    if not path.is_file():
        raise PipelineError(f"{path}: missing; give the file that Label Studio exported")
    lines = _read_csv(path) if path.suffix.lower() in (".csv", ".tsv") else _read_json(path)
    if not lines:
        raise PipelineError(f"{path}: has no task; export the project once its tasks are there")
    flat = [line for line in lines if "data" not in line]
    if flat and len(flat) < len(lines):
        raise PipelineError(f'{path}: some tasks have "data" and some have not; export it again as JSON')
    tasks = _group_lines(path, lines) if flat else [_read_task(path, line) for line in lines]
    return _number_annotators(tasks)


def _read_json(path: Path) -> list[dict[str, Any]]:
    try:
        content = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise PipelineError(f"{path}: not JSON ({error}); export the project as JSON, JSON-MIN or CSV") from error
    if not isinstance(content, list) or not all(isinstance(line, dict) for line in content):
        raise PipelineError(f"{path}: not an array of tasks; export the project as JSON, JSON-MIN or CSV")
    return content


def _read_csv(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not UTF-8; export it again") from error
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))


def _name_task(path: Path, line: Mapping[str, Any], kind: str = "id") -> str:
    return f"{path.name}: task {line.get(kind, '?')}"


def _text_of(name: str, data: Any) -> str:
    text = data.get("text") if isinstance(data, dict) else None
    if not isinstance(text, str) or not text.strip():
        keys = ", ".join(sorted(data)) if isinstance(data, dict) else type(data).__name__
        raise PipelineError(f'{name} has no "text" in its data (it has {keys}); label tasks that Heptune exported')
    return text


def _read_task(path: Path, line: dict[str, Any]) -> AnnotatedText:
    name = _name_task(path, line)
    annotations = line.get("annotations", line.get("completions"))
    if not isinstance(annotations, list):
        raise PipelineError(f'{name} has no "annotations"; export the project with its annotations, as JSON')
    task = AnnotatedText(name, _text_of(name, line["data"]), dict(line["data"]))
    for annotation in annotations:
        if not isinstance(annotation, dict):
            raise PipelineError(f"{name} has an annotation that is not an object; export it again as JSON")
        if annotation.get("was_cancelled"):
            task.cancelled += 1
            continue
        annotator = annotation.get("completed_by")
        annotator = annotator.get("id", annotator.get("email")) if isinstance(annotator, dict) else annotator
        _add_vote(task, annotator, _read_result(name, annotation.get("result")))
    suggested = [
        _read_result(name, prediction.get("result"))
        for prediction in line.get("predictions") or ()
        if isinstance(prediction, dict)
    ]
    task.predicted = next((label for label in suggested if label), None)
    return task


def _read_result(name: str, result: Any) -> str | None:
    if not isinstance(result, list):
        raise PipelineError(f"{name} has a result that is not a list; export it again as JSON")
    chosen = [
        choice
        for part in result
        if isinstance(part, dict) and part.get("type") == "choices" and part.get("from_name") == FROM_NAME
        for choice in (part.get("value") or {}).get("choices", ())
    ]
    if len(chosen) > 1:
        raise PipelineError(f"{name} has {len(chosen)} labels in one annotation; a text has one, choice must be single")
    if not chosen and any(isinstance(part, dict) and part.get("type") != "choices" for part in result):
        kinds = ", ".join(sorted({str(part.get("type")) for part in result}))
        raise PipelineError(
            f'{name} is annotated with {kinds}; expected choices named "{FROM_NAME}", see label_config.xml'
        )
    return str(chosen[0]) if chosen else None


def _group_lines(path: Path, lines: Sequence[dict[str, Any]]) -> list[AnnotatedText]:
    tasks: dict[str, AnnotatedText] = {}
    for line in lines:
        name = _name_task(path, line)
        if any(line.get(column) in (None, "") for column in REQUIRED_COLUMNS):
            raise PipelineError(f'{name} has no "annotator" and "annotation_id"; expected JSON, JSON-MIN or CSV')
        key = f"{line.get('id')}\n{line.get('text')}"
        task = tasks.setdefault(key, AnnotatedText(name, _text_of(name, line), line))
        choice = line.get(FROM_NAME)
        if isinstance(choice, dict):
            choices = choice.get("choices", ())
            raise PipelineError(f"{name} has {len(choices)} labels in one annotation; choice must be single")
        _add_vote(task, line["annotator"], str(choice) if choice not in (None, "") else None)
    return list(tasks.values())


def _add_vote(task: AnnotatedText, annotator: Any, label: str | None) -> None:
    name = "?" if annotator is None else str(annotator)
    if label is None:
        task.empty += 1
        return
    task.relabelled += name in task.votes
    task.votes[name] = label


def _number_annotators(tasks: list[AnnotatedText]) -> list[AnnotatedText]:
    names = sorted({name for task in tasks for name in task.votes if not name.isdigit()})
    numbered = {name: f"annotator {number}" for number, name in enumerate(names, start=1)}
    for task in tasks:
        task.votes = {numbered.get(name, name): label for name, label in task.votes.items()}
    return tasks
