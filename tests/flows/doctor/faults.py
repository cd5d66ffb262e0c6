"""Faults as machines and checkouts have them: each plants one, in a checkout that is well otherwise."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml

from tasks.contracts.machine import Machine
from tests.tasks.fine_tuning.small import make_plan


@dataclass
class Sickbed:
    """A checkout in the current folder and the machine around it, both to be harmed.

    Attributes:
        patch: Of pytest; undone after the test.
        system: Stands for ``/``, for what the system says of itself.
        site: A folder in front of the installed packages.
        machine: What `find_machine` is to find.
        open: Sockets that are closed after the test.
    """

    patch: pytest.MonkeyPatch
    system: Path
    site: Path
    machine: Machine
    open: list[socket.socket] = field(default_factory=list)

    def write(self, path: str, text: str = "") -> Path:
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def param(self, key: str, value: Any) -> None:
        """Set a key of params.yaml."""
        values = yaml.safe_load(Path("params.yaml").read_text())
        *above, last = key.split(".")
        section = values
        for name in above:
            section = section.setdefault(name, {})
        section[last] = value
        Path("params.yaml").write_text(yaml.safe_dump(values))

    def install(self, name: str, version: str) -> None:
        """A package as pip records it."""
        self.write(str(self.site / f"{name}-{version}.dist-info/METADATA"), f"Name: {name}\nVersion: {version}\n")

    def listen(self, answer: bytes = b"") -> int:
        """The port of a program that takes connections; with an answer, it answers the first one."""
        server = socket.create_server(("127.0.0.1", 0))
        self.open.append(server)
        if answer:

            def serve() -> None:
                while True:
                    try:
                        connection, _ = server.accept()
                    except OSError:
                        return
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

            threading.Thread(target=serve, daemon=True).start()
        port: int = server.getsockname()[1]
        return port

    def free_port(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port: int = server.getsockname()[1]
        return port

    def nvidia(self, driver: str = "580.65.06") -> None:
        """A driver of NVIDIA's and one card."""
        text = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Tue Jul 15 18:04:18 UTC 2025\n"
        self.write(str(self.system / "proc/driver/nvidia/version"), text)
        self.write(str(self.system / "dev/nvidia0"))

    def cuda(self, **changes: Any) -> None:
        """PyTorch sees a card."""
        card = {"accelerator": "H200", "accelerators": 1, "accelerator_memory_bytes": 140 * 2**30}
        self.machine = self.machine.model_copy(update={"device": "cuda", **card, **changes})
        self.install("torch", "2.13.0+cu130")

    def git(self, *words: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        subprocess.run(["git", *identity, *words], capture_output=True, check=True)

    def commit(self, message: str = "as it is") -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def free(self, **found: int) -> None:
        """Space on every disk, bytes."""
        usage = {"total": 10**12, "used": 0, "free": 10**12, **found}
        self.patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(**usage))

    def plan(self, **changes: Any) -> None:
        from tasks.contracts.manifest import seal, write_json

        folder = Path("models/plan")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "plan.json", make_plan(**changes).model_dump(mode="json"))
        seal(folder, [folder / "plan.json"], {})


Plant = Callable[[Sickbed], None]
# Name of the fault to what plants it, the check that has to find it, and a word of what it says.
FAULTS: dict[str, tuple[Plant, str, str]] = {}


def fault(check: str, word: str) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        FAULTS[plant.__name__] = (plant, check, word)
        return plant

    return register


# The machine


@fault("accelerator", "torch")
def pytorch_for_cpus_on_a_machine_with_a_card(bed: Sickbed) -> None:
    bed.nvidia()
    bed.install("torch", "2.13.0+cpu")


@fault("accelerator", "driver")
def a_driver_older_than_pytorch_s_cuda(bed: Sickbed) -> None:
    bed.nvidia("535.183.01")
    bed.install("torch", "2.13.0+cu130")


@fault("accelerator", "nvidia-smi")
def a_card_that_pytorch_does_not_see(bed: Sickbed) -> None:
    bed.nvidia()
    bed.install("torch", "2.13.0+cu130")


@fault("accelerator", "CUDA_VISIBLE_DEVICES")
def cards_hidden_by_a_variable(bed: Sickbed) -> None:
    bed.nvidia()
    bed.install("torch", "2.13.0+cu130")
    bed.patch.setenv("CUDA_VISIBLE_DEVICES", "")


