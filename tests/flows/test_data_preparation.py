"""Stage 1 as DVC starts it: every out written and sealed, and a failed gate stops with one line and no split."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.wiring import artifacts
from flows.wiring.people.screening import screen_rows
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest
from tasks.data_preparation.params import DataPreparation
from tasks.monitoring.feedback import collect_corrections, write_version
from tests.checkout import ROOT
from tests.flows.small import SYLLABLES, child_environment, make_project
from tests.tasks.monitoring.requests import make_request, make_table


def run_stage(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.data_preparation"],
        cwd=project,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    folder = make_project(tmp_path_factory.mktemp("stage") / "project", empty_database)
    (folder / artifacts.RAW).mkdir(parents=True)
    rows = [
        {
            "question": " ".join(SYLLABLES[(place * i + i // 25) % 25] for place in range(1, 7)),
            "answer": f"{SYLLABLES[i % 25]} it is.",
        }
        for i in range(200)
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / artifacts.RAW / "faq.jsonl").write_text("\n".join([*lines, "{torn"]))
    write_params(folder, min_rows=50)
    return folder


def write_params(project: Path, min_rows: int) -> None:
    path = project / artifacts.PARAMS
    values = yaml.safe_load(path.read_text())
    values["data_preparation"]["sources"] = [{"name": "jsonl", "path": "data/raw/faq.jsonl", "title": "faq"}]
    values["data_preparation"]["gate"]["min_rows"] = min_rows
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def test_the_stage_writes_what_dvc_expects_then_fails_closed(project: Path) -> None:
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(project / artifacts.PREPARED, verify=True)
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["data_preparation"]
    for out in declared["outs"]:
        assert (project / out).exists(), out
    figures = json.loads((project / artifacts.metrics("data_preparation")).read_text())
    assert figures["rows_read"] == 201
    assert figures["dropped_read"] == 1
    assert sum(manifest["counts"].values()) == 201

    write_params(project, min_rows=100_000)
    failed = run_stage(project)
    assert failed.returncode == 1
    reason = [line for line in failed.stderr.splitlines() if line.startswith("quality gate: enough_rows failed")]
    assert len(reason) >= 1
    assert "Traceback" not in failed.stderr
    with pytest.raises(PipelineError, match="not complete"):
        read_manifest(project / artifacts.PREPARED)
    assert "gate failed" in (project / artifacts.report("data_preparation")).read_text()


def test_no_label_or_correction_of_a_client_stops_the_stage(project: Path) -> None:
    """What a gateway takes, as feedback: formulas, markup, control characters, other scripts, one long word."""
    labels = [
        "$\\frac{x$", "$$", "<script>alert(1)</script>", "%s {x}", "\U0001f600", "مرحبا", "\u202eabc", "a|b", "-1",
        "x" * 256, "label?", "a/b", "# title", "_hidden", "nan", "null",
    ]  # fmt: skip
    corrections = [
        "$\\frac{x$", "<script>alert(1)</script>", "a\u2028b", "\x1b[31mred", "y" * 100_000, "\u202eabc", "=1+1",
        "| a | b |\n|---|---|", "---\ntitle: x\n---", "\U0001f600" * 50, "�", "null",
    ]  # fmt: skip
    rows: list[dict[str, Any]] = [
        {
            "messages": [
                {"role": "user", "content": " ".join(SYLLABLES[(p * i * 7 + p + i // 25) % 25] for p in range(1, 9))},
                {"role": "assistant", "content": f"{SYLLABLES[(3 * i) % 25]}: {corrections[i % len(corrections)]}"},
            ],
            "label": labels[i % len(labels)],
        }
        for i in range(96)
    ]
    path = project / artifacts.PARAMS
    values = yaml.safe_load(path.read_text())
    log = [
        make_request(
            row["messages"][0]["content"],
            number=number,
            correction=row["messages"][1]["content"],
            label=row["label"],
        )
        for number, row in enumerate(rows)
    ]
    settings = DataPreparation.model_validate(values["data_preparation"])
    found = screen_rows(collect_corrections(make_table(log), str), settings)
    # Too long, and without anything that can be read: both would fail the gate, which counts a source's bad rows.
    assert found.set_aside
    assert {item.reason.partition(":")[0] for item in found.set_aside} == {"length", "unicode"}
    assert len(found.rows) >= 72
    assert write_version(found.rows, project / artifacts.FEEDBACK)
    values["data_preparation"]["sources"] = [
        {"name": "jsonl", "path": "data/raw/faq.jsonl", "title": "faq"},
        {"name": "jsonl", "path": "data/raw/feedback/*.jsonl", "title": "feedback", "optional": True},
    ]
    values["data_preparation"]["gate"] = {"min_rows": 50}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    done = run_stage(project)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    page = (project / artifacts.report("data_preparation")).read_text()
    for mark in ("<script>alert", "\x1b", "\u202e"):
        assert mark not in page


# As Gemma's: no system turn, and user and assistant alternate.
STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ message['content'] }}{% endfor %}"
)
SYSTEM, ASKED, AGAIN, SAID = (
    {"role": "system", "content": "You are the help desk of a shop."},
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "user", "content": "Is anyone there?"},
    {"role": "assistant", "content": "I do not know."},
)


@pytest.mark.parametrize(
    ("repair", "prompts", "reasons"),
    [
        ([], [[ASKED], [SYSTEM, ASKED], [AGAIN]], {"r1": "turn 1 (system): roles must alternate"}),
        ([], [[ASKED], [ASKED, AGAIN]], {"r1": "turn 2 (user): roles must alternate"}),
        # A client that sends the bad answer with its prompt, and corrects it.
        (["merge", "fold"], [[ASKED], [ASKED, SAID]], {"r1": "turn 3 (assistant): roles must alternate"}),
        (["merge", "fold"], [[ASKED], [SYSTEM, ASKED], [ASKED, AGAIN]], {}),
        # All that is new is refused.
        ([], [[SYSTEM, ASKED]], {"r0": "turn 1 (system): roles must alternate"}),
        ([], [[SYSTEM, ASKED], [SYSTEM, AGAIN]], dict.fromkeys(["r0", "r1"], "turn 1 (system): roles must alternate")),
    ],
)
def test_a_correction_that_the_chat_template_refuses_is_set_aside_before_a_retrain(
    tmp_path: Path, repair: list[str], prompts: list[list[dict[str, str]]], reasons: dict[str, str]
) -> None:
    template = tmp_path / "strict.jinja"
    template.write_text(STRICT)
    steps = [{"name": "missing"}, {"name": "template", "model": str(template), "repair": repair}]
    settings = DataPreparation.model_validate({"cleaning": steps})
    log = [
        make_request("", number=number, messages=prompt, correction=f"It comes on day {number}.")
        for number, prompt in enumerate(prompts)
    ]
    found = screen_rows(collect_corrections(make_table(log), str), settings)
    assert {item.request: item.reason for item in found.set_aside} == {
        request: f"template: {reason}" for request, reason in reasons.items()
    }
    assert {row.request for row in found.rows} == {f"r{number}" for number in range(len(prompts))} - set(reasons)


def test_a_missing_template_stops_the_stage_before_a_source_is_read(
    project: Path,
) -> None:
    path = project / artifacts.PARAMS
    before = path.read_text()
    values = yaml.safe_load(before)
    values["data_preparation"]["cleaning"] = [{"name": "missing"}, {"name": "template", "model": "models/none"}]
    values["data_preparation"]["sources"] = [{"name": "jsonl", "path": "data/raw/gone.jsonl"}]
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    try:
        done = run_stage(project)
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert "models/none: nothing there, so no chat template" in done.stdout + done.stderr
    assert "gone.jsonl" not in done.stdout + done.stderr
