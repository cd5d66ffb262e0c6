"""Where the pages of a run are found: in Prefect's UI, in MLflow's, and on the checkout's own server of reports.

``heptune up`` notes the addresses of what it starts; before it first ran, its usual ports count. Servers of a team are
named in the environment: ``PREFECT_UI_URL`` and ``HEPTUNE_MLFLOW_URL`` where browsers reach them under another address
than the stages, ``HEPTUNE_REPORTS_URL`` where the server of reports is published.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from flows.wiring import artifacts
from flows.wiring.servers.server import read_record

ADDRESSES = artifacts.STATE / "addresses.json"
HOST = "http://127.0.0.1"
PREFECT_PORT, MLFLOW_PORT, REPORTS_PORT = 4200, 5000, 4201


def note_addresses(addresses: Mapping[str, str]) -> None:
    """Keep where ``heptune up`` serves ``prefect``, ``mlflow`` and ``reports``; they stay after it has ended."""
    aside = ADDRESSES.with_suffix(".part")
    aside.write_text(json.dumps(dict(addresses)), encoding="utf-8")
    aside.replace(ADDRESSES)


def prefect_ui() -> str:
    """Address of Prefect's UI. A server that one command started has a port of its own only as long as that lives."""
    if url := os.environ.get("PREFECT_UI_URL"):
        return url.rstrip("/")
    api = os.environ.get("PREFECT_API_URL", "")
    if api and api != read_record()[0]:
        return api.removesuffix("/api")
    return _noted("prefect", PREFECT_PORT)


def mlflow_ui() -> str:
    """Address of MLflow's UI."""
    if url := os.environ.get("HEPTUNE_MLFLOW_URL"):
        return url.rstrip("/")
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return uri.rstrip("/") if uri.startswith("http") else _noted("mlflow", MLFLOW_PORT)


def reports() -> str:
    """Address of the checkout's server of reports."""
    return os.environ.get("HEPTUNE_REPORTS_URL", "").rstrip("/") or _noted("reports", REPORTS_PORT)


def has_reports() -> bool:
    """Whether reports are read from the checkout's server: not where only MLflow, a server of a team, keeps them."""
    if os.environ.get("HEPTUNE_REPORTS_URL") or ADDRESSES.is_file():
        return True
    return not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")


def flow_run_page(flow_run: str) -> str:
    """A flow run in Prefect's UI."""
    return f"{prefect_ui()}/runs/flow-run/{flow_run}"


def mlflow_page(run: str) -> str:
    """A run in MLflow's UI."""
    return f"{mlflow_ui()}/#/runs/{run}"


def mlflow_report(experiment: str, run: str) -> str:
    """The report that MLflow keeps with a run, in its UI, which knows files by their experiment only."""
    return f"{mlflow_ui()}/#/experiments/{experiment}/runs/{run}/artifacts/report/index.html"


def version_page(model: str, version: int | str) -> str:
    """A model version in MLflow's UI."""
    return f"{mlflow_ui()}/#/models/{model}/versions/{version}"


def run_page(flow_run: str) -> str:
    """Everything that belongs to a run of a stage, on the server of reports."""
    return f"{reports()}/runs/{flow_run}/"


def list_links(flow_run: str, stage: str, commit: str) -> str:
    """Links to all that belongs to a run of a stage, as Markdown; what is not known yet is found when followed."""
    page = run_page(flow_run)
    links = {"MLflow run": f"{page}mlflow", "Report": report_page(flow_run, stage)}
    links |= {"Model version": f"{page}version", "Newest request": f"{page}request"}
    return _as_markdown({**links, **_revision(commit), "All of this run": page})


def list_pipeline_links(key: str, commit: str) -> str:
    """Links to all that belongs to a pipeline or a retrain, as Markdown, as `list_links` has them."""
    page = pipeline_page(key)
    links = {"Stages": page, "MLflow run": f"{page}/mlflow", "Evaluation": f"{page}/report"}
    links |= {"Model version": f"{page}/version", "Newest request": f"{page}/request"}
    return _as_markdown({**links, **_revision(commit)})


def _revision(commit: str) -> dict[str, str]:
    whole = commit.removesuffix("+changes")
    return {} if whole == "none" else {"Revision": f"{reports()}/revisions/{whole}"}


def _as_markdown(links: Mapping[str, str]) -> str:
    return " · ".join(f"[{text}]({address})" for text, address in links.items())


def report_page(flow_run: str, stage: str) -> str:
    """The report that a run of a stage wrote, on the server of reports."""
    return f"{reports()}/runs/{flow_run}/{stage}/index.html"


def newest_report(stage: str) -> str:
    """The newest report of a stage or command, on the server of reports."""
    return f"{reports()}/reports/{stage}/index.html"


def pipeline_page(key: str) -> str:
    """The runs of a pipeline, on the server of reports."""
    return f"{reports()}/pipelines/{key}"


def release_page(release: str) -> str:
    """Everything that belongs to a release, on the server of reports."""
    return f"{reports()}/releases/{release}"


def _noted(name: str, port: int) -> str:
    try:
        addresses = json.loads(ADDRESSES.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        addresses = {}
    return str(addresses.get(name) or f"{HOST}:{port}")
