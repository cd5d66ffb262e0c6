"""Texts out to people and their labels in: formats, agreement, ties, and the choice of what to label next."""

from __future__ import annotations

import csv
import io
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.annotation.choose import choose_next, find_excluded
from tasks.annotation.label_studio import AnnotatedText, Task, make_config, make_tasks, read_export
from tasks.annotation.params import Annotation
from tasks.annotation.report import write_page
from tasks.annotation.resolve import TIE, read_rows, resolve_labels
from tasks.annotation.rounds import export_rows, import_labels, write_next
from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES, QUARANTINE
from tasks.contracts.tables import write_table
from tasks.corpus.agreement import measure_alpha, measure_pairs
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import STEP
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tests.labelled_texts import FILLER, TOPICS, texts_and_labels

REAL = Path(os.environ.get("HEPTUNE_REAL_DATA", "/nonexistent"))


def choice(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]


def annotation(who: object, label: str | None, cancelled: bool = False) -> dict[str, Any]:
    return {"completed_by": who, "was_cancelled": cancelled, "result": choice(label) if label else []}


def export(folder: Path, *tasks: tuple[str, list[dict[str, Any]]]) -> Path:
    path = folder / "export.json"
    rows = [
        {"id": number, "data": {"text": text}, "annotations": given} for number, (text, given) in enumerate(tasks, 1)
    ]
    path.write_bytes(orjson.dumps(rows))
    return path


