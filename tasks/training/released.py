"""Open the model of a release: one plain transformers folder, or a base and beside it what was trained.

A method that does not merge (`tasks.training.methods.method.Can.merging`) leaves modules of its own in the model, so
the model of its release is two folders::

    base/     the base: weights, tokenizer, chat template, configs
    tuned/    what the method saved; its manifest names the method, resolved, and the base by its hash

There is no ``config.json`` above them: a reader that knows nothing of methods finds no model there, instead of the base
without its training.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_folder, read_manifest, seal
from tasks.language_models.folder.model_folder import load_model
from tasks.training.methods import AnyMethod
from tasks.training.reward_models import is_classifier
from tasks.training.tuned import parse_method

BASE, TUNED = "base", "tuned"


def is_unmerged(folder: Path) -> bool:
    """Whether a release's model is a base with what was trained beside it."""
    return (folder / TUNED / NAME).is_file()


def find_base(folder: Path) -> Path:
    """The transformers folder of a release's model: its config, tokenizer and chat template are those that serve."""
    return folder / BASE if is_unmerged(folder) else folder


def put_beside(method: AnyMethod, tuned: Path, folder: Path) -> None:
    """Copy what was trained beside a base, and seal it.

    Args:
        method: The resolved method.
        tuned: Folder written by fine-tuning.
        folder: The release's model, with ``base/`` in it.
    """
    files = [folder / TUNED / name for name in read_manifest(tuned, verify=True)["files"]]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tuned / file.relative_to(folder / TUNED), file)
    seal(folder / TUNED, files, {"method": method.model_dump(), "base": hash_folder(folder / BASE)})


def load_released(folder: Path, dtype: Any = None) -> Any:
    """The model of a release, not training, as it answers.

    Args:
        folder: A plain transformers folder, or one that `put_beside` sealed.
        dtype: PyTorch's type to compute in; fp32 by default.

    Raises:
        PipelineError: What was trained is incomplete, of another base, or of a method that is not known here.
    """
    import torch

    if is_classifier(folder):
        raise PipelineError(
            f"{folder}: a reward model, which gives numbers and no answers; take it as a reward of training "
            f"({{name: model, path: {folder}}}), and serve a language model"
        )
    if not is_unmerged(folder):
        return load_model(folder, dtype, local_files_only=True).eval()
    tuned = folder / TUNED
    manifest = read_manifest(tuned, verify=True)
    if manifest.get("base") != hash_folder(folder / BASE):
        raise PipelineError(f"{tuned}: was trained on another base than {folder / BASE}; run deployment again")
    return parse_method(manifest, tuned).load(folder / BASE, tuned).to(dtype or torch.float32).eval()
