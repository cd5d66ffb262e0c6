"""The files that start other machines: whole, in order, and what torchrun and Kubernetes take."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.language_models.folder.shape import ModelShape
from tasks.training.distribution.distribution import Layout
from tasks.training.plan import Plan
from tasks.training_setup.launch_files import write_launch_files
from tests.checkout import ROOT
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


@pytest.fixture
def stubs(tmp_path: Path) -> dict[str, str]:
    """An environment whose programs say that they were called, and with what."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "python": 'echo "python $MASTER_ADDR $*"',
        "heptune": 'echo "heptune $MASTER_ADDR $*"',
        "scontrol": "printf 'node7\\nnode8\\n'",
        "srun": 'echo "srun $1"; while [ "$1" != bash ]; do shift; done; SLURM_NODEID=0 "$@"; SLURM_NODEID=3 "$@"',
        "ssh": 'echo "ssh $4"; [ "$4" != train-2 ] || exit 7',
    }
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.fixture
def checkout(written: Path, tmp_path: Path) -> Path:
    """Where the plan is at its place."""
    folder = tmp_path / "checkout"
    (folder / "models").mkdir(parents=True)
    (folder / "models/plan").symlink_to(written)
    return folder


def test_slurm_gives_each_machine_its_cores_and_its_part(checkout: Path, stubs: dict[str, str]) -> None:
    slurm = (checkout / "models/plan/launch/slurm.sh").read_text()
    assert "#SBATCH --nodes=4" in slurm
    assert "#SBATCH --cpus-per-task=6" in slurm
    command = ["bash", "models/plan/launch/slurm.sh"]
    told = subprocess.check_output(command, cwd=checkout, env=stubs, text=True).splitlines()
    assert told[0] == "srun --cpus-per-task=6", "srun takes it from sbatch no more"
    assert told[1] == "heptune node7 run --single-item fine_tuning"
    assert told[2].startswith("python node7 -m torch.distributed.run --nnodes 4 --nproc-per-node 2 --node-rank 3")


def test_a_machine_that_fails_over_ssh_fails_all(checkout: Path, stubs: dict[str, str]) -> None:
    command = ["sh", "models/plan/launch/ssh.sh"]
    ended = subprocess.run(command, cwd=checkout, env=stubs, text=True, capture_output=True, check=False)
    assert sorted(ended.stdout.splitlines()) == ["ssh train-1", "ssh train-2", "ssh train-3"]
    assert ended.returncode == 7


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kubeflow.yaml"])
def test_a_pod_does_its_part_of_the_work(checkout: Path, stubs: dict[str, str], name: str) -> None:
    """The process that gets a pod's SIGTERM has to pass it on, as heptune and torchrun do and DVC does not."""
    *_, job = yaml.safe_load_all((checkout / "models/plan/launch" / name).read_text())
    trainer = job["spec"]["trainer"] if name == "kubeflow.yaml" else job["spec"]["template"]["spec"]["containers"][0]
    command = [word.replace("cd /work", f"cd {checkout}") for word in trainer["command"]]
    for number, told in (("0", "heptune here run --single-item fine_tuning"), ("2", "python here -m torch")):
        place = {"PET_MASTER_ADDR": "here", "MASTER_ADDR": "here", "PET_MASTER_PORT": "1", "PET_NODE_RANK": number}
        environment = stubs | place | {"JOB_COMPLETION_INDEX": number}
        assert subprocess.check_output(command, cwd=checkout, env=environment, text=True).startswith(told)


def test_pods_share_the_checkout_and_have_memory_to_meet_in(written: Path) -> None:
    service, job = yaml.safe_load_all((written / "launch/kubernetes.yaml").read_text())
    train = yaml.safe_load((written / "launch/kubeflow.yaml").read_text())
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == train["spec"]["trainer"]["numNodes"] == 4
    assert job["spec"]["completionMode"] == "Indexed"
    pod = job["spec"]["template"]["spec"]
    (address,) = [e["value"] for e in pod["containers"][0]["env"] if e["name"] == "MASTER_ADDR"]
    assert address == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    (patch,) = train["spec"]["runtimePatches"]  # podTemplateOverrides until Kubeflow Trainer 2.1
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    for spec in (pod, node["template"]["spec"]["template"]["spec"]):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts["/work"]["persistentVolumeClaim"] == {"claimName": "heptune"}
        assert mounts["/dev/shm"]["emptyDir"] == {"medium": "Memory"}
        worker = next(yaml.safe_load_all((ROOT / "infra/kubernetes/worker.yaml").read_text()))
        assert spec["securityContext"].items() <= worker["spec"]["template"]["spec"]["securityContext"].items()
    assert (written / "launch/hostfile").read_text().splitlines()[1] == "train-1 slots=2"
