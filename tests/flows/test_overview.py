"""The overview says what was decided about which release, what failed last, and which run wrote each page."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from flows.wiring import artifacts
from flows.wiring.overview import is_current, write_overview
from flows.wiring.runs.records import RunRecord, hash_page, show_duration
from flows.wiring.runs.releases import note_champion, note_version, read_champion
from tasks.contracts.manifest import write_json
from tasks.pages.page import Page

OLD, NEW, WINDOW = "a" * 64, "b" * 64, "c" * 64
TEN = 1_795_946_400.0  # 2026-11-29 10:00 UTC
MINUTE = 60.0


def write_stage(root: Path, stage: str, minutes: float, **fields: Any) -> RunRecord:
    """A page of a stage and the record of the run that wrote it, so many minutes after ten."""
    Page(stage, "", stage=stage).write(root / artifacts.report(stage))
    write_json(root / artifacts.metrics(stage), {"rows": 3})
    return note_run(root, stage, minutes, page=hash_page(stage, root), **fields)


def note_run(root: Path, stage: str, minutes: float, **fields: Any) -> RunRecord:
    began = TEN + minutes * MINUTE
    values = {"reason": "retrain on drift", "commit": "0123456789abcdef", "ended": began + MINUTE, "status": "FINISHED"}
    record = RunRecord(stage, f"run-{minutes:g}", "key", began=began, **(values | fields))
    record.write(root)
    return record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout after a retrain on drift: version 2 is champion, the window is about version 1."""
    data = {"about": {"data": "d" * 64}}
    write_stage(tmp_path, "data_preparation", 0, **data)
    write_stage(tmp_path, "evaluation", 5, about={"data": "d" * 64, "champion": OLD})
    write_stage(tmp_path, "deployment", 10, about={"data": "d" * 64, "release": NEW})
    write_stage(tmp_path, "monitoring", -20, about={"window": WINDOW, "answered_by": OLD})
    verdict = {"verdict": "promote", "reasons": ["better than the champion"], "champion": OLD}
    write_json(tmp_path / artifacts.EVALUATION_VERDICT, verdict)
    write_json(tmp_path / artifacts.RELEASE / "verdict.json", verdict)
    write_json(tmp_path / artifacts.RELEASE / "manifest.json", {"release": NEW})
    write_json(
        tmp_path / artifacts.DRIFT_VERDICT,
        {"verdict": "drift", "reasons": ["<b>drone</b> is new"], "rows": 1500, "releases": [OLD],
         "period": [TEN - 60 * MINUTE, TEN - 30 * MINUTE]},
    )  # fmt: skip
    releases = tmp_path / artifacts.RELEASES
    for version, release in enumerate((OLD, NEW), start=1):
        note_version(releases, release, "heptune", version)
        note_champion(releases, release, version)
    write_json(releases / NEW / "manifest.json", {"metrics": {"intent_accuracy": 0.9333}})
    return tmp_path


def read(root: Path) -> str:
    return re.sub(r"\s+", " ", write_overview(root).read_text())


def facts(root: Path) -> dict[str, dict[str, str]]:
    first = (root / artifacts.RUN_FACTS).read_text().splitlines()[0]
    return {stage: dict(pairs) for stage, pairs in json.loads(first.removeprefix("const RUNS = ")[:-1]).items()}


def test_each_sentence_names_what_it_is_about(root: Path) -> None:
    page = read(root)
    assert "Champion: version 2</b><p>intent accuracy 0.933</p>" in page
    assert f"release {NEW[:12]}, since 20" in page
    assert (
        f"candidate (version 2, release {NEW[:12]}) against the champion of that time, version 1, release {OLD[:12]}"
        in page
    )
    assert (
        "1,500 requests received 2026-11-29 09:00 UTC to 2026-11-29 09:30 UTC, "
        f"answered by version 1, release {OLD[:12]}" in page
    )
    assert "&lt;b&gt;drone" in page
    assert "failed" not in page.split("</style>")[1]