def prepare(folder: Path, texts: list[str], labels: list[str], held: int = 20) -> None:
    """PreparedRows splits, the last rows in validation and test."""
    rows = [
        {
            "id": f"{row:016x}",
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": label}],
            "source": "desk",
            "row": row + 1,
            "label": label,
            "cluster": f"{row:016x}",
        }
        for row, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    cuts = {"train": rows[: -2 * held], "validation": rows[-2 * held : -held], "test": rows[-held:]}
    for split, part in cuts.items():
        write_table(pa.Table.from_pylist(part, schema=EXAMPLES), folder / f"{split}.parquet", EXAMPLES)
    write_table(QUARANTINE.empty_table(), folder / "quarantine.parquet", QUARANTINE)


def test_alpha_of_the_published_example() -> None:
    # Krippendorff 2011, section C: twelve units, four observers, nominal; alpha is 0.743.
    table = {"A": "123321412...", "B": "1233224125.3", "C": ".3332342251.", "D": "12332441251."}
    units = [{name: values[unit] for name, values in table.items() if values[unit] != "."} for unit in range(12)]
    found = measure_alpha(units, resamples=200)
    assert found.texts == 11
    assert found.value == pytest.approx(0.743, abs=0.001)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_alpha_at_its_ends() -> None:
    same = [{"1": label, "2": label} for label in "abab"]
    assert measure_alpha(same).value == 1
    assert measure_alpha([{"1": "a", "2": "a"}]).value is None
    assert measure_alpha([{"1": "a"}, {"2": "b"}]).texts == 0
    rng = random.Random(1)
    chance = measure_alpha([{who: rng.choice("abc") for who in "123"} for _ in range(800)], resamples=200)
    assert chance.value == pytest.approx(0, abs=0.05)
    assert chance.low is not None
    assert chance.high is not None
    assert chance.low < 0 < chance.high


def test_kappa_worked_out_by_hand() -> None:
    # 10 texts: both yes 4, both no 3, yes/no 1, no/yes 2. Same 0.7; chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa 0.4.
    votes = [("y", "y")] * 4 + [("n", "n")] * 3 + [("y", "n")] + [("n", "y")] * 2
    [pair] = measure_pairs([{"1": a, "2": b} for a, b in votes])
    assert (pair.texts, pair.same) == (10, 0.7)
    assert pair.kappa == pytest.approx(0.4)
    assert measure_pairs([{"1": "a", "2": "a"}])[0].kappa is None
    assert measure_pairs([{"1": "a"}, {"2": "a"}]) == []


def test_an_export_with_several_annotators(tmp_path: Path) -> None:
    path = export(
        tmp_path,
        ("agreed", [annotation(1, "a"), annotation({"id": 2, "email": "x@example.com"}, "a")]),
        ("outvoted", [annotation(1, "a"), annotation(2, "b"), annotation(3, "b")]),
        ("tied", [annotation(1, "a"), annotation(2, "b")]),
        ("skipped", [annotation(1, None, cancelled=True)]),
        ("empty", [annotation(1, None)]),
        ("untouched", []),
        ("twice", [annotation(1, "a"), annotation(1, "b")]),
    )
    found = import_labels(Annotation(), path, tmp_path / "out")
    assert [row["text"] for row in found.rows] == ["agreed", "outvoted", "twice"]
    assert found.rows[1] == {"text": "outvoted", "label": "b", "annotators": ["1", "2", "3"], "agreement": 0.6667}
    assert found.resolved.why == [
        "",
        "",
        TIE,
        "skipped by its annotators",
        "annotated without a label",
        "not annotated",
        "",
    ]
    assert [task.relabelled for task in found.tasks] == [0] * 6 + [1]
    again = orjson.loads((tmp_path / "out/again.json").read_bytes())
    assert [task["data"]["text"] for task in again] == ["tied"]
    alpha = write_page(found, path, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert alpha.texts == 3
    for text in ("Disagreements", "outvoted", "skipped by its annotators", "Cohen&#39;s kappa"):
        assert text in page
    # Once the tie is broken nothing is left to do again, and earlier rows stay.
    export(
        tmp_path,
        ("tied", [annotation(1, "a"), annotation(2, "b"), annotation(3, "a")]),
        ("twice", [annotation(1, "a")]),
    )
    second = import_labels(Annotation(), path, tmp_path / "out")
    assert {row["text"]: row["label"] for row in second.rows} == {
        "agreed": "a",
        "outvoted": "b",
        "twice": "a",
        "tied": "a",
    }
    assert second.replaced == 1
    assert not (tmp_path / "out/again.json").exists()
    # A source reads the rows by itself.
    rows = read_sources([Jsonl(path="out/labels.jsonl", title="people")], "quarantine", tmp_path)
    assert rows.table["label"].to_pylist() == ["a", "b", "a", "a"]
    assert rows.origins[0].shape == "text_label"


def test_predictions_by_number_are_passed_over(tmp_path: Path) -> None:
    path = export(tmp_path, ("text", [annotation(1, "a")]))
    [task] = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps([task | {"predictions": [17]}, task | {"predictions": [{"result": choice("b")}]}]))
    assert [found.predicted for found in read_export(path)] == [None, "b"]


def test_short_formats_say_the_same(tmp_path: Path) -> None:
    lines = [
        {"id": 1, "text": "one", "annotator": 7, "annotation_id": 11, "label": "a"},
        {"id": 1, "text": "one", "annotator": "zoe@example.com", "annotation_id": 12, "label": "b"},
        {"id": 2, "text": "two, with a comma", "annotator": "amy@example.com", "annotation_id": 13, "label": "b"},
    ]
    short, table = tmp_path / "short.json", tmp_path / "short.csv"
    short.write_bytes(orjson.dumps(lines))
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    for path in (short, table):
        found = read_export(path)
        # No address is kept.
        assert [task.votes for task in found] == [{"7": "a", "annotator 2": "b"}, {"annotator 1": "b"}]
        assert found[1].text == "two, with a comma"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"{}", "not an array of tasks"),
        (b"[]", "has no task"),
        (b"[1]", "not an array of tasks"),
        (
            b'[{"id": 3, "data": {"body": "x"}, "annotations": []}]',
            'task 3 has no "text" in its data \\(it has body\\)',
        ),
        (b'[{"id": 3, "data": {"text": "x"}}]', 'task 3 has no "annotations"'),
        (b'[{"id": 3, "data": {"text": "x"}, "annotations": [{"result": 5}]}]', "a result that is not a list"),
        (
            b'[{"id": 3, "data": {"text": "x"}, "annotations": [{"result": [{"type": "labels"}]}]}]',
            "annotated with labels; expected choices",
        ),
        (
            b'[{"id": 3, "data": {"text": "x"}, "annotations": [{"result": [{"from_name": "label", "type": "choices", '
            b'"value": {"choices": ["a", "b"]}}]}]}]',
            "has 2 labels in one annotation",
        ),
        (b'[{"id": 3, "text": "x", "label": "a"}]', 'has no "annotator" and "annotation_id"'),
        (b'[{"id": 3, "data": {"text": "x"}, "annotations": []}, {"id": 4}]', 'some tasks have "data"'),
        (b'[{"id": 3, "data": {"text": "x"}, "annotations": []}]', "none of its 1 tasks has a label"),
    ],
)
def test_bad_exports_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=message) as caught:
        import_labels(Annotation(), path, tmp_path)
    assert "\n" not in str(caught.value)