@fault("accelerator", "bf16")
def bf16_asked_of_a_card_without_it(bed: Sickbed) -> None:
    bed.nvidia()
    bed.cuda(accelerator="Tesla T4", bf16=False)
    bed.param("training_setup.precision", "bf16")


@fault("disk", "space")
def a_disk_that_is_nearly_full(bed: Sickbed) -> None:
    bed.free(free=200 * 2**20)


@fault("disk", ".heptune")
def a_small_disk_below_the_checkout(bed: Sickbed) -> None:
    checkout, other = Path.cwd().stat().st_dev, Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == checkout:
        pytest.skip(f"{other} is no disk of its own here")
    Path(".heptune").symlink_to(other)
    full = SimpleNamespace(total=10**9, used=10**9 - 2**20, free=2**20)
    room = SimpleNamespace(total=10**12, used=0, free=10**12)
    bed.patch.setattr(shutil, "disk_usage", lambda place: room if Path(place).stat().st_dev == checkout else full)


@fault("disk", "files")
def a_disk_without_inodes(bed: Sickbed) -> None:
    real = os.statvfs("/")
    bed.patch.setattr(os, "statvfs", lambda _: os.statvfs_result([*real[:5], 10**6, 0, 0, *real[8:10]]))


@fault("memory", "/dev/shm")
def shared_memory_of_a_container_s_default(bed: Sickbed) -> None:
    bed.free(total=64 * 2**20)
    bed.param("training_setup.processes", 2)
    bed.param("training_setup.threads", 1)


@fault("memory", "available")
def other_programs_hold_the_memory(bed: Sickbed) -> None:
    bed.plan(predicted_memory_bytes=2**31, made_for=bed.machine)
    bed.patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**34, available=2**29))


@fault("cores", "OMP_NUM_THREADS")
def more_threads_than_the_container_may_use(bed: Sickbed) -> None:
    bed.patch.setenv("OMP_NUM_THREADS", "64")


@fault("cores", "threads")
def params_that_ask_for_more_threads_than_cores(bed: Sickbed) -> None:
    bed.param("training_setup.threads", 16)


@fault("limits", "open files")
def few_open_files(bed: Sickbed) -> None:
    import resource

    limits = {resource.RLIMIT_NOFILE: (128, 128)}
    whole = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    bed.patch.setattr(resource, "getrlimit", lambda kind: limits.get(kind, whole))


@fault("clock", "clock")
def a_clock_that_starts_in_1970(bed: Sickbed) -> None:
    bed.patch.setattr(time, "time", lambda: 86_400.0)


# The packages


@fault("packages", "5.3")
def transformers_with_a_known_hole(bed: Sickbed) -> None:
    bed.install("transformers", "5.2.0")


@fault("packages", "3.10")
def mlflow_with_a_known_hole(bed: Sickbed) -> None:
    bed.install("mlflow", "3.9.0")


@fault("packages", "3.6.22")
def prefect_with_a_known_hole(bed: Sickbed) -> None:
    bed.install("prefect", "3.6.20")


@fault("packages", "0.18")
def vllm_with_a_known_hole(bed: Sickbed) -> None:
    bed.install("vllm", "0.17.1")


@fault("packages", "malicious")
def a_malicious_release_of_litellm(bed: Sickbed) -> None:
    bed.install("litellm", "1.82.8")


@fault("packages", "fastapi")
def a_fastapi_that_prefect_does_not_start_with(bed: Sickbed) -> None:
    bed.install("fastapi", "0.155.0")


@fault("packages", "sqlalchemy")
def an_sqlalchemy_with_which_schedules_do_not_fire(bed: Sickbed) -> None:
    bed.install("SQLAlchemy", "2.1.0")


@fault("packages", "pandas")
def a_pandas_that_evidently_does_not_import_with(bed: Sickbed) -> None:
    bed.install("pandas", "3.1.0")


@fault("packages", "trl")
def a_library_older_than_the_code_needs(bed: Sickbed) -> None:
    bed.install("trl", "0.24.0")


@fault("packages", "made-up-engine")
def a_dependency_that_is_not_installed(bed: Sickbed) -> None:
    text = Path("pyproject.toml").read_text()
    Path("pyproject.toml").write_text(
        text.replace("dependencies = [\n", 'dependencies = [\n    "made-up-engine>=1",\n', 1)
    )