def test_a_failed_gate_leaves_a_trace_until_it_is_mended(root: Path) -> None:
    reason = "quality gate: enough_rows failed, found 171"
    note_run(root, "data_preparation", 30, status="FAILED", message=reason)
    kept = (root / artifacts.report("data_preparation")).read_bytes()
    (root / artifacts.report("data_preparation")).write_text("the page of a gate that failed")
    page = read(root)
    assert f"Data preparation failed</b><p>{reason}</p>" in page
    assert "2026-11-29 10:31 UTC, run “retrain on drift”" in page
    assert f"Last attempt failed 2026-11-29 10:31 UTC: {reason}" in page
    # Put back by DVC, or made anew.
    (root / artifacts.report("data_preparation")).write_bytes(kept)
    assert reason not in read(root)
    (root / artifacts.metrics("data_preparation")).unlink()
    assert reason in read(root)
    write_stage(root, "data_preparation", 40)
    assert reason not in read(root)
    note_run(root, "fine_tuning", 50, status="KILLED", message="stopped")
    assert "Fine-tuning was stopped" in read(root)


def test_the_pages_say_which_run_wrote_them(root: Path) -> None:
    write_overview(root)
    known = facts(root)
    assert known["data_preparation"] == {
        "made": "2026-11-29 10:01 UTC", "run": "retrain on drift (run-0)", "commit": "0123456789ab", "data": "d" * 12,
        "release": f"version 2, release {NEW[:12]}", "took": "1 min 0 s",
    }  # fmt: skip
    assert known["evaluation"]["compared with champion"] == f"version 1, release {OLD[:12]}"
    assert known["monitoring"]["answered by"] == f"version 1, release {OLD[:12]}"
    assert known["monitoring"]["window"] == WINDOW[:12]
    assert "release" not in known["monitoring"]
    # What was made after the release is not of it.
    write_stage(root, "data_preparation", 60, commit="0123456789abcdef+changes", reason="", about={"data": "e" * 64})
    write_overview(root)
    assert facts(root)["data_preparation"] | {"made": ""} == {
        "made": "", "run": "dvc repro (run-60)", "commit": "0123456789ab with changes", "data": "e" * 12,
        "took": "1 min 0 s",
    }  # fmt: skip
    # The bytes decide: a page that DVC restored is of the run that wrote it, and one from elsewhere of none.
    (root / artifacts.report("data_preparation")).write_text("another page")
    write_overview(root)
    assert "data_preparation" not in facts(root)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7.6, "8 s"), (59.6, "1 min 0 s"), (252, "4 min 12 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


def test_the_pages_of_commands_are_found_and_say_when_they_were_made(root: Path) -> None:
    page = root / artifacts.report("synthesis")
    Page("Synthesis: sums", "", stage="synthesis").write(page)
    os.utime(page, (TEN, TEN))
    assert 'Pages of commands: <a href="synthesis/index.html">Synthesis</a></p>' in read(root)
    assert facts(root)["synthesis"] == {"made": "2026-11-29 10:00 UTC"}


def test_it_is_written_anew_when_anything_that_it_shows_has_changed(root: Path) -> None:
    assert not is_current(root)
    page = write_overview(root)
    later = page.stat().st_mtime_ns + 10**9
    os.utime(page, ns=(later, later))
    assert is_current(root)
    for path in (artifacts.RELEASES / "champion.json", artifacts.RUN_FACTS.parent.parent / ".heptune/runs/monitoring"):
        os.utime(root / path, ns=(later + 1, later + 1))
        assert not is_current(root)
        os.utime(root / path, ns=(later - 1, later - 1))
    (root / artifacts.RUN_FACTS).unlink()
    assert not is_current(root)


def test_a_checkout_without_any_run_has_an_overview(tmp_path: Path) -> None:
    page = read(tmp_path)
    assert "Monitoring" in page
    assert "Champion" not in page
    assert facts(tmp_path) == {}


def test_who_is_champion_is_noted_once(tmp_path: Path) -> None:
    assert note_champion(tmp_path, OLD, 1)
    since = read_champion(tmp_path)
    assert not note_champion(tmp_path, OLD, 1)
    assert read_champion(tmp_path) == since
    assert note_champion(tmp_path, NEW, 2)
