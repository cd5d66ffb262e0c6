"""What training setup imports while it works: on a machine without a GPU, no PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.checkout import ROOT
from tests.tiny import example_rows, write_examples

WORK = """
import sys
from pathlib import Path
from tasks.contracts.machine import find_machine
from tasks.contracts.records import EXAMPLES
from tasks.contracts.tables import read_table
from tasks.language_models.folder.shape import read_shape
from tasks.training_setup.counts import count_tokens
from tasks.training_setup.environment import read_environment
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.report import write_plan, write_report
from tasks.training_setup.resolve import resolve_plan

initial, out = Path(sys.argv[1]), Path(sys.argv[2])
settings = TrainingSetup(max_tokens=128)
rows = read_table(out / "rows.parquet", EXAMPLES)
shape, environment = read_shape(initial), read_environment()
counts = count_tokens(rows, rows, initial, settings.max_tokens)
resolution = resolve_plan(settings, shape, counts, find_machine())
write_plan(resolution, environment, initial, out / "plan")
write_report(resolution, shape, counts, environment, out / "index.html", out / "metrics.json")
unwanted = {"torch", "trl", "peft", "datasets", "polars", "pandas", "sklearn", "scipy"}
print(*sorted(unwanted & sys.modules.keys()))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch is asked about the GPU")
def test_no_pytorch_without_a_gpu(initial: Path, tmp_path: Path) -> None:
    write_examples(tmp_path / "rows.parquet", example_rows(40))
    command = [sys.executable, "-c", WORK, str(initial), str(tmp_path)]
    assert subprocess.check_output(command, cwd=ROOT, text=True).split() == []
    assert (tmp_path / "plan/manifest.json").is_file()
