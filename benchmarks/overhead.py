"""What the wiring costs, in one run: the median of some rounds.

* a pipeline with nothing to do against a bare ``dvc repro``;
* seven stages that do next to nothing, started through the wiring, against the same pipeline with nothing to do;
* ``heptune --help``, and importing all params.

Run it on an idle machine; on a busy one only the ratios mean something.

    python benchmarks/overhead.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.flows.small import child_environment, make_project, wait_for_mlflow

STAGES = 7


def seconds(words: list[str], folder: Path, **extra: str) -> float:
    """How long a command takes; one that fails ends the benchmark."""
    began = time.monotonic()
    done = subprocess.run(
        words, cwd=folder, env={**child_environment(), **extra}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    python = [sys.executable]
    heptune = [*python, "-m", "flows"]
    with tempfile.TemporaryDirectory() as place:
        project = make_project(Path(place) / "project")
        from flows.wiring.servers.server import ensure_server

        os.chdir(project)
        server = {"PREFECT_API_URL": ensure_server()}
        # Also makes MLflow's database, which takes seconds once.
        seconds([*heptune, "run"], project, **server)
        wait_for_mlflow(project)
        doors: dict[str, Callable[[], float]] = {
            "python, nothing": lambda: seconds([*python, "-c", "pass"], project),
            "heptune --help": lambda: seconds([*heptune, "--help"], project),
            "import flows.wiring.params": lambda: seconds([*python, "-c", "import flows.wiring.params"], project),
            "dvc repro, nothing to do": lambda: seconds(["dvc", "repro", "--quiet"], project),
            "heptune run, nothing to do": lambda: seconds([*heptune, "run"], project),
            "heptune run --force, 7 small stages": lambda: seconds([*heptune, "run", "--force"], project, **server),
        }
        # Round by round, so that a load that comes and goes meets all of them.
        taken = {name: list[float]() for name in doors}
        for _ in range(rounds):
            for name, door in doors.items():
                taken[name].append(door())
        wait_for_mlflow(project)
    median = {name: statistics.median(values) for name, values in taken.items()}
    for name, value in median.items():
        print(f"{name:<38}{value:7.2f} s")
    _, _, _, dvc, nothing, forced = median.values()
    print(f"nothing to do: {nothing / dvc:.2f} x dvc repro")
    print(f"a stage that runs: {(forced - nothing) / STAGES:.2f} s beside its work")


if __name__ == "__main__":
    main()
