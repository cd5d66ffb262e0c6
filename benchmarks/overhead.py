"""What the wiring costs, as ratios in one run.

* a pipeline with nothing to do against a bare ``dvc repro`` and against one Prefect flow that does nothing;
* seven stages that do next to nothing, started through the wiring, against the same seven commands without it.

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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.flows.small import child_environment, make_project

NOTHING = """
from flows.wiring.settings import configure
configure()
from prefect import flow
@flow
def nothing():
    pass
nothing()
"""


def seconds(words: list[str], folder: Path, **extra: str) -> float:
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
    with tempfile.TemporaryDirectory() as place:
        project = make_project(Path(place) / "project")
        from flows.wiring.server import ensure_server

        os.chdir(project)
        url = ensure_server(os.getpid())
        server = {"PREFECT_API_URL": url}
        heptune = [sys.executable, "-m", "flows", "run"]
        first = seconds(heptune, project, **server)
        doors = {
            "heptune run, nothing to do": lambda: seconds(heptune, project, **server),
            "dvc repro, nothing to do": lambda: seconds(["dvc", "repro", "--quiet"], project),
            "one Prefect flow of nothing": lambda: seconds([sys.executable, "-c", NOTHING], project, **server),
            "heptune run --force, small stages": lambda: seconds([*heptune, "--force"], project, **server),
        }
        taken = {name: statistics.median(door() for _ in range(rounds)) for name, door in doors.items()}
    print(f"{'first run of seven small stages':<36}{first:7.2f} s")
    for name, value in taken.items():
        print(f"{name:<36}{value:7.2f} s")
    noop, dvc, flow, forced = taken.values()
    print(f"nothing to do: {noop / dvc:.2f} x dvc repro, {noop / flow:.2f} x one empty Prefect flow")
    print(f"wiring of a stage that runs: {forced / 7:.2f} s, {forced / 7 / flow:.2f} x one empty Prefect flow")


if __name__ == "__main__":
    main()
