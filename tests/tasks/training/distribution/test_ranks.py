"""Real ranks under a real stage: asked to end, one of them killed, on two machines, and with another number of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.training.plan import Plan
from tests.checkout import ROOT
from tests.tasks.fine_tuning.small import make_plan, make_splits
from tests.tasks.training.distribution.cases import METHODS

pytestmark = pytest.mark.slow

STEPS = 120  # many more than are taken between two looks at what the ranks say
OnMetrics = Callable[[int, Mapping[str, float]], None]


def plan_of(ranks: int, accumulation: int, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "method": METHODS["lora"],
        "distribution": {"name": "ddp"},
        "steps": STEPS,
        "checkpoint_every_steps": 15,
        "log_every_steps": 1,
    }
    return make_plan(**{**values, "world_size": ranks, "batch_size": 2, "accumulation_steps": accumulation, **changes})


@pytest.fixture(scope="module")
def splits(initial: Path) -> Splits:
    return make_splits(initial)


@pytest.fixture(scope="module")
def alone(initial: Path, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("alone")
    plan = plan_of(1, 2, distribution={"name": "single"})
    return fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned"), folder


def run(plan: Plan, splits: Splits, initial: Path, folder: Path, on_metrics: OnMetrics | None = None) -> Run:
    return fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned", on_metrics=on_metrics)


def own_ranks() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "tasks.fine_tuning.rank" in p.cmdline()]


def sealed(folder: Path) -> list[int]:
    return sorted(int(path.name[-6:]) for path in folder.glob("checkpoints/*/step-*"))


def check_outcome(found: Run, folder: Path, alone: tuple[Run, Path]) -> None:
    """The curve and the files of one process."""
    expected, elsewhere = alone
    for ours, theirs in zip(found.curve, expected.curve, strict=True):
        assert ours.step == theirs.step
        for name in ("loss", "eval_loss"):
            value = getattr(theirs, name)
            assert getattr(ours, name) == (None if value is None else pytest.approx(value, abs=1e-6))
    files = {path.relative_to(folder / "tuned") for path in (folder / "tuned").rglob("*")}
    assert files == {path.relative_to(elsewhere / "tuned") for path in (elsewhere / "tuned").rglob("*")}
    ours = load_file(folder / "tuned/adapter/adapter_model.safetensors")
    theirs = load_file(elsewhere / "tuned/adapter/adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=2e-5)
    assert not list((folder / "checkpoints").glob("ranks*"))
    assert own_ranks() == []


def test_asked_to_end_killed_and_resumed(
    initial: Path, splits: Splits, alone: tuple[Run, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C seals the step; a killed rank ends all with its reason; the third attempt ends like an undisturbed run."""
    plan = plan_of(2, 1)

    def stop(step: int, _: Mapping[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with caplog.at_level("INFO", logger="tasks"), pytest.raises(KeyboardInterrupt):
        run(plan, splits, initial, tmp_path, stop)
    assert 2 <= sealed(tmp_path)[-1] < STEPS
    assert f"step {sealed(tmp_path)[-1]} is saved, the next run goes on from there" in caplog.text
    assert own_ranks() == []

    killed: list[psutil.Process] = []

    def kill(_step: int, _: Mapping[str, float]) -> None:
        """At the first word of the run, of which many steps are left; what was said with it comes after."""
        if not killed:
            killed.append(next(p for p in own_ranks() if p.environ()["RANK"] == "1"))
            killed[0].kill()

    with pytest.raises(PipelineError, match=r"^rank 1 was killed \(SIGKILL\)"):
        run(plan, splits, initial, tmp_path, kill)
    assert own_ranks() == []
    last = sealed(tmp_path)[-1]
    found = run(plan, splits, initial, tmp_path)
    assert found.resumed_at == last
    check_outcome(found, tmp_path, alone)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_another_number_of_ranks_goes_on(
    initial: Path, splits: Splits, alone: tuple[Run, Path], tmp_path: Path, name: str
) -> None:
    def stop(step: int, _: Mapping[str, float]) -> None:
        if step == 4:
            raise KeyboardInterrupt

    shared = {"distribution": {"name": name}}
    with pytest.raises(KeyboardInterrupt):
        run(plan_of(2, 1, **shared), splits, initial, tmp_path, stop)
    found = run(plan_of(1, 2, **shared), splits, initial, tmp_path)
    assert found.resumed_at >= 4
    check_outcome(found, tmp_path, alone)


MACHINE = """
import json, sys
from pathlib import Path
from tasks.fine_tuning.rank import run_elsewhere
from tasks.training.plan import Plan
from tests.tasks.fine_tuning.small import make_splits
root, initial, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
plan = Plan.model_validate_json((root / "plan.json").read_text())
sys.exit(run_elsewhere(plan, lambda: make_splits(initial, seed=seed), initial, root / "checkpoints", 2))
"""


def start_machine(root: Path, initial: Path, port: int, seed: int) -> subprocess.Popen[bytes]:
    """The second machine, as ``models/plan/launch/torchrun.sh`` starts it."""
    script = root / "machine.py"
    script.write_text(MACHINE)
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", "1", "--master-addr", "127.0.0.1"]
    options += ["--master-port", str(port), "--rdzv-id", "heptune", "--rdzv-conf", "timeout=120", "--max-restarts", "0"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(script), str(root), str(initial), str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("same_data", [True, False])
def test_two_machines(initial: Path, splits: Splits, alone: tuple[Run, Path], tmp_path: Path, same_data: bool) -> None:
    """Two agents of one rank each; with other data on one of them no step is made."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = {"name": "ddp", "nodes": 2, "rendezvous": f"127.0.0.1:{port}", "timeout_s": 120}
    plan = plan_of(2, 1, distribution=machines)
    (tmp_path / "plan.json").write_text(json.dumps(plan.model_dump(mode="json")))
    second = start_machine(tmp_path, initial, port, seed=0 if same_data else 1)
    try:
        if same_data:
            check_outcome(run(plan, splits, initial, tmp_path), tmp_path, alone)
            assert second.wait(60) == 0
        else:
            with pytest.raises(PipelineError, match=r"^rank 1 on .* has other data than rank 0 on"):
                run(plan, splits, initial, tmp_path)
            assert not list(tmp_path.glob("checkpoints/*/step-*"))
            assert second.wait(60) != 0
    finally:
        if second.poll() is None:
            second.send_signal(signal.SIGTERM)
            second.wait(60)


def test_losses_averages_and_the_best_step_are_those_of_one_process(
    initial: Path, splits: Splits, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {
        "method": METHODS["full"], "loss": {"name": "focal"}, "ema_decay": 0.6, "keep": "best", "steps": 8,
        "evaluate_every_steps": 2, "learning_rate": 1.0, "warmup_steps": 15, "schedule": {"name": "constant"},
    }  # fmt: skip
    one = run(plan_of(1, 2, distribution={"name": "single"}, **changes), splits, initial, tmp_path / "one")
    two = run(plan_of(2, 1, **changes), splits, initial, tmp_path / "two")
    assert 0 < one.kept_step == two.kept_step < 8, "the run was to overshoot"
    assert [p.loss for p in two.curve] == pytest.approx([p.loss for p in one.curve], abs=1e-5)
    weights = [load_file(tmp_path / name / "tuned/weights/model.safetensors") for name in ("one", "two")]
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-6)
