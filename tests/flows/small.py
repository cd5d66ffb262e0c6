"""A project of the seven stages with next to no work in them, run by the real engines.

``python -m tests.flows.small STAGE`` is the command of each stage: it reads the files of the stage
before, writes one file, figures and a page.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.stage import recorder, run, stage, task
from flows.wiring.staleness import STAGES
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.pages.page import Page
from tests.checkout import ROOT

BEFORE = dict(zip(STAGES[1:], STAGES, strict=False))


def count_rows(name: str, section: dict[str, object]) -> dict[str, float]:
    """Write the stage's product: what came before, and this stage's section."""
    before = Path("work", f"{BEFORE[name]}.txt").read_text() if name in BEFORE else "start\n"
    trouble = Path("trouble", name)
    if trouble.is_file():
        kind = trouble.read_text().strip()
        if kind == "expected":
            raise PipelineError("work/input.txt:3: no answer; fill it in")
        if kind == "wait":
            Path("trouble", f"{name}.began").touch()
            wait_for(Path("trouble", f"{name}.go"))
        if kind == "stuck":
            # A process of its own, and work that looks at no signal.
            subprocess.Popen(["sleep", "600"])
            Path("trouble", f"{name}.began").touch()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
        if kind == "full disk":
            Path("/dev/full").write_text("more than the disk takes")
        if kind == "killed once":
            trouble.unlink()
            os.kill(os.getpid(), 9)
    Path("work").mkdir(exist_ok=True)
    Path("work", f"{name}.txt").write_text(f"{before}{name} {section}\n")
    return {"rows": 3.0}


def wait_for(path: Path, seconds: float = 60.0) -> None:
    """Return when a file is there.

    Raises:
        TimeoutError: It did not come.
    """
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not come in {seconds:.0f} s")
        time.sleep(0.1)


def write_figures(name: str) -> None:
    """The figures and the page of the stage."""
    recorder().metrics(1, {"loss": 0.5})
    recorder().metrics(2, {"loss": 0.25})
    Page(name, "A small stage.", stage=name).write(artifacts.report(name))
    write_json(artifacts.metrics(name), {"rows": 3})


def body(name: str):  # type: ignore[no-untyped-def]
    def work(params: Params) -> None:
        """Two tasks: one product, one report."""
        task(count_rows)(name, getattr(params, name).model_dump(mode="json"))
        task(write_figures)(name)

    work.__name__ = work.__qualname__ = name
    return work


def make_project(folder: Path, database: Path | None = None) -> Path:
    """A git checkout with DVC in it, whose stages are small; all params at their defaults.

    Args:
        folder: Where to.
        database: What MLflow finds there; by default it makes its tables first, which takes seconds.
    """
    folder.mkdir(parents=True)
    lay_database(folder, database)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    (folder / "params.yaml").write_text(yaml.safe_dump(Params().model_dump(mode="json"), sort_keys=False))
    (folder / "work").mkdir()
    # The base that the params name by default; no stage opens it.
    (folder / "models/base").mkdir(parents=True)
    (folder / "models/base/config.json").write_text("{}")
    (folder / ".gitignore").write_text("work/\nreports/\n.heptune/\ntrouble/\n")
    stages = {}
    for name in STAGES:
        stages[name] = {
            "cmd": f"python -m tests.flows.small {name}",
            "params": [name],
            "outs": [f"work/{name}.txt", str(artifacts.report(name))],
            "metrics": [str(artifacts.metrics(name))],
        }
        if name in BEFORE:
            stages[name]["deps"] = [f"work/{BEFORE[name]}.txt"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "small project"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    return folder


def lay_database(project: Path, database: Path | None) -> None:
    """Copy MLflow's database to where a project has it."""
    if database is not None:
        (project / ".heptune").mkdir(exist_ok=True)
        shutil.copyfile(database, project / ".heptune/mlflow.db")


def child_environment() -> dict[str, str]:
    """The environment of a user's shell, with this repository importable."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "HEPTUNE_", "DO_NOT_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


WAIT_UNTIL_SENT = """
import sys
from flows.wiring.settings import configure
configure()
from flows.wiring.runs.recording import wait_until_sent
sys.exit(not wait_until_sent(120))
"""


def wait_for_mlflow(project: Path, **extra: str) -> None:
    """Return when MLflow has everything that the ended runs of a project recorded.

    Entries reach MLflow behind the work, so a test that looks into MLflow right after a run calls this first.
    """
    environment = {**child_environment(), **extra}
    subprocess.run([sys.executable, "-c", WAIT_UNTIL_SENT], cwd=project, env=environment, check=True, timeout=180)


if __name__ == "__main__":
    run(stage(body(sys.argv[1])))


def outcomes(output: str) -> dict[str, str]:
    """Stage to outcome, from the lines that `heptune run` prints."""
    lines = (line.rsplit(maxsplit=3) for line in output.splitlines() if line.endswith(" s"))
    return {words[0].strip().replace(" ", "_"): words[1] for words in lines}


SYLLABLES = [a + b for a in ("ka", "lo", "mi", "tu", "ve") for b in ("ra", "sol", "ten", "wick", "dun")]