def test_strange_labels_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = export(tmp_path, ("x", [annotation(1, "a")]), ("y", [annotation(1, "q")]))
    with pytest.raises(PipelineError, match='task 2 has the label "q", which is none of a, b'):
        import_labels(Annotation(labels=("a", "b")), path, tmp_path)
    with pytest.raises(PipelineError, match="missing; give the file"):
        read_export(tmp_path / "none.json")
    (tmp_path / "labels.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(PipelineError, match=r"labels\.jsonl:1: not a row with text and label"):
        read_rows(tmp_path / "labels.jsonl")


def test_the_label_model_weighs_annotators() -> None:
    rng = random.Random(3)
    accuracy = {"1": 0.95, "2": 0.9, "3": 0.55, "4": 0.55, "5": 0.55}
    truth = [rng.choice("abc") for _ in range(600)]
    tasks = [
        AnnotatedText(
            f"task {number}",
            f"text {number}",
            {},
            {
                who: label if rng.random() < right else rng.choice([other for other in "abc" if other != label])
                for who, right in accuracy.items()
            },
        )
        for number, label in enumerate(truth)
    ]
    model, majority = resolve_labels(tasks, "label_model"), resolve_labels(tasks, "majority")
    right = {
        how: sum(a == b for a, b in zip(found.labels, truth, strict=True)) / len(truth)
        for how, found in (("model", model), ("majority", majority))
    }
    assert right["model"] > 0.93
    assert right["model"] > right["majority"] + 0.05
    assert [model.accuracies[who] for who in accuracy] == pytest.approx(list(accuracy.values()), abs=0.06)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip), min_size=1, max_size=8),
    st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1), min_size=2, max_size=5, unique=True),
    st.data(),
)
def test_tasks_go_out_and_come_back(tmp_path_factory: Any, texts: list[str], labels: list[str], data: Any) -> None:
    tasks = orjson.loads(make_tasks(Task(text, {"row": "r"}, labels[0], 0.75) for text in texts))
    assert [task["data"]["text"] for task in tasks] == texts
    config = ElementTree.fromstring(make_config(labels))
    assert [one.get("value") for one in config.iter("Choice")] == labels
    given_labels = [data.draw(st.sampled_from(labels)) for _ in tasks]
    for number, (task, label) in enumerate(zip(tasks, given_labels, strict=True)):
        task |= {"id": number, "annotations": [annotation(1, label)]}
    path = tmp_path_factory.mktemp("round") / "export.json"
    path.write_bytes(orjson.dumps(tasks))
    found = read_export(path)
    assert [task.text for task in found] == texts
    assert [task.votes["1"] for task in found] == given_labels
    assert {task.predicted for task in found} == {labels[0]}


