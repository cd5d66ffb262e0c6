"""Stage 7: the frozen traffic window against the frozen baseline, to a drift verdict and a health report."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.stage import recorder, run, stage, task
from tasks.contracts.manifest import read_json
from tasks.corpus.personal_data.identifiers import replace_personal
from tasks.monitoring.decisions import count_streak
from tasks.monitoring.drift import detect_drift
from tasks.monitoring.evidently_report import write_evidently
from tasks.monitoring.health import measure_health
from tasks.monitoring.pages import write_findings, write_page, write_results
from tasks.monitoring.traffic import read_traffic

EVENT = "heptune.drift.detected"
WINDOWS = artifacts.STATE / "windows.txt"


@stage
def monitoring(params: Params) -> None:
    """Read the frozen window and baseline, detect drift, measure health, write the reports, announce drift."""
    settings = params.monitoring.drift
    traffic = task(read_traffic)(artifacts.PRODUCTION)
    verdict = task(detect_drift)(traffic, settings, replace_personal)
    health = task(measure_health)(traffic.window)
    task(write_evidently)(verdict, settings.false_alarms, artifacts.EVIDENTLY)
    task(write_page)(verdict, health, settings, artifacts.EVIDENTLY.name, artifacts.report("monitoring"))
    task(write_findings)(verdict, artifacts.FINDINGS, artifacts.headline("monitoring"))
    task(write_results)(verdict, health, artifacts.DRIFT_VERDICT, artifacts.metrics("monitoring"))
    if params.monitoring.evidently_pages is not None:
        recorder().keep_newest(f"report/{artifacts.EVIDENTLY.name}", params.monitoring.evidently_pages)
    task(announce)(params.deployment.release.model, params.monitoring.retraining.consecutive)


def announce(model: str, consecutive: int = 1) -> bool:
    """Emit the Prefect event of drift; returns whether it was emitted.

    Enough consecutive windows must have shown drift, counted in ``.heptune/windows.txt``. The event's id
    follows from the window, so that the same window triggers an automation once.

    Event ``heptune.drift.detected`` on resource ``heptune.model.<model>``; payload: ``window`` (SHA-256 of the
    window's file), ``reason`` (the first sentence, short), ``reasons`` (all), ``rows`` (answered requests).

    Args:
        model: Name of the registered model.
        consecutive: Consecutive windows that must show drift.
    """
    from prefect.events import emit_event

    verdict: dict[str, Any] = read_json(artifacts.DRIFT_VERDICT)
    if note_window(verdict) < consecutive or verdict["verdict"] != "drift":
        return False
    window = verdict["window"]
    resource = f"heptune.model.{model}"
    emit_event(
        event=EVENT,
        resource={"prefect.resource.id": resource, "prefect.resource.name": model},
        payload={
            "window": window,
            "reason": verdict["reasons"][0][:200],
            "reasons": verdict["reasons"],
            "rows": verdict["rows"],
        },
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"{EVENT}/{resource}/{window}"),
    )
    return True


def note_window(verdict: Mapping[str, Any]) -> int:
    """Record a verdict once; returns how many consecutive windows showed drift, skipping those without a verdict."""
    if verdict["verdict"] not in ("drift", "no_drift"):
        return 0
    return count_streak(WINDOWS, verdict["window"], verdict["verdict"] == "drift")


if __name__ == "__main__":
    run(monitoring)
