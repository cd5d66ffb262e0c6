"""The stage's files: every verdict, plain reasons, the same bytes for the same traffic, bad input in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evidently.legacy.core import ColumnType

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json
from tasks.contracts.records import REQUESTS
from tasks.contracts.tables import write_table
from tasks.monitoring.calibration import ProbeFinding
from tasks.monitoring.drift import detect_drift
from tasks.monitoring.evidently_report import name_ids, repeat_finding, write_evidently
from tasks.monitoring.explanation import describe_move
from tasks.monitoring.features import UNKNOWN_WORDS, describe_rows
from tasks.monitoring.health import measure_health
from tasks.monitoring.pages import write_findings, write_page, write_results
from tasks.monitoring.params import Drift
from tasks.monitoring.traffic import UNFINISHED, freeze_pair, read_traffic, take_sample
from tests.checkout import ROOT
from tests.tasks.monitoring.requests import make_request, make_table, make_traffic

SETTINGS = Drift(splits=500, examples=3)
NAMES = ("verdict.json", "metrics.json", "index.html", "evidently.html")


def monitor(production: Path, out: Path, settings: Drift = SETTINGS) -> dict[str, object]:
    """The stage's tasks, as its flow calls them."""
    traffic = read_traffic(production)
    found = detect_drift(traffic, settings, lambda text: text.replace("ann@example.org", "<email>"))
    health = measure_health(traffic.window)
    write_evidently(found, settings.false_alarms, out / "evidently.html")
    write_page(found, health, settings, "evidently.html", out / "index.html")
    write_findings(found, out / "findings.json", out / "headline.json")
    write_results(found, health, out / "verdict.json", out / "metrics.json")
    verdict: dict[str, object] = read_json(out / "verdict.json")
    return verdict


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen pair in which a quarter of the window is new."""
    folder = tmp_path_factory.mktemp("production")
    window = make_traffic(160, 7, new=40).to_pylist()
    window[0]["messages"][0]["content"] += " Write to ann@example.org."
    window += [make_request("down", "", 900 + k, status=503, latency_ms=9000.0) for k in range(40)]
    freeze_pair(make_table(window), make_traffic(300, 8), folder)
    return folder


@pytest.fixture(scope="module")
def reported(drifted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    monitor(drifted, out)
    return out


def test_drift_is_explained(reported: Path) -> None:
    verdict = read_json(reported / "verdict.json")
    assert verdict["verdict"] == "drift"
    assert (verdict["rows"], verdict["baseline_rows"]) == (160, 300)
    assert any("battery" in reason for reason in verdict["reasons"])
    assert verdict["words"][0]["baseline"] == 0
    assert any("drone" in prompt or "quadcopter" in prompt for prompt in verdict["examples"])
    page = (reported / "index.html").read_text()
    assert "ann@example.org" not in page + json.dumps(verdict)
    assert verdict["reasons"][0][1:] in page.replace("&#34;", '"')
    assert page.count("<svg") == 3
    assert read_json(reported / "headline.json") == {"drift": 1.0}
    effects = read_json(reported / "findings.json")
    assert [row["alert"] for row in effects] == sorted((row["alert"] for row in effects), reverse=True)
    assert all(row["relative_effect"] >= 1 for row in effects if row["alert"])
    assert not [line for line in page.splitlines() if 'src="http' in line or 'href="http' in line]


def test_health_comes_from_the_log(reported: Path) -> None:
    figures = read_json(reported / "metrics.json")
    assert figures["requests"] == 200
    assert figures["error_share"] == pytest.approx(0.2)
    # Latencies of the answered are 10..109, then 10..69: the 152nd of 160 is 104.
    assert figures["latency_p95_ms"] == pytest.approx(sorted([*range(10, 110), *range(10, 70)])[151])
    assert figures["completion_tokens_mean"] == pytest.approx(5)


def test_the_same_traffic_gives_the_same_bytes(drifted: Path, reported: Path, tmp_path: Path) -> None:
    """In another process with another hash seed: Evidently's random ids are gone too."""
    code = (
        "import sys; from pathlib import Path; from tests.tasks.monitoring.test_stage import monitor; "
        "monitor(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    root = ROOT
    subprocess.run([sys.executable, "-c", code, str(drifted), str(tmp_path)], check=True, cwd=root, env=environment)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (reported / name).read_bytes(), name
    assert "Drift" in (tmp_path / "evidently.html").read_text()


def test_evidently_repeats_the_alerts_of_monitoring_and_leads_back(reported: Path) -> None:
    page = (reported / "evidently.html").read_text()
    assert "<title>Evidently report · Heptune</title>" in page
    assert 'href="../monitoring/index.html"' in page
    assert "monitoring: drift" in page
    header = page[: page.index("</header>")]
    assert "Monitoring also found drift that is no column here: meaning of the prompts, words of the prompts" in header


@pytest.mark.parametrize(
    ("findings", "decision"),
    [([(0.5, False)], (0.5, False)), ([(0.5, False), (0.001, True)], (0.001, True)), ([(0.001, False)], (0.001, False)),
     ([], (1.0, False))],
)  # fmt: skip
def test_a_feature_drifts_for_evidently_where_monitoring_alerts(
    findings: list[tuple[float, bool]], decision: tuple[float, bool]
) -> None:
    """Significant, but too small an effect, is no alert."""
    made = [ProbeFinding("p", "distance", "words", "KS distance", 0.1, 0.1, p, p, alert, 0.2) for p, alert in findings]
    result = repeat_finding("words", [*made, ProbeFinding("p", "level", "other", "", 1, 0, 0, 0, True, 0)])(
        pd.Series([1.0]), pd.Series([2.0]), ColumnType.Numerical, 0.02
    )
    assert (result.drift_score, result.drifted) == decision


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        (12.0, 14.0, "rose from 12 to 14"),
        (14.0, 12.0, "fell from 14 to 12"),
        (12.0, 12.0, "stayed at 12, its distribution changed"),
        (12.001, 12.002, "stayed at 12, its distribution changed"),
    ],
)
def test_sentences_say_which_way_a_feature_went(before: float, now: float, sentence: str) -> None:
    assert describe_move(before, now, "{:.3g}".format) == sentence


