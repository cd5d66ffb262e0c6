"""The seven real stages on a tiny model: `heptune run` and `dvc repro` write the same bytes, and the release serves."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows.pipeline import STAGES
from flows.wiring import artifacts
from tests.browser import open_browser
from tests.flows.pages import click_through, walk_pages
from tests.flows.small import child_environment, lay_database, outcomes, wait_for_mlflow
from tests.flows.whole import command, make_checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, empty_database: Path) -> Path:
    """A checkout in which `heptune run` has run once."""
    folder = make_checkout(tmp_path_factory.mktemp("whole") / "checkout", tiny_model, database=empty_database)
    done = command(folder, sys.executable, "-m", "flows", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done.stdout) == dict.fromkeys(STAGES, "Ran")
    verdict = json.loads((folder / artifacts.EVALUATION_VERDICT).read_text())
    told, following = done.stdout.splitlines()[-2:]
    assert told == f"verdict: {verdict['verdict']}; {verdict['reasons'][0]}"
    assert following.startswith("next: ")
    return folder


def test_dvc_repro_in_a_fresh_clone_writes_the_same_bytes(
    checkout: Path, tmp_path: Path, prefect: str, empty_database: Path
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(checkout), str(clone)], check=True)
    lay_database(clone, empty_database)
    done = command(clone, "dvc", "repro", PREFECT_API_URL=prefect)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = yaml.safe_load((checkout / "dvc.lock").read_text())["stages"]
    theirs = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    for name in STAGES:
        assert theirs[name]["outs"] == ours[name]["outs"], name
    assert (clone / "dvc.lock").read_bytes() == (checkout / "dvc.lock").read_bytes()


def test_a_clone_that_pulls_from_a_remote_runs_nothing(checkout: Path, tmp_path: Path) -> None:
    clone, remote = tmp_path / "clone", tmp_path / "remote"
    for words in (["dvc", "remote", "add", "--local", "--default", "store", str(remote)], ["dvc", "push", "-q"]):
        assert command(checkout, *words).returncode == 0
    subprocess.run(["git", "clone", "-q", str(checkout), str(clone)], check=True)
    # A commit would have brought it; the other tests expect a checkout without one.
    shutil.copy(checkout / "dvc.lock", clone)
    for words in (["dvc", "remote", "add", "--local", "--default", "store", str(remote)], ["dvc", "pull", "-q"]):
        assert command(clone, *words).returncode == 0
    done = command(clone, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert "Data and pipelines are up to date." in done.stdout
    assert (clone / "dvc.lock").read_bytes() == (checkout / "dvc.lock").read_bytes()


def test_dvc_shows_figures_on_one_screen_and_draws_plots(checkout: Path) -> None:
    shown = command(checkout, "dvc", "metrics", "show")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["Path", "difference", "drift", "loss", "score"]
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    drawn = command(checkout, "dvc", "plots", "show")
    assert drawn.returncode == 0, drawn.stderr
    page = (checkout / "dvc_plots/index.html").read_text()
    specs = [json.loads(spec) for spec in re.findall(r"^\s*var spec = (.*);$", page, re.MULTILINE)]
    loss, rate, scores, drift = ([spec["data"]["values"], spec["title"]] for spec in specs)
    curve = json.loads((checkout / artifacts.CURVE).read_text())
    for name, file in (("loss", artifacts.TRAINING_LOSS), ("eval_loss", artifacts.VALIDATION_LOSS)):
        expected = [(point["step"], point[name]) for point in curve if name in point]
        assert expected
        assert [(row["step"], row["loss"]) for row in loss[0] if row["filename"] == file.name] == expected
    assert all(row["lr"] >= 0 for row in rate[0])
    primary = json.loads((checkout / artifacts.EVALUATION_VERDICT).read_text())["primary"]
    figures = json.loads((checkout / artifacts.metrics("evaluation")).read_text())
    of_all = {row["model"]: row["score"] for row in scores[0] if row["slice"] == "source sample"}
    assert of_all == {model: figures[f"{model}.{primary}"] for model in ("base", "candidate")}
    assert drift[0][0]["comparison"] == "none: no data"


def test_every_stage_leaves_a_page_and_figures(checkout: Path) -> None:
    overview = (checkout / artifacts.INDEX).read_text()
    for name in STAGES:
        page = (checkout / artifacts.report(name)).read_text()
        assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
            "http://creativecommons.org", ""
        ).replace("http://127.0.0.1", ""), f"{name}: the page loads something from elsewhere"
        assert json.loads((checkout / artifacts.metrics(name)).read_text())
        assert f'href="{name}/index.html"' in overview


def test_every_page_can_be_walked_to_and_read_on_a_phone(checkout: Path) -> None:
    overview = (checkout / artifacts.INDEX).as_uri()
    with open_browser() as tab:
        click_through(tab, overview, STAGES)
        walk = walk_pages(tab, overview, (checkout / artifacts.REPORTS).as_uri())
        assert walk.faults == []
        names = {page.partition("/reports/")[2] for page in walk.pages}
        assert names >= {"index.html", "data_preparation/card.html", "monitoring/evidently.html"}
        assert names >= {f"{stage}/index.html" for stage in STAGES}
        assert any(name.startswith("data_preparation/data_docs/") for name in names)
        # What the walk looks for is found where it is.
        broken = checkout / "reports/broken.html"
        broken.write_text(
            "<a href='gone.html'>1</a><a href='index.html#gone'>2</a><img src='http://elsewhere.example/a.png'>"
            "<p style='width:500px'>3</p><script>fail()</script>"
            "<div style='width:300px;overflow:hidden'><p style='width:400px'>4</p></div>"
        )
        faults = "\n".join(walk_pages(tab, broken.as_uri(), broken.as_uri()).faults)
        for words in (
            "gone.html, which is not there",
            "index.html#gone, a place",
            "loads http://elsewhere",
            "fail is not",
            "pixels wide on a screen of 420",
            "cuts off the side of <div",
        ):
            assert words in faults, faults
        broken.unlink()


@pytest.mark.slow
def test_a_search_ranks_trials_beside_the_pipeline(checkout: Path, tmp_path: Path) -> None:
    """Real trainings in processes of their own; the first dies, and is repeated from its checkpoint."""
    before = {name: (checkout / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    space = {
        "training_setup.learning_rate": [1e-6, 1e-2],
        "training_setup.optimizer.name": ["sgd", "adamw"],
        "training_setup.max_tokens": [192, 96],
    }
    settings = {"space": space, "method": {"name": "random"}, "trials": 3, "pruning": {"name": "none"}}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(settings))
    words = [sys.executable, "-m", "flows", "search", "--file", str(tmp_path / "search.yaml")]
    started = subprocess.Popen(words, cwd=checkout, env={**child_environment(), "PYTHONPATH": str(checkout)})
    scratch = checkout / ".heptune/search/search"
    deadline = time.monotonic() + 300
    while not list(scratch.glob("trial-0000/checkpoints/*/step-000006")):
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    assert started.wait(60) == 130
    done = command(checkout, *words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["finished"], found["failed"]) == (3, 1)
    assert found["best"]["training_setup.learning_rate"] == 1e-2
    assert (checkout / "reports/search/index.html").is_file()
    # Trials differ in how long their rows are; what they are measured on does not.
    rows = [np.load(path) for path in sorted(scratch.glob("rows-*.npy"))]
    assert len({found[:, 1].tobytes() for found in rows}) == 1
    assert {name: (checkout / name).read_bytes() for name in before} == before
    assert command(checkout, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    wait_for_mlflow(checkout)
    with sqlite3.connect(checkout / ".heptune/mlflow.db") as database:
        runs = database.execute(
            "select runs.name, runs.status, parents.value from runs left join tags as parents "
            "on parents.run_uuid = runs.run_uuid and parents.key = 'mlflow.parentRunId' order by runs.rowid"
        ).fetchall()
    trials = [run for run in runs if run[0].startswith("trial ")]
    assert len(trials) == 4
    assert len({parent for *_, parent in trials}) == 1
    assert [name.partition(",")[0] for name, status, parent in runs if name.startswith("search")] == ["search search"]
    applied = command(checkout, sys.executable, "-m", "flows", "search", "--apply")
    assert applied.returncode == 0, applied.stderr
    values = yaml.safe_load((checkout / "params.yaml").read_text())["training_setup"]
    assert values["optimizer"]["name"] == found["best"]["training_setup.optimizer"]["name"]
    assert values["learning_rate"] == 1e-2
    (checkout / "params.yaml").write_bytes(before["params.yaml"])


def test_the_release_is_registered_promoted_and_named(checkout: Path) -> None:
    heptune = [sys.executable, "-m", "flows"]
    registered = command(checkout, *heptune, "register")
    assert registered.returncode == 0, registered.stderr
    assert command(checkout, *heptune, "register").stdout == registered.stdout
    release = json.loads((checkout / artifacts.RELEASE / "manifest.json").read_text())["release"]
    assert release in registered.stdout
    verdict = json.loads((checkout / artifacts.EVALUATION_VERDICT).read_text())
    promoted = command(checkout, *heptune, "promote")
    if verdict["verdict"] == "promote":
        assert promoted.returncode == 0, promoted.stderr
    else:
        assert promoted.returncode == 1
        assert verdict["reasons"][0][:40] in promoted.stderr
    forced = command(checkout, *heptune, "promote", "--force", "--reason", "test")
    assert forced.returncode == 0, forced.stderr
    assert release in forced.stdout
    unchanged = command(checkout, *heptune, "run")
    assert outcomes(unchanged.stdout) == dict.fromkeys(STAGES, "Unchanged")
    assert unchanged.stdout.splitlines()[-1] == "next: `heptune serve`"
    listed = json.loads(command(checkout, *heptune, "list", "--json").stdout)
    (version,) = listed["versions"]
    assert (version["release"], version["verdict"]) == (release, verdict["verdict"])
    assert version["aliases"] == ["champion"]
    assert version["figures"]["loss"] > 0
    assert listed["runs"][-1]["reason"] == "by hand"
    status = json.loads(command(checkout, *heptune, "status", "--json").stdout)
    assert status["champion"]["version"] == status["release"]["version"] == 1
    assert {stage["state"] for stage in status["stages"]} == {"up to date"}
    asked = ["run", "--dry-run", "-S", "training_setup.epochs=9", "--json"]
    foreseen = json.loads(command(checkout, *heptune, *asked).stdout)
    states = {stage["stage"]: stage["run"] for stage in foreseen["stages"]}
    assert states["training_setup"] == "yes"
    assert states["data_preparation"] == states["model_initialisation"] == "no"
    assert states["evaluation"] == "maybe"
    assert foreseen["seconds"] > 0


def test_any_models_are_scored_on_the_same_items(checkout: Path) -> None:
    """The base by its name, a registered version by its number, a plain folder by its path, and an emulated model."""
    heptune, params = [sys.executable, "-m", "flows"], checkout / "params.yaml"
    before = params.read_text()
    changed = yaml.safe_load(before)
    # The base is its own large base, so that what is emulated is what was trained.
    decoding = {"name": "emulated", "large": "models/base", "small": "models/base"}
    changed["deployment"]["gateway"] = {"engine": {"decoding": decoding}}
    changed["evaluation"]["suites"] = [{"name": "stereotype"}]
    params.write_text(yaml.safe_dump(changed, sort_keys=False))
    asked = ["base", "v1", "models/base", "emulated", "--items", "12", "--metric", "loss", "--metric", "bits_per_byte"]
    done = command(checkout, *heptune, "evaluate", *asked, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["models"]) == {"base", "version 1", "models/base", "emulated"}
    assert found["emulated.loss"] == pytest.approx(found["version 1.loss"], abs=1e-4)
    assert found["models/base.loss"] == found["base.loss"]
    assert found["models/base.loss.difference"] == 0
    assert found["version 1.bits_per_byte"] < found["base.bits_per_byte"]
    assert "version 1" in (checkout / "reports/model_comparison/index.html").read_text()
    asked = ["compare", "base", "v1", "--items", "12", "--metric", "loss", "--metric", "brier", "--suites", "--json"]
    compared = json.loads(command(checkout, *heptune, *asked).stdout)
    (difference,) = compared["differences"]
    assert (difference["before"], difference["after"]) == ("base", "version 1")
    assert difference["better"] + difference["worse"] == len(difference["examples"]) == 12
    assert ["model", "method"] in [[one["part"], one["what"]] for one in difference["origins"]]
    assert "stereotype.version 1_vs_base.lean.low" in compared["suites"]
    html = (checkout / "reports/model_differences/index.html").read_text()
    assert all(text in html for text in ("Behind version 1 and base", "Suites", "Right answers by confidence"))
    ranked = json.loads(
        command(checkout, *heptune, "leaderboard", "--items", "12", "--metric", "loss", "--json").stdout
    )
    assert set(ranked["models"][:2]) == {"version 1", "emulated"}
    assert ranked["models"][2] == "base"
    params.write_text(before)


def test_a_retrain_goes_on_from_the_champion(checkout: Path, prefect: str) -> None:
    # The champion is the release of the test above.
    path = checkout / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["model_initialisation"]["source"] = {"name": "registry", "alias": "champion"}
    params["training_setup"] |= {"max_steps": 2, "checkpoint_every": {"steps": 2}, "evaluate_every": {"steps": 2}}
    path.write_text(yaml.safe_dump(params))
    refused = command(checkout, "dvc", "repro", "model_initialisation", PREFECT_API_URL=prefect)
    assert refused.returncode != 0
    assert "models/source.json: says nothing of alias champion" in refused.stdout + refused.stderr
    release = json.loads((checkout / artifacts.RELEASE / "manifest.json").read_text())["release"]
    done = command(checkout, sys.executable, "-m", "flows", "retrain", PREFECT_API_URL=prefect)
    assert done.returncode == 0, done.stdout + done.stderr
    frozen = json.loads((checkout / artifacts.SOURCE).read_text())
    assert frozen == {"alias champion": {"release": release, "version": 1}}
    initial = json.loads((checkout / artifacts.INITIAL / "manifest.json").read_text())
    assert initial["source"] == {"registry": "alias champion", "release": release}
    stored = checkout / artifacts.RELEASES / release / "model"
    weights = (checkout / artifacts.INITIAL / "model.safetensors").read_bytes()
    assert weights == (stored / "model.safetensors").read_bytes()
    assert weights != (checkout / "models/base/model.safetensors").read_bytes()
    assert command(checkout, "dvc", "repro").stdout.count("didn't change, skipping") == len(STAGES)
