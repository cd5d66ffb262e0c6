"""What MLflow is told of a run, read from the entries that would be sent: no copies, true curves, a headline."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.wiring import artifacts, stage
from flows.wiring.browsing.live import read_curves
from flows.wiring.params import Params
from flows.wiring.processes import show_mark
from flows.wiring.runs import addresses, progress
from flows.wiring.runs.headline import read_headline
from flows.wiring.runs.recording import PIPELINE, REASON, Recorder
from flows.wiring.runs.records import RunRecord, begin_record, end_record, find_record, read_records, record_of_page
from tasks.contracts.manifest import write_bytes, write_json

FIGURES = {"bytes": 74287, "steps": 12, "train_loss": 6.36, "validation_loss": 6.3527, "validation_loss_lowest": 6.3}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout after fine-tuning, with nobody to send what is recorded."""
    monkeypatch.chdir(tmp_path)
    for name in ("PREFECT_API_URL", "PREFECT_UI_URL", "HEPTUNE_REPORTS_URL", "HEPTUNE_MLFLOW_URL", PIPELINE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv(REASON, "more rows")
    monkeypatch.setattr("flows.wiring.runs.recording.ensure_sender", lambda: None)
    write_json(artifacts.metrics("data_preparation"), {"rows_train": 375, "rows_test": 30, "dropped_html": 0})
    write_json(artifacts.INITIAL / "manifest.json", {"source": {"hub": "org/base", "revision": "ab12"}})
    plan = {"method": {"name": "lora", "rank": 8}, "learning_rate": 0.001, "steps": 12, "seed": 17, "device": "cpu"}
    write_json(artifacts.PLAN / "plan.json", plan)
    write_json(artifacts.metrics("fine_tuning"), FIGURES)
    write_bytes(artifacts.report("fine_tuning"), b"<h1>Fine-tuning</h1><!--run-->who?<!--/run-->")
    write_json(artifacts.CURVE, [{"step": 1, "loss": 6.4}])
    (artifacts.CURVE.parent / "rows.parquet").write_bytes(b"rows")
    return tmp_path


@pytest.fixture
def shown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The artifacts that Prefect would be given."""
    made: list[dict[str, Any]] = []
    for kind in ("create_table_artifact", "create_link_artifact", "create_markdown_artifact"):
        monkeypatch.setattr(stage, kind, lambda **values: made.append(values))
    return made


def observe(monkeypatch: pytest.MonkeyPatch, status: str = "FINISHED", reason: str = "") -> list[dict[str, Any]]:
    """Record a run of fine-tuning as the stage does; the entries."""
    record = begin_record("fine_tuning", "0f-1", "p-1")
    recorder = Recorder("fine_tuning", "p-1", {"heptune.stage": "fine_tuning"}, flow_run="0f-1")
    monkeypatch.setattr(stage, "_recorder", recorder)
    monkeypatch.setattr(stage, "_record", record)
    stage.note_figures("tokenize_splits", {"rows": 375, "tokens": 38165}, 1.9)
    recorder.metrics(1, {"train_loss": 6.4, "tokens_per_second": 77})
    recorder.metrics(0, {"validation_loss": 6.38})
    recorder.metrics(12, {"train_loss": 6.35, "validation_loss": 6.35, "tokens_per_second": 1250})
    stage.note_figures("fine_tune", {"bytes": 74287, "steps": 12, "resumed_at": 0}, 31.1)
    stage.note_figures("write_losses", {"loss": 6.353}, 0.002)
    stage.note_figures("write_report", FIGURES, 0.004)
    if status == "FINISHED":
        stage.show_report("fine_tuning")
    stage.end_observed(status, reason)
    return [json.loads(line) for line in recorder.path.read_text().splitlines()]


def own(entries: list[dict[str, Any]]) -> list[tuple[int, str, float]]:
    """Points of the metrics of the run itself."""
    points = [entry for entry in entries if entry["kind"] == "metrics" and not entry.get("pipeline")]
    return [(entry["step"], key, value) for entry in points for key, value in entry["values"].items()]


def of_pipeline(entries: list[dict[str, Any]], kind: str) -> Mapping[str, Any]:
    (found,) = [entry["values"] for entry in entries if entry["kind"] == kind and entry.get("pipeline")]
    values: Mapping[str, Any] = found
    return values


def test_no_figure_is_recorded_twice_and_no_curve_has_a_false_point(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = observe(monkeypatch)
    points = own(entries)
    assert [(step, value) for step, key, value in points if key == "train_loss"] == [(1, 6.4), (12, 6.35)]
    assert [(step, value) for step, key, value in points if key == "validation_loss"] == [(0, 6.38), (12, 6.35)]
    assert {key: value for step, key, value in points if step == 0 and key != "validation_loss"} == {
        "tokenize_splits.rows": 375.0,
        "tokenize_splits.tokens": 38165.0,
        "tokenize_splits.seconds": 1.9,
        "fine_tune.resumed_at": 0.0,
        "fine_tune.seconds": 31.1,
        "bytes": 74287.0,
        "steps": 12.0,
        "validation_loss_lowest": 6.3,
    }


def test_what_an_earlier_task_said_is_not_said_again(checkout: Path) -> None:
    stage.note_figures("split", {"train": 10, "test": 2}, 0.0)
    stage.note_figures("prune", {"train": 10, "test": 2, "pruned": 0}, 0.05)
    stage.note_figures("augment", {"train": 12}, 0.0)
    found = dict(stage._task_figures)
    stage._task_figures.clear()
    assert found == {"split.train": 10, "split.test": 2, "prune.pruned": 0, "augment.train": 12}
    assert stage.figures_of({"version": 1, "files": {"a": {}}}) == {}


def test_the_pipelines_run_has_a_name_and_a_headline(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = observe(monkeypatch)
    assert entries[0]["title"].startswith("more rows, 20")
    assert of_pipeline(entries, "params") == {
        "rows_train": "375", "rows_test": "30", "base": "org/base@ab12",
        "method": "lora", "learning_rate": "0.001", "steps": "12", "seed": "17", "device": "cpu",
    }  # fmt: skip
    assert of_pipeline(entries, "metrics") == {"train_loss": 6.36, "validation_loss": 6.3527}


def test_the_headline_goes_as_far_as_the_stage(checkout: Path) -> None:
    write_json(artifacts.metrics("evaluation"), {"candidate.loss": 0.4, "base.loss": 2.0, "candidate_vs_base.loss": 1})
    write_json(artifacts.EVALUATION_VERDICT, {"verdict": "keep", "reasons": ["no gain", "loss is up"]})
    assert read_headline("fine_tuning").figures == {"train_loss": 6.36, "validation_loss": 6.3527}
    whole = read_headline("evaluation")
    assert whole.figures == {"train_loss": 6.36, "validation_loss": 6.3527, "candidate.loss": 0.4}
    assert whole.tags == {"heptune.verdict": "keep", "heptune.verdict_reasons": "no gain; loss is up"}
    write_json(artifacts.DRIFT_VERDICT, {"verdict": "no_drift"})
    assert read_headline("monitoring") == ({}, {}, {"heptune.drift": "no_drift"})


def test_the_report_is_kept_with_the_run(shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    entries = observe(monkeypatch)
    kept = {f"{e['folder']}/{Path(e['path']).name}": Path(e["path"]) for e in entries if e["kind"] == "artifact"}
    assert sorted(kept) == ["report/curve.json", "report/index.html", "report/metrics.json"]
    artifacts.report("fine_tuning").write_text("of a later run")
    page = kept["report/index.html"].read_text()
    assert page.startswith("<h1>Fine-tuning</h1>")
    assert "<b>more rows (0f-1)</b>" in page
    assert "who?" not in page


def test_every_link_is_http(shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    observe(monkeypatch)
    assert [item["link"] for item in shown if "link" in item] == [
        "http://127.0.0.1:4201/runs/0f-1/fine_tuning/index.html",
    ]
    (links,) = [item["markdown"] for item in shown if "markdown" in item]
    run = "http://127.0.0.1:4201/runs/0f-1/"
    assert re.findall(r"\((.*?)\)", links) == [
        f"{run}mlflow", f"{run}fine_tuning/index.html", f"{run}version", f"{run}request", run,
    ]  # fmt: skip
    of_pipeline = addresses.list_pipeline_links("p-1", "ab+changes")
    assert re.findall(r"\((.*?)\)", of_pipeline) == [
        *[f"http://127.0.0.1:4201/pipelines/p-1{door}" for door in ("", "/mlflow", "/report", "/version", "/request")],
        "http://127.0.0.1:4201/revisions/ab",
    ]
    tags = stage.first_tags(Params(), RunRecord("fine_tuning", "0f-1", "p-1", "", 1.0, "ab+changes"))
    assert tags["mlflow.note.content"] == (
        "[Prefect run](http://127.0.0.1:4200/runs/flow-run/0f-1)"
        " · [Report](http://127.0.0.1:4201/runs/0f-1/fine_tuning/index.html)"
        " · [Data, release, requests](http://127.0.0.1:4201/runs/0f-1/)"
    )
    assert (tags["heptune.git_commit"], tags["mlflow.source.git.commit"]) == ("ab+changes", "ab")


def test_a_failure_is_on_the_run_and_on_the_pipeline(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = observe(monkeypatch, "FAILED", "no memory; lower the batch")
    assert of_pipeline(entries, "tags") == {
        "heptune.failed": "fine_tuning",
        "heptune.failure": "no memory; lower the batch",
    }
    assert ("fine_tune.bytes", 74287.0) in {(key, value) for _, key, value in own(entries)}
    (record,) = read_records("fine_tuning")
    assert (record.status, record.message, record.page) == ("FAILED", "no memory; lower the batch", "")


def test_a_page_is_known_by_the_run_that_wrote_it(checkout: Path) -> None:
    page = artifacts.report("fine_tuning")
    before = page.read_text()
    first = end_record(begin_record("fine_tuning", "aa", "p-1"), "FINISHED")
    page.write_text("another page")
    second = end_record(begin_record("fine_tuning", "bb", "p-2"), "FINISHED")
    end_record(begin_record("fine_tuning", "cc", "p-3"), "FAILED", "no memory")
    assert record_of_page("fine_tuning") == second
    page.write_text(before)  # as DVC restores it
    assert record_of_page("fine_tuning") == first
    assert find_record("bb") == second
    assert find_record("../bb") is None
    assert record_of_page("evaluation") is None
    assert [record.reason for record in read_records()] == ["more rows"] * 3


def test_a_running_record_whose_process_is_gone_was_killed(checkout: Path) -> None:
    record = begin_record("fine_tuning", "aa", "p-1")
    assert record.state == "RUNNING"
    assert replace(record, process=show_mark((1, 0.0, socket.gethostname()))).state == "KILLED"
    assert replace(record, process=show_mark((1, 0.0, "another.machine"))).state == "RUNNING"


def test_links_follow_the_servers(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses.flow_run_page("f") == "http://127.0.0.1:4200/runs/flow-run/f"
    assert addresses.mlflow_page("m") == "http://127.0.0.1:5000/#/runs/m"
    artifacts.STATE.mkdir(exist_ok=True)
    addresses.note_addresses({"prefect": "http://127.0.0.1:41", "mlflow": "http://127.0.0.1:42"})
    assert addresses.flow_run_page("f") == "http://127.0.0.1:41/runs/flow-run/f"
    assert addresses.mlflow_page("m") == "http://127.0.0.1:42/#/runs/m"
    assert addresses.has_reports()
    addresses.ADDRESSES.unlink()
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert addresses.flow_run_page("f") == "https://prefect.example.org/runs/flow-run/f"
    assert addresses.mlflow_page("m") == "https://mlflow.example.org/#/runs/m"
    assert not addresses.has_reports()


def test_prefect_shows_progress_and_may_go_away(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[Any, ...]] = []
    clock = iter([0.0, 1.0, 6.0, 6.5, 12.0])
    monkeypatch.setattr("flows.wiring.runs.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "create_progress_artifact", lambda percent, **values: told.append((percent, values)))
    recorded: list[int] = []
    listen = progress.record_training(20, lambda step, _: recorded.append(step))
    listen(1, {"train_loss": 2.0, "tokens_per_second": 1000.0})
    listen(2, {"train_loss": 1.9})
    listen(3, {"validation_loss": 1.8, "learning_rate": 0.0002})
    text = "step 3 of 20 · training loss 1.9000 · validation loss 1.8000 · tokens/s 1,000 · learning rate 2.00e-04"
    assert [percent for percent, _ in told] == [5.0, 15.0]
    assert told[-1][1] == {"key": "fine-tuning-progress", "description": text}

    def refuse(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("gone")

    monkeypatch.setattr(progress, "create_progress_artifact", refuse)
    listen(20, {"train_loss": 1.0})
    listen(20, {"train_loss": 1.0})
    assert recorded == [1, 2, 3, 20, 20]
    assert caplog.text.count("progress is no longer shown in Prefect (ConnectError)") == 1


def test_curves_are_read_while_the_run_is_at_work(checkout: Path) -> None:
    recorder = Recorder("fine_tuning", "p-1", {}, flow_run="0f-1")
    recorder.metrics(0, {"validation_loss": 2.0})
    for step in (1, 5, 10):
        recorder.metrics(step, {"train_loss": 3.0 - step / 10, "validation_loss": 1.0})
    recorder.headline({}, {"train_loss": 9.0}, {})
    with recorder.path.open("a") as stream:
        stream.write('{"kind": "metrics", "st')
    curves = {curve.name: curve for curve in read_curves("0f-1")}
    assert curves["train_loss"].points == [(1, 2.9), (5, 2.5), (10, 2.0)]
    assert curves["train_loss"].line == "0.0,0.0 284.4,71.1 640.0,160.0"
    assert curves["validation_loss"].points[0] == (0, 2.0)
    assert (curves["validation_loss"].low, curves["validation_loss"].high, curves["validation_loss"].last) == (1, 2, 1)
    assert read_curves("another") == []
