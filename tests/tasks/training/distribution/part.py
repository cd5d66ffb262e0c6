"""Cases of which each rank trains its part once, from the newest checkpoint to the end."""

from __future__ import annotations

from pathlib import Path

from tasks.fine_tuning.launch.job import NAME, read_job
from tasks.fine_tuning.rank import joined, run_rank
from tests.tasks.training.distribution.cases import main


def run_all(root: Path) -> None:
    jobs = [read_job(file.parent) for file in sorted(root.glob(f"*/{NAME}"))]
    with joined(jobs[0].plan):
        for job in jobs:
            run_rank(job)


if __name__ == "__main__":
    main(run_all)