def annotate(path: Path, truth: dict[str, str], people: dict[str, float], seed: int = 0) -> Path:
    """Tasks as Label Studio would export them, labelled by people of known accuracy."""
    rng = random.Random(seed)
    tasks = orjson.loads(path.read_bytes())
    labels = sorted(set(truth.values()))
    for number, task in enumerate(tasks, 1):
        right = truth[task["data"]["text"]]
        task["id"] = number
        task["annotations"] = [
            annotation(who, right if rng.random() < sure else rng.choice(labels)) for who, sure in people.items()
        ]
    done = path.with_name("export.json")
    done.write_bytes(orjson.dumps(tasks))
    return done


def test_a_whole_round(tmp_path: Path) -> None:
    texts, labels = texts_and_labels(700)
    truth = dict(zip(texts, labels, strict=True))
    prepare(tmp_path / "prepared", texts[:200], labels[:200])
    pool = [*texts[200:], texts[0], texts[199].upper() + "!", texts[165], ""]
    (tmp_path / "pool.txt").write_text("\n".join(pool))
    folder = tmp_path / "annotation"
    params = Annotation.model_validate({"pool": {"name": "text", "path": "pool.txt", "rows": "lines"}})
    written = write_next(params, 40, tmp_path / "prepared", folder, tmp_path)
    tasks = orjson.loads(written.path.read_bytes())
    assert written.rows == len(tasks) == 40
    chosen = [task["data"]["text"] for task in tasks]
    assert len(set(chosen)) == 40
    assert not set(chosen) & {texts[0], texts[199].upper() + "!", texts[165]}
    assert any("labelled already" in note for note in written.notes)
    assert any("similar to a held-out row" in note for note in written.notes)
    unsure = [task["data"]["unsure"] for task in tasks]
    assert unsure == sorted(unsure, reverse=True)
    assert {task["predictions"][0]["result"][0]["value"]["choices"][0] for task in tasks} <= set(TOPICS)
    config = ElementTree.fromstring((folder / "label_config.xml").read_text())
    assert [one.get("value") for one in config.iter("Choice")] == sorted(TOPICS)
    before = written.path.read_bytes()
    write_next(params, 40, tmp_path / "prepared", folder, tmp_path)
    assert written.path.read_bytes() == before
    people = {"1": 0.97, "2": 0.97, "3": 0.9}
    done = annotate(written.path, truth, people)
    found = import_labels(params, done, folder)
    assert found.new >= 38
    assert sum(truth[row["text"]] == row["label"] for row in found.rows) >= 38
    alpha = write_page(found, done, tmp_path / "index.html")
    assert alpha.value is not None
    assert alpha.value > 0.7
    # What has a label now is not chosen again.
    next_texts = [
        task["data"]["text"]
        for task in orjson.loads(write_next(params, 40, tmp_path / "prepared", folder, tmp_path).path.read_bytes())
    ]
    assert not set(next_texts) & {row["text"] for row in found.rows}


