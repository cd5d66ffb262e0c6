"""What MLflow holds of a project, straight from its database."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import yaml

from tests.flows.small import wait_for_mlflow


def mlflow_runs(project: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Pipeline runs and stage runs, straight from MLflow's database, in the order of their making."""
    wait_for_mlflow(project)
    with sqlite3.connect(project / ".heptune/mlflow.db") as database:
        runs = []
        for run_id, name, status in database.execute("select run_uuid, name, status from runs order by rowid"):
            tags = dict(database.execute("select key, value from tags where run_uuid = ?", [run_id]).fetchall())
            metrics = dict(
                database.execute("select key, value from latest_metrics where run_uuid = ?", [run_id]).fetchall()
            )
            runs.append(
                {"id": run_id, "name": name, "status": status, "tags": tags, "metrics": metrics,
                 "parent": tags.get("mlflow.parentRunId")}
            )  # fmt: skip
    return [r for r in runs if not r["parent"]], [r for r in runs if r["parent"]]


def check_hashes(run: dict[str, Any], project: Path) -> None:
    """The run of a stage carries the hashes of its entry in dvc.lock."""
    entry = yaml.safe_load((project / "dvc.lock").read_text())["stages"][run["name"]]
    expected = {f"dvc.out.{out['path']}": out["md5"] for out in entry["outs"]}
    expected |= {f"dvc.dep.{dep['path']}": dep["md5"] for dep in entry.get("deps", [])}
    assert {key: value for key, value in run["tags"].items() if key.startswith("dvc.")} == expected
