"""Links from Prefect to MLflow where no server of reports leads on: those of a team know each other by nothing else.

A stage does not know what MLflow will call its run, so the sender, which makes that run, puts the link into Prefect.
"""

from __future__ import annotations

import logging

from flows.wiring.runs import addresses

logger = logging.getLogger(__name__)

KEY = "mlflow-run"


def link_to_mlflow(api: str, flow_run: str, experiment: str, run: str) -> None:
    """Put a link to a run of MLflow, and to its report there, among the artifacts of a flow run.

    A server that does not take it is reported; the run goes on without the link.

    Args:
        api: Address of the API of the Prefect server that has the flow run.
        flow_run: Id of the flow run.
        experiment: Id of the experiment of the MLflow run.
        run: Id of the MLflow run.
    """
    from uuid import UUID

    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.exceptions import PrefectException
    from prefect.settings import PREFECT_API_URL, temporary_settings

    links = f"[MLflow run]({addresses.mlflow_page(run)}) · [Report]({addresses.mlflow_report(experiment, run)})"
    made = ArtifactCreate(
        key=KEY, type="markdown", description="run in MLflow, report", data=links, flow_run_id=UUID(flow_run)
    )
    try:
        with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
            client.create_artifact(made)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("the flow run %s has no link to MLflow in Prefect (%s)", flow_run, type(error).__name__)