@fault("packages", "~orch")
def an_installation_that_was_interrupted(bed: Sickbed) -> None:
    (bed.site / "~orch-2.12.0.dist-info").mkdir()


@fault("program", "heptune")
def a_console_script_of_an_environment_that_is_gone(bed: Sickbed) -> None:
    script = bed.write(str(bed.site / "bin/heptune"), "#!/old/.venv/bin/python\nfrom flows.commands import main\n")
    script.chmod(0o755)
    bed.patch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


@fault("program", "datasets.py")
def a_file_that_hides_a_library(bed: Sickbed) -> None:
    bed.write("datasets.py", "rows = []\n")


# Variables that other programs left


@fault("variables", "WORLD_SIZE")
def a_world_size_of_an_earlier_launch(bed: Sickbed) -> None:
    bed.patch.setenv("WORLD_SIZE", "8")
    bed.patch.setenv("RANK", "0")


@fault("variables", "ACCELERATE_USE_FSDP")
def a_launcher_s_choice_that_stayed_behind(bed: Sickbed) -> None:
    bed.patch.setenv("ACCELERATE_USE_FSDP", "true")


@fault("variables", "MLFLOW_RUN_ID")
def a_run_of_mlflow_that_is_still_named(bed: Sickbed) -> None:
    bed.patch.setenv("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef")


@fault("variables", "HF_HUB_OFFLINE")
def a_base_from_the_hub_without_the_hub(bed: Sickbed) -> None:
    bed.param("model_initialisation.source", {"name": "hub", "id": "owner/model", "revision": "0" * 40})
    bed.patch.setenv("HF_HUB_OFFLINE", "1")


@fault("variables", "TMPDIR")
def a_folder_for_temporary_files_that_is_gone(bed: Sickbed) -> None:
    bed.patch.setenv("TMPDIR", "/scratch/of/another/cluster")


@fault("variables", "NO_PROXY")
def a_proxy_that_takes_loopback_too(bed: Sickbed) -> None:
    bed.patch.setenv("HTTP_PROXY", "http://proxy.example.com:3128")


@fault("params", "SUPPORT_PASSWORD")
def a_secret_that_no_variable_holds(bed: Sickbed) -> None:
    query = {"url": "postgresql://reader@db/support", "query": "SELECT 1", "order_by": ["id"]}
    bed.param("data_preparation.sources", [{"name": "sql", **query, "password_env": "SUPPORT_PASSWORD"}])


# Servers


@fault("prefect", "does not answer")
def a_prefect_server_that_is_down(bed: Sickbed) -> None:
    bed.patch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{bed.free_port()}/api")


@fault("prefect", "/api")
def the_address_of_prefect_s_page_instead_of_its_api(bed: Sickbed) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    bed.patch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{bed.listen(page)}")


@fault("mlflow", "does not answer")
def an_mlflow_server_that_is_down(bed: Sickbed) -> None:
    bed.patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{bed.free_port()}")


@fault("mlflow", "expected a server")
def the_folder_that_mlflow_no_longer_writes(bed: Sickbed) -> None:
    bed.patch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")


@fault("mlflow", "mlflow.db")
def a_database_that_is_none(bed: Sickbed) -> None:
    bed.write(".heptune/mlflow.db", "not a database, " * 400)


@fault("request_log", "HEPTUNE_STORE_URL")
def a_request_log_whose_database_is_down(bed: Sickbed) -> None:
    bed.patch.setenv("HEPTUNE_STORE_URL", f"postgresql+psycopg://heptune:x@127.0.0.1:{bed.free_port()}/heptune")


@fault("ports", "heptune serve --port")
def another_program_on_the_gateway_s_port(bed: Sickbed) -> None:
    from flows.commands.doctor.checks import ports

    bed.patch.setattr(ports, "PORTS", {bed.listen(): "heptune serve --port"})


@fault("leftovers", "refused")
def entries_that_mlflow_refused(bed: Sickbed) -> None:
    bed.write(".heptune/refused/1.jsonl", "{}\n")


@fault("leftovers", "step-000200.part")
def a_checkpoint_that_was_never_finished(bed: Sickbed) -> None:
    place = bed.write("models/checkpoints/0123456789abcdef/step-000200.part/optimizer.pt", "x" * 100)
    os.utime(place.parent, (time.time() - 9000,) * 2)


