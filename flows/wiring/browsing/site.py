"""The server of reports and links, on loopback; ``heptune up`` starts it.

::

    /                              runs, the newest first
    /runs/<flow run>/              a run: its pages in Prefect and MLflow, its report, revision, release, requests
    /runs/<flow run>/<stage>/...   the report as that run wrote it
    /runs/<flow run>/mlflow        goes on to its MLflow run; so do version and request (the newest)
    /pipelines/<key>  /releases/<hash>  /revisions/<commit>  /hashes/<md5>  /requests/<id>
    /pipelines/<key>/mlflow        the same of a whole pipeline; so do version, request and report (of its evaluation)
    /reports/...                   the newest reports
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from flows.wiring import artifacts
from flows.wiring.browsing import doors
from flows.wiring.runs import addresses
from flows.wiring.runs.records import RunRecord, mlflow_of, name_run, record_of_page, show_time
from flows.wiring.settings import configure
from tasks.contracts.errors import PipelineError

Open = Callable[[str], doors.Door | None]
BODY = re.compile(r"<body[^>]*>", re.IGNORECASE)
LOCAL = ["127.0.0.1", "localhost"]

environment = Environment(loader=PackageLoader("flows.wiring"), autoescape=True, undefined=StrictUndefined)


def make_site() -> Starlette:
    """The application, for the checkout in the current folder."""
    published = urlsplit(os.environ.get("HEPTUNE_REPORTS_URL", "")).hostname
    routes = [
        Route("/", lambda _: show(doors.list_runs(), "")),
        Route("/health", lambda _: PlainTextResponse("ok")),
        Route("/favicon.ico", lambda _: Response(status_code=204)),  # every browser asks for one
        Route("/runs/{key}/", page_of(doors.open_run)),
        Route("/runs/{key}/index.html", page_of(doors.open_run)),
        Route("/runs/{key}/{door}", go_on("/runs/{key}/", doors.find_address)),
        Route("/runs/{key}/{stage}/{path:path}", send_report),
        Route("/pipelines/{key}", page_of(doors.open_pipeline)),
        Route("/pipelines/{key}/{door}", go_on("/pipelines/{key}", doors.find_pipeline_address)),
        Route("/releases/{key}", page_of(doors.open_release)),
        Route("/revisions/{key}", page_of(doors.open_revision)),
        Route("/hashes/{key}", page_of(doors.open_hash)),
        Route("/requests/{key}", page_of(doors.open_request)),
        Route("/reports/", send_newest),
        Route("/reports/index.html", send_newest),
        Route("/reports/{stage}/{path:path}", send_newest),
        Mount("/reports", StaticFiles(directory=artifacts.REPORTS, html=True, check_dir=False)),
    ]
    # A page of another site must not read this one under a name of its own.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, *([published] if published else [])])
    return Starlette(routes=routes, middleware=[hosts])


def page_of(open_door: Open) -> Callable[[Request], Response]:
    """A route that shows what belongs to the key of its path."""

    def respond(request: Request) -> Response:
        key = request.path_params["key"]
        try:
            return show(open_door(key), key)
        except PipelineError as error:
            return PlainTextResponse(str(error), status_code=503)

    return respond


def show(door: doors.Door | None, key: str) -> Response:
    if door is None:
        return PlainTextResponse(f"nothing known of {key} in this checkout; / lists its runs", status_code=404)
    return HTMLResponse(environment.get_template("door.html").render(door=door, is_link=is_link))


def is_link(cell: object) -> bool:
    return isinstance(cell, doors.Link)


def go_on(here: str, find: Callable[[str, str], str | None]) -> Callable[[Request], Response]:
    """A route that goes on to what belongs to a run or pipeline; to its page where it has none, or not yet."""

    def respond(request: Request) -> Response:
        key, door = request.path_params["key"], request.path_params["door"]
        try:
            return RedirectResponse(find(key, door) or here.format(key=key))
        except PipelineError as error:
            return PlainTextResponse(str(error), status_code=503)

    return respond


def send_report(request: Request) -> Response:
    """A file of the report that a run wrote; where only MLflow's server has it, its page there."""
    flow_run, stage = request.path_params["key"], request.path_params["stage"]
    record = doors.find_report(flow_run, stage)
    if record is None:
        return PlainTextResponse(f"no report of {stage} for {flow_run}; / lists the runs", status_code=404)
    folder = doors.report_folder(record)
    if folder is None:
        if known := mlflow_of(record):
            return RedirectResponse(addresses.mlflow_report(known.experiment, known.run))
        return PlainTextResponse("the report was not kept: MLflow has nothing of this run yet", status_code=404)
    path = (folder / request.path_params["path"]).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return PlainTextResponse(describe_missing(request.path_params["path"]), status_code=404)
    if path.suffix != ".html":
        return FileResponse(path)
    return HTMLResponse(add_bar(path.read_text(encoding="utf-8"), record))


def describe_missing(path: str) -> str:
    """Why a file of a report is not there."""
    if path == artifacts.EVIDENTLY.name:
        return f"{path}: kept with the newest runs of monitoring only (monitoring.evidently_pages)"
    return f"{path}: not kept with the report"


def send_newest(request: Request) -> Response:
    """A file of the newest reports; a page leads to the run that wrote it, and the overview to all runs."""
    stage = request.path_params.get("stage", "")
    path = (artifacts.REPORTS / stage / request.path_params.get("path", artifacts.INDEX.name)).resolve()
    if not path.is_relative_to(artifacts.REPORTS.resolve()) or not path.is_file():
        return PlainTextResponse(f"{request.url.path}: not there; `heptune run` makes it", status_code=404)
    if path.suffix != ".html":
        return FileResponse(path)
    return HTMLResponse(add_bar(path.read_text(encoding="utf-8"), record_of_page(stage) if stage else None))


def add_bar(html: str, record: RunRecord | None) -> str:
    """A page with a bar that says which run wrote it and leads there; where none is known, to all runs."""
    bar = environment.get_template("bar.html").render(record=record, show_time=show_time, name_run=name_run)
    return BODY.sub(lambda match: match[0] + bar, html, count=1)


def main() -> None:
    """Serve on the port that is given, until a signal ends it."""
    import uvicorn

    os.chdir(configure())
    uvicorn.run(make_site(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