def test_the_verdict_names_the_traffic_it_is_about(reported: Path) -> None:
    verdict = read_json(reported / "verdict.json")
    assert verdict["releases"] == ["ab" * 32]
    assert verdict["period"] == [1000.0, 1939.0]
    page = (reported / "index.html").read_text()
    assert "received 1970-01-01 00:16 to 1970-01-01 00:32 UTC, answered by release abababababab" in page


def test_ids_are_numbered_by_appearance() -> None:
    first, second = "0f" * 16, "12345678-1234-1234-1234-123456789abc"
    named = name_ids(f"metric_{first} {second} metric_{first} {'ab' * 32}")
    assert named == f"metric_{0:032x} 00000000-0000-0000-0000-000000000001 metric_{0:032x} {'ab' * 32}"


def test_no_traffic_is_no_failure(tmp_path: Path) -> None:
    production = tmp_path / "production"
    production.mkdir()
    (production / "README.md").write_text("nothing yet")
    verdict = monitor(production, tmp_path / "out")
    assert verdict["verdict"] == "no_data"
    for name in ("index.html", "evidently.html"):
        assert "traffic has been frozen yet" in (tmp_path / "out" / name).read_text()
    assert read_json(tmp_path / "out/metrics.json") == {
        "baseline_rows": 0, "compared": 0, "drift": 0, "requests": 0, "window_rows": 0
    }  # fmt: skip


def test_too_few_rows_name_the_number(tmp_path: Path) -> None:
    freeze_pair(make_traffic(30, 1), make_traffic(300, 2), tmp_path)
    verdict = monitor(tmp_path, tmp_path / "out")
    assert verdict["verdict"] == "too_few"
    assert verdict["reasons"] == ["the window has 30 answered requests; 100 are needed, 70 more"]


def test_only_failures_are_too_few(tmp_path: Path) -> None:
    rows = [make_request("down", "", number, status=500) for number in range(150)]
    freeze_pair(make_table(rows), make_traffic(300, 2), tmp_path)
    assert monitor(tmp_path, tmp_path / "out")["verdict"] == "too_few"
    assert read_json(tmp_path / "out/metrics.json")["error_share"] == 1


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    write_table(make_traffic(30, 1), tmp_path / "window.parquet", REQUESTS)
    with pytest.raises(PipelineError, match=r"only window\.parquet is there.*heptune snapshot"):
        read_traffic(tmp_path)


def test_an_interrupted_snapshot_is_refused_until_the_next(tmp_path: Path) -> None:
    (tmp_path / UNFINISHED).touch()
    with pytest.raises(PipelineError, match="a snapshot was interrupted"):
        read_traffic(tmp_path)
    freeze_pair(make_traffic(30, 1), make_traffic(40, 2), tmp_path)
    assert read_traffic(tmp_path).window.num_rows == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baseline.parquet", "window.parquet"]


def test_unknown_words_are_judged_without_the_row_itself() -> None:
    baseline = make_table([make_request("red apple"), make_request("red pear")])
    window = make_table([make_request("red apple"), make_request("blue kiwi")])
    sample = describe_rows(baseline, window, SETTINGS.embedder, SETTINGS.refusals, 0)
    # Each baseline row's own second word is unknown to the other one.
    assert sample.numbers[UNKNOWN_WORDS].tolist() == [0.5, 0.5, 0.0, 1.0]
    # With the first and the last row as the baseline.
    assert sample.recounted[UNKNOWN_WORDS](np.array([[1.0, 0, 0, 1]])).tolist() == [[1.0, 0.5, 0.0, 1.0]]


def test_features_by_hand() -> None:
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "AB 12!? ab"},
    ]
    table = make_table([make_request("", "two words", messages=turns)])
    sample = describe_rows(table, table, SETTINGS.embedder, SETTINGS.refusals, 0)
    assert {name: values[0] for name, values in sample.numbers.items()} == {
        "prompt length in characters": 10,
        "prompt length in words": 3,
        "punctuation in the prompt": 0.2,
        "capitals in the prompt": 0.2,
        "digits in the prompt": 0.2,
        "different words in the prompt": pytest.approx(2 / 3),
        UNKNOWN_WORDS: 1.0,
        "turns of the conversation": 4,
        "answer length in characters": 9,
        "answer length in words": 2,
    }


def test_large_windows_are_sampled_in_order() -> None:
    table = make_traffic(50, 1)
    taken = take_sample(table, 20, seed=3)
    ids = [int(name[1:]) for name in taken["id"].to_pylist()]
    assert (len(ids), ids) == (20, sorted(set(ids)))
    assert take_sample(table, 20, seed=3) == taken
    assert take_sample(table, 50, seed=3) is table