@fault("build_locks", "rm ")
def the_lock_of_a_build_that_was_killed(bed: Sickbed) -> None:
    bed.write(os.environ["TORCH_EXTENSIONS_DIR"] + "/deepspeed_shm_comm/lock")


# The checkout


@fault("params", "epoch")
def a_misspelt_key(bed: Sickbed) -> None:
    bed.param("training_setup.epoch", 3)


@fault("params", "feedback.csv")
def a_source_that_is_not_there(bed: Sickbed) -> None:
    bed.param("data_preparation.sources", [{"name": "csv", "path": "data/raw/feedback.csv"}])


@fault("base_model", "git lfs pull")
def weights_that_are_a_pointer(bed: Sickbed) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 36000000\n"
    bed.write("models/base/model.safetensors", pointer)


@fault("base_model", "model.safetensors")
def weights_that_were_cut_short(bed: Sickbed) -> None:
    path = Path("models/base/model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


@fault("base_model", "model-00002-of-00002.safetensors")
def a_shard_that_is_missing(bed: Sickbed) -> None:
    Path("models/base/model.safetensors").rename("models/base/model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    bed.write("models/base/model.safetensors.index.json", json.dumps({"weight_map": names}))


@fault("base_model", "tokenizer")
def a_base_without_a_tokenizer(bed: Sickbed) -> None:
    Path("models/base/tokenizer.json").unlink()


@fault("plan", "the plan is for cuda")
def a_plan_for_another_machine(bed: Sickbed) -> None:
    bed.plan(device="cuda", world_size=8, made_for=bed.machine)


@fault("dvc", "dvc.lock")
def a_lock_with_both_sides_of_a_merge(bed: Sickbed) -> None:
    bed.write("dvc.lock", "schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\nstages: {a: 1}\n>>>>>>> other\n")


@fault("dvc", "dvc.lock")
def a_lock_that_was_torn(bed: Sickbed) -> None:
    bed.write(
        "dvc.lock",
        "schema: '2.0'\nstages:\n  data_preparation:\n    cmd: python -m flows.data_prep\n    deps:\n    - pa",
    )


@fault("dvc", "remote")
def raw_data_that_is_neither_here_nor_on_a_remote(bed: Sickbed) -> None:
    bed.write("data/raw.dvc", "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: raw\n  hash: md5\n")
    shutil.rmtree("data/raw")


@fault("dvc", "/mnt/nowhere")
def a_remote_on_a_disk_that_is_not_mounted(bed: Sickbed) -> None:
    bed.write(".dvc/config", "[core]\n    remote = disk\n['remote \"disk\"']\n    url = /mnt/nowhere/heptune\n")


@fault("dvc", "pip install dvc-gdrive")
def a_remote_whose_package_is_not_installed(bed: Sickbed) -> None:
    bed.write(".dvc/config", "[core]\n    remote = drive\n['remote \"drive\"']\n    url = gdrive://heptune/store\n")


@fault("dvc", "git checkout -- .dvc/config")
def a_configuration_of_dvc_that_was_torn(bed: Sickbed) -> None:
    bed.write(".dvc/config", "[core]\n    analytics = false\n[core]\n    remote = disk\n")


@fault("dvc", ".dvc")
def a_copy_without_the_hidden_folder(bed: Sickbed) -> None:
    shutil.rmtree(".dvc")


@fault("git", "unmerged")
def a_merge_that_was_not_finished(bed: Sickbed) -> None:
    bed.commit()
    bed.git("checkout", "-qb", "other")
    bed.write("notes.txt", "a\n")
    bed.commit("a")
    bed.git("checkout", "-q", "-")
    bed.write("notes.txt", "b\n")
    bed.commit("b")
    subprocess.run(["git", "merge", "other"], capture_output=True, check=False)


@fault("git", "index.lock")
def a_lock_that_a_killed_git_left(bed: Sickbed) -> None:
    os.utime(bed.write(".git/index.lock"), (time.time() - 7200,) * 2)


@fault("git", "safe.directory")
def a_checkout_of_another_owner(bed: Sickbed) -> None:
    bed.patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


@fault("write_access", "models")
def a_folder_on_a_disk_that_is_gone(bed: Sickbed) -> None:
    shutil.rmtree("reports", ignore_errors=True)
    shutil.move("models", "moved")
    Path("models").symlink_to("/mnt/nowhere/models")


def make_base(folder: Path) -> None:
    """A folder that is a model as far as its headers tell."""
    folder.mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(256))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
