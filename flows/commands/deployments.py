"""Deployments of ``prefect.yaml``, schedules of ``params.yaml``, and what people changed of them in Prefect's UI.

`heptune up` deploys again each time. What was paused in the UI (a deployment, the automation) stays paused. A schedule
follows its param when the param has changed since it was last set; else what a person made of it in the UI (activated,
paused, another cron, deleted) stays. What was last set is remembered on the server, in a variable of Prefect.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.wiring import artifacts
from flows.wiring.servers.server import prefect_at
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from flows.wiring.params import Params
    from tasks.monitoring.schedule import Schedule

POOL = "heptune"
LOG = artifacts.STATE / "logs" / "deploy.log"
# Deployment, as Prefect names it, to the params of its scheduled runs.
SCHEDULED: dict[str, dict[str, Any]] = {
    "retraining/retraining": {"reason": "schedule", "trigger": "schedule"},
    "monitor traffic/monitoring": {},
}
DEPLOYMENTS = ("pipeline/pipeline", *SCHEDULED)
# Name of a schedule that comes from params; others were made by hand.
SLUG = "params"
VARIABLE = "heptune_schedules"


def deploy(root: Path, params: Params) -> list[str]:
    """Create or renew the work pool, all deployments and their schedules; what people changed stays.

    Args:
        root: Root of the checkout.
        params: With the schedules.

    Returns:
        A line for each schedule that was set, and for each that stays although it differs from its param.

    Raises:
        PipelineError: Prefect refused something.
    """
    from prefect.client.orchestration import get_client

    with prefect_at(os.environ["PREFECT_API_URL"]), get_client(sync_client=True) as client:
        paused = list(find_paused(client))
        renew(root)
        pause_again(client, paused)
        wanted = {
            "retraining/retraining": params.monitoring.retraining.schedule,
            "monitor traffic/monitoring": params.monitoring.schedule,
        }
        return set_schedules(client, wanted)


def renew(root: Path) -> None:
    """Have Prefect read ``prefect.yaml``.

    Raises:
        PipelineError: It refused.
    """
    environment = {**os.environ, "HEPTUNE_ROOT": str(root)}
    for words in (
        ("work-pool", "create", POOL, "--type", "process", "--overwrite"),
        ("--no-prompt", "deploy", "--all"),
    ):
        command = [sys.executable, "-m", "prefect", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            LOG.parent.mkdir(parents=True, exist_ok=True)
            LOG.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise PipelineError(f"`{' '.join(command[2:])}` failed; see {LOG.resolve()}")


def read_deployments(client: Any) -> Iterator[Any]:
    """Those of our deployments that the server has."""
    from prefect.exceptions import ObjectNotFound

    for name in DEPLOYMENTS:
        with contextlib.suppress(ObjectNotFound):
            yield client.read_deployment_by_name(name)


def find_paused(client: Any) -> Iterator[tuple[str, str]]:
    """What people paused: kind (``deployment`` or ``automation``) and name."""
    for deployment in read_deployments(client):
        if deployment.paused:
            yield "deployment", deployment.name
        for automation in client.read_resource_related_automations(f"prefect.deployment.{deployment.id}"):
            if not automation.enabled:
                yield "automation", automation.name


def pause_again(client: Any, paused: list[tuple[str, str]]) -> None:
    """Pause again what deploying may have resumed."""
    if not paused:
        return
    for deployment in read_deployments(client):
        if ("deployment", deployment.name) in paused:
            client.pause_deployment(deployment.id)
        for automation in client.read_resource_related_automations(f"prefect.deployment.{deployment.id}"):
            if ("automation", automation.name) in paused:
                client.pause_automation(automation.id)


def set_schedules(client: Any, wanted: dict[str, Schedule | None]) -> list[str]:
    """Set the schedules whose param has changed; see `deploy` for what is returned."""
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate
    from prefect.client.schemas.schedules import CronSchedule

    kept = client.read_variable_by_name(VARIABLE)
    last: dict[str, Any] = json.loads(kept.value) if kept else {}
    lines = []
    for name, schedule in wanted.items():
        deployment = client.read_deployment_by_name(name)
        key = "monitoring.retraining.schedule" if deployment.name == "retraining" else "monitoring.schedule"
        present = [each for each in client.read_deployment_schedules(deployment.id) if each.slug == SLUG]
        as_set = schedule.model_dump() if schedule else None
        if as_set == last.get(name):
            if (found := describe(present)) != (expected := show(schedule)):
                lines.append(
                    f"{deployment.name}: {found}, as it was set in Prefect; {key} in params.yaml says {expected}"
                )
            continue
        for each in present:
            client.delete_deployment_schedule(deployment.id, each.id)
        if schedule:
            cron = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
            client.create_deployment_schedules(deployment.id, [(cron, True)], parameters=SCHEDULED[name], slug=SLUG)
        lines.append(f"{deployment.name}: {show(schedule)}, from {key}")
        last[name] = as_set
    value = json.dumps(last)
    if kept is None:
        client.create_variable(VariableCreate(name=VARIABLE, value=value))
    else:
        client.update_variable(VariableUpdate(name=VARIABLE, value=value))
    return lines


def show(schedule: Schedule | None) -> str:
    """A schedule in words."""
    return f"runs at {schedule.cron} ({schedule.timezone})" if schedule else "has no schedule"


def describe(present: list[Any]) -> str:
    """What Prefect has, in the words of `show` where they are the same thing."""
    if not present:
        return "has no schedule"
    schedule, active = present[0].schedule, present[0].active
    if getattr(schedule, "cron", None):
        text = f"runs at {schedule.cron} ({schedule.timezone or 'UTC'})"
    else:
        text = f"runs by a {type(schedule).__name__}"
    return text if active else f"{text.replace('runs', 'would run', 1)}, but is paused"
