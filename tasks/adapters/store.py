"""The store of adapters: a sealed folder each, named by hand, with the rows that its task is measured on."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, read_json, seal, write_json
from tasks.language_models.folder.model_folder import resolve_model
from tasks.language_models.folder.weights_hash import hash_weights
from tasks.training.methods.adapters.adapter import FOLDER
from tasks.training.methods.dylora import CONFIG, WEIGHTS, cut_adapter
from tasks.training.stored_adapter import (
    TEST,
    VALIDATION,
    StoredAdapter,
    list_names,
    read_adapter,
    refuse_more_than_pairs,
)
from tasks.training.tuned import read_method

ADAPTER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def keep_adapter(store: Path, name: str, initial: Path, tuned: Path, validation: Path, test: Path) -> StoredAdapter:
    """Copy what fine-tuning left into the store, with the rows of its task.

    Args:
        store: The store's folder.
        name: Name of the adapter.
        initial: Folder written by model initialisation.
        tuned: Folder written by fine-tuning.
        validation: Rows on which the weights of mixtures are searched.
        test: Rows on which mixtures are evaluated.

    Raises:
        PipelineError: The name is taken or none, or what was trained is no plain LoRA adapter.
    """
    check_name(store, name)
    method = read_method(initial, tuned)
    source = tuned / FOLDER
    if not (source / CONFIG).is_file() or not method.can.low_rank:
        raise PipelineError(f"{tuned}: holds {method.describe()}, no LoRA adapter; train with method lora or dylora")
    config = read_json(source / CONFIG)
    refuse_more_than_pairs(config, source)
    if config.get("use_rslora"):
        # The same scale, written as alpha / rank, so that adapters of both kinds add up.
        config |= {"use_rslora": False, "lora_alpha": config["lora_alpha"] * math.sqrt(config["r"])}
    folder = store / name
    folder.mkdir(parents=True)
    shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
    write_json(folder / CONFIG, config)
    for rows, kept in ((validation, VALIDATION), (test, TEST)):
        shutil.copyfile(rows, folder / kept)
    return seal_adapter(folder, hash_weights(resolve_model(initial)), method.describe())


def cut_stored(store: Path, name: str, rank: int, new: str) -> StoredAdapter:
    """Keep an adapter that DyLoRA trained at a lower rank too, with the rows of its task.

    Args:
        store: The store's folder.
        name: The adapter.
        rank: At most its own.
        new: Name of the result.

    Raises:
        PipelineError: There is no such adapter, its rank is lower, or it was not trained to be cut.
    """
    check_name(store, new)
    adapter = read_adapter(store, name)
    if not adapter.made_by.startswith("DyLoRA"):
        raise PipelineError(
            f"adapter {name}: {adapter.made_by} was trained at one rank, so its first rows alone mean nothing; train "
            "with method: {name: dylora}"
        )
    cut_adapter(adapter.folder, rank, store / new)
    for rows in (VALIDATION, TEST):
        shutil.copyfile(adapter.folder / rows, store / new / rows)
    return seal_adapter(store / new, adapter.base, f"{adapter.made_by}, cut to rank {rank}")


def seal_adapter(folder: Path, base: str, made_by: str) -> StoredAdapter:
    """Write the manifest of an adapter's folder.

    Args:
        folder: With the adapter in it.
        base: Hash of the base's weights.
        made_by: How it was made, in words.
    """
    files = [path for path in folder.iterdir() if path.name != NAME]
    seal(folder, files, {"base": base, "made_by": made_by})
    return read_adapter(folder.parent, folder.name)


def check_name(store: Path, name: str) -> None:
    """Refuse a name that is none or taken; what an interrupted command left under it is removed.

    Raises:
        PipelineError: It is.
    """
    if not ADAPTER_NAME.fullmatch(name):
        raise PipelineError(f"adapter name {name!r}; expected 1 to 64 small letters, digits, _ or -")
    if name in list_names(store):
        raise PipelineError(f"{store}: an adapter {name!r} exists; choose another name or delete {store / name}")
    shutil.rmtree(store / name, ignore_errors=True)
