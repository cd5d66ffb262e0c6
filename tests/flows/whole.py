"""The real pipeline in a checkout of its own, with params for a few steps of training."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.checkout import ROOT
from tests.flows.small import child_environment, lay_database

TRACKED = (
    "dvc.yaml",
    "params.yaml",
    ".dvcignore",
    ".gitignore",
    ".dvc",
    "flows",
    "tasks",
    "data",
    "models/champion.json",
    "models/source.json",
    "models/judges/README.md",
    "models/reward/README.md",
    "models/teacher/README.md",
)


def make_checkout(
    folder: Path, base: Path, changes: Mapping[str, Any] | None = None, database: Path | None = None
) -> Path:
    """A git checkout of this repository with params for a few steps.

    Args:
        folder: Where to.
        base: A model folder to copy to ``models/base``.
        changes: Sections of params to keys and values in place of the checkout's.
        database: What MLflow finds there; by default it makes its tables first, which takes seconds.
    """
    folder.mkdir(parents=True)
    lay_database(folder, database)
    # Compiled modules come along, since a copy keeps the times by which they are valid; but for those being written.
    ignored = shutil.ignore_patterns("*.pyc.*", "tmp", "cache", "config.local", "prepared", "feedback", "*.parquet")
    for name in TRACKED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy(source, target)
    shutil.copytree(base, folder / "models/base")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data_preparation"]["sources"][0]["rows"] = 400
    params["training_setup"] |= {
        "method": {"name": "lora", "rank": 8, "alpha": 16},
        "max_tokens": 192,
        "max_steps": 12,
        "evaluate_every": {"steps": 6},
        "checkpoint_every": {"steps": 6},
    }
    params["evaluation"] |= {"items": 24}
    params["evaluation"]["gate"]["minimum_items"] = 24
    params["evaluation"]["generation"]["max_new_tokens"] = 8
    params["deployment"]["release"]["parity"] = {"prompts": 4, "max_new_tokens": 8}
    for section, values in (changes or {}).items():
        params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "checkout"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    return folder


def command(folder: Path, *words: str, timeout_s: float = 600, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a checkout, with its code and these variables of the environment besides a user's."""
    return subprocess.run(
        words,
        cwd=folder,
        env={**child_environment(), "PYTHONPATH": str(folder), **extra},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