def test_suspects_go_out_to_people_and_come_back_right(tmp_path: Path) -> None:
    texts, labels = texts_and_labels(600)
    wrong = list(labels)
    planted = list(range(0, 600, 60))
    for row in planted:
        wrong[row] = next(label for label in TOPICS if label != labels[row])
    prepare(tmp_path / "prepared", texts, wrong)
    everything = export_rows(Annotation(), Noise(), tmp_path / "prepared", tmp_path / "out", suspects=False)
    assert everything.rows == 600
    written = export_rows(Annotation(), Noise(), tmp_path / "prepared", tmp_path / "out", suspects=True)
    tasks = orjson.loads(written.path.read_bytes())
    assert {texts[row] for row in planted} <= {task["data"]["text"] for task in tasks}
    assert len(tasks) <= len(planted) + 6
    shown = {task["data"]["text"]: task for task in tasks}[texts[0]]
    assert shown["data"]["given"] == wrong[0]
    assert shown["predictions"][0]["result"][0]["value"]["choices"] == [labels[0]]
    done = annotate(written.path, dict(zip(texts, labels, strict=True)), {"1": 1.0})
    found = import_labels(Annotation(), done, tmp_path / "out")
    fixed = {row["text"]: row["label"] for row in found.rows}
    assert all(fixed[texts[row]] == labels[row] for row in planted)
    # Those that the step set aside go first.
    content = orjson.dumps({"messages": [{"role": "user", "content": "odd"}], "label": "card"}).decode()
    row = {"source": "desk", "row": 3, "step": STEP, "reason": "label looks wrong, more like login", "content": content}
    write_table(pa.Table.from_pylist([row], schema=QUARANTINE), tmp_path / "prepared/quarantine.parquet", QUARANTINE)
    again = export_rows(Annotation(), Noise(), tmp_path / "prepared", tmp_path / "out", suspects=True)
    [task] = orjson.loads(again.path.read_bytes())
    assert (task["data"]["text"], task["data"]["given"]) == ("odd", "card")
    assert task["predictions"][0]["result"][0]["value"]["choices"] == ["login"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no pool of texts; name one"):
        write_next(Annotation(), 5, tmp_path, tmp_path, tmp_path)
    with pytest.raises(PipelineError, match="no prepared rows; run `heptune run data_preparation` first"):
        export_rows(Annotation(), Noise(), tmp_path, tmp_path, suspects=False)
    params = Annotation.model_validate({"pool": {"name": "text", "path": "pool.txt", "rows": "lines"}})
    with pytest.raises(PipelineError, match=r"0 labels to choose from; name them in annotation\.labels"):
        write_next(params, 5, tmp_path, tmp_path, tmp_path)
    (tmp_path / "pool.txt").write_text("known text of the desk\n")
    (tmp_path / "labels.jsonl").write_text('{"text": "known text of the desk", "label": "a"}\n')
    named = params.model_copy(update={"labels": ("a", "b")})
    with pytest.raises(PipelineError, match=r"none of the 1 texts of the pool is left to label \(1 labelled already\)"):
        write_next(named, 5, tmp_path, tmp_path, tmp_path)


def test_a_cold_start_spreads_over_the_topics() -> None:
    texts, labels = texts_and_labels(500)
    chosen = choose_next(texts, [], [], [], 25, Tfidf(dimensions=32))
    assert len(chosen.indices) == 25
    assert chosen.predictions == [None] * 25
    assert min(Counter(labels[place] for place in chosen.indices).values()) >= 2
    assert len(choose_next(texts[:10], [], [], [], 25, Tfidf(dimensions=8)).indices) == 10


def test_texts_that_differ_in_a_sign_are_not_labelled_already() -> None:
    pool = ["is 1.0 new?", "is 10 new?", "Is 10 new", "-1", "1", "f(x, y)", "f(xy)"]
    assert find_excluded(pool, ["is 10 new?"], ["1", "f(xy)"], 1.0) == [
        "",
        "labelled already",
        "labelled already",
        "",
        "similar to a held-out row",
        "",
        "similar to a held-out row",
    ]


def test_unsure_texts_are_preferred() -> None:
    texts, labels = texts_and_labels(200)
    rng = random.Random(5)
    mixed = [
        " ".join([rng.choice(TOPICS["card"]), rng.choice(TOPICS["login"]), *rng.sample(FILLER, 3)]) for _ in range(30)
    ]
    pool = [*texts_and_labels(300, seed=9)[0], *mixed]
    chosen = choose_next(pool, texts, labels, [], 3, Tfidf(dimensions=32))
    assert all(place >= 300 for place in chosen.indices)
    assert max(chosen.uncertainty) <= 1


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "bitext_support").exists(), reason="HEPTUNE_REAL_DATA has no bitext_support")
def test_chosen_texts_teach_more_than_random_ones() -> None:
    import gzip

    from benchmarks.active_learning import run

    [path] = (REAL / "bitext_support").glob("*.csv.gz")
    with io.TextIOWrapper(gzip.open(path), encoding="utf-8") as stream:
        pairs = [(row["instruction"], row["intent"]) for row in csv.DictReader(stream)]
    found = run(pairs, 50, 5, 0)
    assert np.mean(found["chosen"]) > np.mean(found["random"])
    assert found["chosen"][-1] > found["random"][-1]
