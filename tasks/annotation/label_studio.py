"""Label Studio's files: tasks to import there, and what it exports.

Tasks are a JSON array of ``{"data": {"text": ...}, "predictions": [...]}``; the labelling configuration is XML with one
choice per label. Read are its exports JSON (a task with its annotations), JSON-MIN and CSV (a line per annotation).

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

FROM, TO = "label", "text"
MODEL = "heptune"
# What every line of JSON-MIN and CSV has beside the data and the label.
MIN_COLUMNS = ("annotation_id", "annotator")


@dataclass(frozen=True)
class Task:
    """A text to label.

    Attributes:
        text: What is shown.
        data: Further values that come back with the label.
        label: What is suggested, if anything.
        score: How sure the suggestion is, 0 to 1.
    """

    text: str
    data: Mapping[str, str | int | float] = field(default_factory=dict)
    label: str | None = None
    score: float | None = None


@dataclass
class Annotated:
    """A text as it came back.

    Attributes:
        place: Task number, for messages.
        text: The text.
        data: All values of the task.
        votes: Annotator to label.
        again: Times an annotator labelled it again; the last counts.
        cancelled: Annotations that were skipped.
        empty: Annotations without a choice.
        predicted: The label that was suggested, if one was.
    """

    place: str
    text: str
    data: dict[str, Any]
    votes: dict[str, str] = field(default_factory=dict)
    again: int = 0
    cancelled: int = 0
    empty: int = 0
    predicted: str | None = None


def make_tasks(tasks: Iterable[Task]) -> bytes:
    """Tasks in the format that Label Studio imports, one a line."""
    lines = [orjson.dumps(_make_task(task)) for task in tasks]
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


def _make_task(task: Task) -> dict[str, Any]:
    made: dict[str, Any] = {"data": {"text": task.text, **task.data}}
    if task.label is not None:
        value = {"from_name": FROM, "to_name": TO, "type": "choices", "value": {"choices": [task.label]}}
        made["predictions"] = [{"model_version": MODEL, "score": round(task.score or 0.0, 6), "result": [value]}]
    return made


def make_config(labels: Sequence[str]) -> str:
    """The labelling configuration: the text, and one choice per label."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        f'<View>\n  <Text name="{TO}" value="$text"/>\n  <Choices name="{FROM}" toName="{TO}" choice="single" '
        f'required="true">\n{choices}\n  </Choices>\n</View>\n'
    )


def read_export(path: Path) -> list[Annotated]:
    """Read an export of Label Studio, JSON, JSON-MIN or CSV.

    Annotators without a number are numbered in the order of their names, so that no address is kept.

    Raises:
        PipelineError: The file is missing, of another kind, or a task is not as expected.
    """
    if not path.is_file():
        raise PipelineError(f"{path}: missing; give the file that Label Studio exported")
    lines = _read_csv(path) if path.suffix.lower() in (".csv", ".tsv") else _read_json(path)
    if not lines:
        raise PipelineError(f"{path}: holds no task; export the project once its tasks are there")
    short = [line for line in lines if "data" not in line]
    if short and len(short) < len(lines):
        raise PipelineError(f'{path}: some tasks have "data" and some have not; export it again as JSON')
    found = _gather_lines(path, lines) if short else [_read_task(path, line) for line in lines]
    return _number_annotators(found)


def _read_json(path: Path) -> list[dict[str, Any]]:
    try:
        content = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise PipelineError(f"{path}: no JSON ({error}); export the project as JSON, JSON-MIN or CSV") from error
    if not isinstance(content, list) or not all(isinstance(line, dict) for line in content):
        raise PipelineError(f"{path}: no array of tasks; export the project as JSON, JSON-MIN or CSV")
    return content


def _read_csv(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not UTF-8; export it again") from error
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))


def _place(path: Path, line: Mapping[str, Any], kind: str = "id") -> str:
    return f"{path.name}: task {line.get(kind, '?')}"


def _text_of(place: str, data: Any) -> str:
    text = data.get("text") if isinstance(data, dict) else None
    if not isinstance(text, str) or not text.strip():
        keys = ", ".join(sorted(data)) if isinstance(data, dict) else type(data).__name__
        raise PipelineError(f'{place} has no "text" in its data (it has {keys}); label tasks that Heptune exported')
    return text


def _read_task(path: Path, line: dict[str, Any]) -> Annotated:
    place = _place(path, line)
    done = line.get("annotations", line.get("completions"))
    if not isinstance(done, list):
        raise PipelineError(f'{place} has no "annotations"; export the project with its annotations, as JSON')
    found = Annotated(place, _text_of(place, line["data"]), dict(line["data"]))
    for annotation in done:
        if not isinstance(annotation, dict):
            raise PipelineError(f"{place} has an annotation that is no object; export it again as JSON")
        if annotation.get("was_cancelled"):
            found.cancelled += 1
            continue
        who = annotation.get("completed_by")
        who = who.get("id", who.get("email")) if isinstance(who, dict) else who
        _take(found, who, _read_result(place, annotation.get("result")))
    suggested = [
        _read_result(place, given.get("result")) for given in line.get("predictions") or () if isinstance(given, dict)
    ]
    found.predicted = next((label for label in suggested if label), None)
    return found


def _read_result(place: str, result: Any) -> str | None:
    if not isinstance(result, list):
        raise PipelineError(f"{place} has a result that is no list; export it again as JSON")
    chosen = [
        choice
        for part in result
        if isinstance(part, dict) and part.get("type") == "choices" and part.get("from_name") == FROM
        for choice in (part.get("value") or {}).get("choices", ())
    ]
    if len(chosen) > 1:
        raise PipelineError(
            f"{place} has {len(chosen)} labels in one annotation; a text has one, choice must be single"
        )
    if not chosen and any(isinstance(part, dict) and part.get("type") != "choices" for part in result):
        kinds = ", ".join(sorted({str(part.get("type")) for part in result}))
        raise PipelineError(f'{place} is annotated with {kinds}; expected choices named "{FROM}", see label_config.xml')
    return str(chosen[0]) if chosen else None


def _gather_lines(path: Path, lines: Sequence[dict[str, Any]]) -> list[Annotated]:
    found: dict[str, Annotated] = {}
    for line in lines:
        place = _place(path, line)
        if any(line.get(column) in (None, "") for column in MIN_COLUMNS):
            raise PipelineError(f'{place} has no "annotator" and "annotation_id"; expected JSON, JSON-MIN or CSV')
        task = found.setdefault(f"{line.get('id')}\n{line.get('text')}", Annotated(place, _text_of(place, line), line))
        choice = line.get(FROM)
        if isinstance(choice, dict):
            several = choice.get("choices", ())
            raise PipelineError(f"{place} has {len(several)} labels in one annotation; choice must be single")
        _take(task, line["annotator"], str(choice) if choice not in (None, "") else None)
    return list(found.values())


def _take(found: Annotated, who: Any, label: str | None) -> None:
    name = "?" if who is None else str(who)
    if label is None:
        found.empty += 1
        return
    found.again += name in found.votes
    found.votes[name] = label


def _number_annotators(found: list[Annotated]) -> list[Annotated]:
    names = sorted({name for task in found for name in task.votes if not name.isdigit()})
    called = {name: f"annotator {number}" for number, name in enumerate(names, start=1)}
    for task in found:
        task.votes = {called.get(name, name): label for name, label in task.votes.items()}
    return found
