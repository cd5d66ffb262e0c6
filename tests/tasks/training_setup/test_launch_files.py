"""The files that start other machines: whole, in order, and what torchrun and Kubernetes take."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.language_models.shape import ModelShape
from tasks.training.distribution.distribution import Layout
from tasks.training.plan import Plan
from tasks.training_setup.launch_files import write_launch_files
from tests.tasks.fine_tuning.small import make_plan


def plan_of(shape: ModelShape, world_size: int, **distribution: Any) -> Plan:
    plan = make_plan(world_size=world_size, threads=3, distribution=distribution)
    layout = Layout(world_size, plan.batch_size, plan.accumulation_steps, plan.clip_norm, "fp32", "cpu")
    return plan.model_copy(update={"distribution": plan.distribution.resolve(shape, layout)})


@pytest.fixture
def written(shape: ModelShape, tmp_path: Path) -> Path:
    plan = plan_of(
        shape, 8, name="zero", nodes=4, rendezvous="train-0:29400", hosts=[f"train-{n}" for n in range(4)], timeout_s=90
    )
    files = write_launch_files(plan, tmp_path)
    assert set(files) == {path for path in tmp_path.rglob("*") if path.is_file()}
    return tmp_path


def test_one_machine_needs_nothing(shape: ModelShape, tmp_path: Path) -> None:
    assert write_launch_files(plan_of(shape, 2, name="ddp"), tmp_path) == []
    assert [path.name for path in write_launch_files(plan_of(shape, 2, name="zero"), tmp_path)] == ["deepspeed.json"]


def test_what_deepspeed_gets_is_there(written: Path) -> None:
    assert json.loads((written / "deepspeed.json").read_text())["zero_optimization"]["stage"] == 2


@pytest.mark.parametrize("name", ["torchrun.sh", "ssh.sh", "slurm.sh"])
def test_scripts_are_the_shell_s(written: Path, name: str) -> None:
    script = written / "launch" / name
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, check=False).stderr == b""


def test_torchrun_gets_its_machine_and_the_meeting_place(written: Path, tmp_path: Path) -> None:
    """Run with a Python that prints what it is given."""
    told = tmp_path / "bin/python"
    told.parent.mkdir()
    told.write_text('#!/bin/sh\necho "$@"\n')
    told.chmod(0o755)
    script = written / "launch/torchrun.sh"
    for environment, place in (
        ({}, ("train-0", "29400")),
        ({"MASTER_ADDR": "node7", "MASTER_PORT": "1234"}, ("node7", "1234")),
    ):
        command = ["sh", str(script), "2"]
        path = {"PATH": f"{told.parent}:/usr/bin:/bin", **environment}
        words = subprocess.check_output(command, env=path, text=True).split()
        options = dict(zip(words[2::2], words[3::2], strict=False))
        assert (options["--nnodes"], options["--nproc-per-node"], options["--node-rank"]) == ("4", "2", "2")
        assert (options["--master-addr"], options["--master-port"]) == place
        assert options["--rdzv-conf"] == "timeout=90"
        assert words[-2:] == ["-m", "flows.fine_tuning"]


def test_schedulers_start_all_machines(written: Path) -> None:
    slurm = (written / "launch/slurm.sh").read_text()
    assert "#SBATCH --nodes=4" in slurm
    assert "#SBATCH --cpus-per-task=6" in slurm
    service, job = yaml.safe_load_all((written / "launch/kubernetes.yaml").read_text())
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 4
    assert job["spec"]["completionMode"] == "Indexed"
    pod = job["spec"]["template"]["spec"]
    (address,) = [e["value"] for e in pod["containers"][0]["env"] if e["name"] == "MASTER_ADDR"]
    assert address == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    train = yaml.safe_load((written / "launch/kubeflow.yaml").read_text())
    assert (train["kind"], train["spec"]["trainer"]["numNodes"]) == ("TrainJob", 4)
    for command in (pod["containers"][0]["command"][2], train["spec"]["trainer"]["command"][2]):
        assert subprocess.run(["sh", "-n", "-c", command], capture_output=True, check=False).stderr == b""
    assert (written / "launch/hostfile").read_text().splitlines()[1] == "train-1 slots=2"
