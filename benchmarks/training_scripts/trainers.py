"""The trainers that are compared, the environments they run in, and one run of one of them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent
ENVIRONMENTS = ROOT / ".heptune" / "benchmark_environments"


@dataclass(frozen=True)
class Environment:
    """What a rival is installed with.

    Attributes:
        packages: Pinned; with their dependencies.
        alone: Pinned; installed without dependencies, of which all but ``unused`` are installed by name.
        unused: Modules that the rival imports but does not use for text, whose wheels are gigabytes of CUDA; an empty
            module stands in for each.
    """

    packages: tuple[str, ...]
    alone: str = ""
    unused: tuple[str, ...] = ()


# The newest libraries of which each rival says or shows that it works with them.
OLDER = ("transformers==4.57.3", "trl==0.24.0", "peft==0.18.1", "accelerate==1.11.0")
CPU = ("torch==2.13.0", "bitsandbytes==0.50.2")
SWIFT = Environment((*CPU, "ms-swift==4.6.0", "datasets==4.8.4", *OLDER))
FACTORY = Environment(
    (*CPU, "datasets==4.0.0", *OLDER), alone="llamafactory==0.9.5", unused=("torchaudio", "torchvision")
)
LITGPT = Environment(
    ("torch==2.13.0", "litgpt==0.5.13", "huggingface-hub==1.3.4", "transformers==5.3.0", "psutil==7.2.2", "lightning")
)


@dataclass(frozen=True)
class Trainer:
    """One trainer with one setting.

    Attributes:
        script: File below this folder.
        setting: ``default``: as its own documentation starts it; ``best``: what is fastest of its settings on a CPU.
        environment: Where it is installed; None for this project's.
        methods: What it can train on a CPU.
    """

    script: str
    setting: str = "default"
    environment: Environment | None = None
    methods: tuple[str, ...] = ("full", "lora", "qlora")


TRAINERS = {
    "heptune": Trainer("ours.py"),
    "trl": Trainer("plain_trl.py"),
    "trl_best": Trainer("plain_trl.py", "best"),
    "ms_swift": Trainer("ms_swift.py", "default", SWIFT),
    "ms_swift_best": Trainer("ms_swift.py", "best", SWIFT),
    "llama_factory": Trainer("llama_factory.py", "default", FACTORY),
    "llama_factory_best": Trainer("llama_factory.py", "best", FACTORY),
    # Its 4 bits are bitsandbytes 0.42's, which knows GPUs only.
    "litgpt": Trainer("lit_gpt.py", "default", LITGPT, ("full", "lora")),
    "litgpt_best": Trainer("lit_gpt.py", "best", LITGPT, ("full", "lora")),
}


def find_python(trainer: Trainer, environments: Path) -> Path:
    """The interpreter of a trainer's environment, which is made where it is missing."""
    if trainer.environment is None:
        return Path(sys.executable)
    folder = environments / Path(trainer.script).stem
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        print(f"making {folder}: {' '.join(trainer.environment.packages)} {trainer.environment.alone}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install(python, trainer.environment)
        (folder / "complete").touch()
    return python


def install(python: Path, environment: Environment) -> None:
    def pip(*arguments: str) -> None:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)

    pip(*environment.packages)
    if not environment.alone:
        return
    pip("--no-deps", environment.alone)
    site = next((python.parents[1] / "lib").glob("python3*")) / "site-packages"
    (found,) = importlib.metadata.distributions(name=environment.alone.split("==")[0], path=[str(site)])
    names = [re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in found.requires or []]
    wanted = [line for line, name in zip(found.requires or [], names, strict=True) if name not in environment.unused]
    pip(*environment.packages, *(line for line in wanted if "extra ==" not in line))
    for name in environment.unused:
        (site / f"{name}.py").write_text('"""Stands in for a package that training on text does not use."""\n')


def run(name: str, job: dict[str, Any], folder: Path, environments: Path = ENVIRONMENTS) -> dict[str, Any]:
    """Train once in a process of its own.

    Args:
        name: One of `TRAINERS`.
        job: What is trained on what, see ``benchmarks/training.py``.
        folder: For what it writes.
        environments: Folder of the rivals' environments.

    Returns:
        ``seconds`` of the training loop, its ``losses`` as it logs them, and what else its script tells.
    """
    trainer = TRAINERS[name]
    python = find_python(trainer, environments)
    folder.mkdir(parents=True)
    job_file, result = folder / "job.json", folder / "result.json"
    job_file.write_text(json.dumps({**job, "setting": trainer.setting, "result": str(result), "folder": str(folder)}))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(job["threads"]),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        [python, SCRIPTS / trainer.script, job_file],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not result.is_file():
        raise SystemExit(f"{name} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found
