"""The server of reports, without the servers that it links to: each run's own report, and nothing else of the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.wiring import artifacts
from flows.wiring.browsing.site import make_site
from flows.wiring.runs.records import MlflowRun, RunRecord, begin_record, end_record, note_mlflow
from flows.wiring.runs.releases import note_version
from tasks.contracts.manifest import write_bytes, write_json

OLD, NEW, TUNED = "0a", "0b", "0c"


def write_stage(stage: str, flow_run: str, pipeline: str, text: str, kept: Path | None) -> RunRecord:
    """A stage that ran, and its report as MLflow keeps it."""
    record = begin_record(stage, flow_run, pipeline)
    write_bytes(artifacts.report(stage), f"<html><body><h1>{text}</h1></body></html>".encode())
    ended = end_record(record, "FINISHED")
    if kept is not None:
        place = kept / flow_run / "report/index.html"
        write_bytes(place, artifacts.report(stage).read_bytes())
        uri = (kept / flow_run).as_uri()
        outs = {"models/tuned": f"{flow_run}ff"}
        note_mlflow(stage, flow_run, MlflowRun("sqlite:///m", f"m{flow_run}", "parent", "1", uri, {}, outs))
    return ended


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A checkout with two pipelines, the second without an evaluation of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("HEPTUNE_REPORTS_URL", "HEPTUNE_STORE_URL", "PREFECT_API_URL", "PREFECT_UI_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "params.yaml").write_text("a secret")
    kept = tmp_path / "kept artifacts"
    write_json(artifacts.RELEASE / "manifest.json", {"release": "ab" * 32})
    write_stage("deployment", "0d", "p1", "release", kept)
    write_stage("evaluation", OLD, "p1", "first verdict", kept)
    write_stage("evaluation", NEW, "p2", "second verdict", None)
    write_stage("fine_tuning", TUNED, "p1", "tuned", kept)
    note_version(artifacts.RELEASES, "ab" * 32, "shop", 3)
    return TestClient(make_site(), base_url="http://127.0.0.1")


def test_each_run_shows_its_own_report_and_that_of_its_pipeline(site: TestClient) -> None:
    assert "first verdict" in site.get(f"/runs/{OLD}/evaluation/index.html").text
    assert "second verdict" in site.get(f"/runs/{NEW}/evaluation/index.html").text, "not sent yet, still in reports/"
    assert "first verdict" in site.get(f"/runs/{TUNED}/evaluation/index.html").text
    assert f'href="/runs/{OLD}/"' in site.get(f"/runs/{TUNED}/evaluation/index.html").text, "the bar names its run"
    assert "second verdict" in site.get("/reports/evaluation/index.html").text
    assert f'href="/runs/{NEW}/"' in site.get("/reports/evaluation/index.html").text


def test_a_report_that_only_mlflows_server_has_is_shown_there(site: TestClient) -> None:
    note_mlflow("evaluation", OLD, MlflowRun("http://m", "m1", "", "1", "mlflow-artifacts:/1/m1/artifacts"))
    answer = site.get(f"/runs/{OLD}/evaluation/index.html", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (
        307,
        "http://127.0.0.1:5000/#/experiments/1/runs/m1/artifacts/report/index.html",
    )
    (artifacts.STATE / "runs/evaluation").joinpath("torn.json").write_text("{")
    assert site.get("/").status_code == 200


def test_a_run_leads_to_everything_that_belongs_to_it(site: TestClient) -> None:
    page = site.get(f"/runs/{TUNED}/").text
    for link in (
        f"http://127.0.0.1:4200/runs/flow-run/{TUNED}",
        f"http://127.0.0.1:5000/#/runs/m{TUNED}",
        "http://127.0.0.1:5000/#/models/shop/versions/3",
        f"/runs/{TUNED}/fine_tuning/index.html",
        "/pipelines/p1",
        f"/releases/{'ab' * 32}",
        f"/hashes/{TUNED}ff",
    ):
        assert f'href="{link}"' in page, link
    goes_on = {"mlflow": f"http://127.0.0.1:5000/#/runs/m{TUNED}", "request": f"/runs/{TUNED}/"}
    goes_on["version"] = "http://127.0.0.1:5000/#/models/shop/versions/3"
    for door, address in goes_on.items():
        assert site.get(f"/runs/{TUNED}/{door}", follow_redirects=False).headers["location"] == address
    goes_on |= {"mlflow": "http://127.0.0.1:5000/#/runs/parent", "request": "/pipelines/p1"}
    goes_on["report"] = f"/runs/{OLD}/evaluation/index.html"
    for door, address in goes_on.items():
        assert site.get(f"/pipelines/p1/{door}", follow_redirects=False).headers["location"] == address
    assert f"/runs/{TUNED}/" in site.get(f"/hashes/{TUNED}ff").text
    assert "shop 3" in site.get("/releases/abab").text


@pytest.mark.parametrize(
    "path",
    [
        f"/runs/{OLD}/evaluation/%2e%2e/%2e%2e/%2e%2e/params.yaml", "/reports/%2e%2e/params.yaml",
        "/reports/evaluation/%2e%2e/%2e%2e/params.yaml", "/runs/%2e%2e/", "/runs/*/", "/hashes/none", "/requests/none",
        "/releases/cd", "/revisions/00", "/pipelines/none",
    ],
)  # fmt: skip
def test_nothing_else_is_served(site: TestClient, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 404
    assert "a secret" not in answer.text


def test_another_sites_name_is_refused(site: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.get("/", headers={"host": "evil.example"}).status_code == 400
    monkeypatch.setenv("HEPTUNE_REPORTS_URL", "https://reports.example.org/")
    published = TestClient(make_site(), base_url="https://reports.example.org")
    assert published.get("/").status_code == 200
