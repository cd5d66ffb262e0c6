"""The doors of a run (Prefect, MLflow, DVC revision, model version, report, request) and the links on each."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import httpx

HREF = re.compile(r'<a [^>]*?href="([^"#]+[^"]*)"')
MARKDOWN = re.compile(r"\]\((\S+?)\)")


class Doors:
    """Follows links as a person would: what a page shows, asked of the servers behind it.

    Prefect's and MLflow's pages are drawn in the browser from what their APIs answer; what is read here is what they
    draw: the artifacts of a flow run, the description of a run or model version, the run of a version.

    Args:
        prefect: Address of Prefect's UI.
        mlflow: Address of MLflow's UI.
    """

    def __init__(self, prefect: str, mlflow: str) -> None:
        self.prefect, self.mlflow = prefect, mlflow
        self.client = httpx.Client(timeout=30, follow_redirects=True)
        self._known: dict[str, list[str]] = {}

    def links(self, url: str) -> list[str]:
        """The links of a page; an empty list where there are none.

        Raises:
            AssertionError: The page does not answer, or is of nothing that its server knows.
        """
        if url not in self._known:
            self._known[url] = self._read(url)
        return self._known[url]

    def _read(self, url: str) -> list[str]:
        assert urlsplit(url).scheme == "http", f"a browser refuses {url}"
        if url.startswith(f"{self.prefect}/runs/flow-run/"):
            return self._of_flow_run(url.rsplit("/", 1)[1])
        if url.startswith(f"{self.mlflow}/#/runs/"):
            return self._of_run(url.split("/#/runs/")[1].split("/")[0])
        if url.startswith(f"{self.mlflow}/#/models/"):
            return self._of_version(*url.split("/#/models/")[1].split("/versions/"))
        if url.rstrip("/") in (self.prefect, self.mlflow):
            return []
        answer = self.client.get(url)
        assert answer.status_code == 200, f"{url}: {answer.status_code} {answer.text[:200]}"
        return [urljoin(str(answer.url), link) for link in HREF.findall(answer.text)]

    def _of_flow_run(self, flow_run: str) -> list[str]:
        run = self.client.get(f"{self.prefect}/api/flow_runs/{flow_run}")
        assert run.status_code == 200, run.text
        question = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}
        found = self.client.post(f"{self.prefect}/api/artifacts/filter", json=question).json()
        return [link for item in found if item["type"] == "markdown" for link in MARKDOWN.findall(item["data"])]

    def _ask(self, path: str, **query: str) -> dict[str, dict[str, object]]:
        answer = self.client.get(f"{self.mlflow}/api/2.0/mlflow/{path}", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, dict[str, object]] = answer.json()
        return found

    def _of_run(self, run: str) -> list[str]:
        data = self._ask("runs/get", run_id=run)["run"]["data"]
        tags = {tag["key"]: tag["value"] for tag in data["tags"]}  # type: ignore[index]
        parent = tags.get("mlflow.parentRunId")
        above = [f"{self.mlflow}/#/runs/{parent}"] if parent else []
        return [*MARKDOWN.findall(tags.get("mlflow.note.content", "")), *above]

    def _of_version(self, model: str, version: str) -> list[str]:
        found = self._ask("model-versions/get", name=model, version=version)["model_version"]
        return [*MARKDOWN.findall(str(found["description"])), f"{self.mlflow}/#/runs/{found['run_id']}"]

    def clicks(self, start: str, is_goal: Callable[[str], bool], most: int = 3) -> int:
        """Clicks from a page to one that is a goal, at most ``most``.

        Raises:
            AssertionError: None is so near.
        """
        near = {start}
        for clicks in range(1, most + 1):
            near = {link for page in near for link in self.links(page)}
            if any(is_goal(link) for link in near):
                return clicks
        raise AssertionError(f"no way of {most} clicks from {start}")
