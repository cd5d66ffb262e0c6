"""What libraries say on every CPU is no message of a run."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.checkout import ROOT


def test_deepspeed_says_nothing_of_a_cpu() -> None:
    code = "import flows.wiring.quiet; from deepspeed.accelerator import get_accelerator; get_accelerator()"
    environment = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    environment |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "accelerator" not in ran.stdout + ran.stderr
