"""An adapter that was kept by name: a sealed folder that `heptune adapters` writes and the gateway reads.

::

    adapter_model.safetensors, adapter_config.json    a plain LoRA adapter as PEFT has it: scale alpha / rank, no DoRA
    validation.parquet, test.parquet                  rows of the task; a mixture has none
    manifest.json                                     hash of the base's weights, how it was made
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, read_json, read_manifest
from tasks.training.methods.dylora import CONFIG

VALIDATION, TEST = "validation.parquet", "test.parquet"
# What would make an adapter more than pairs of matrices, with the value that it has without.
PLAIN: Mapping[str, Any] = {
    "use_dora": False, "bias": "none", "modules_to_save": None, "trainable_token_indices": None, "rank_pattern": {},
    "alpha_pattern": {}, "layer_replication": None, "target_parameters": None, "alora_invocation_tokens": None,
}  # fmt: skip


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter of the store.

    Attributes:
        name: Its name.
        folder: Where it lies.
        base: Hash of the weights it was trained on, see `tasks.language_models.folder.weights_hash`.
        rank: Inner dimension of its updates.
        made_by: How it was made, in words.
    """

    name: str
    folder: Path
    base: str
    rank: int
    made_by: str

    @property
    def has_task(self) -> bool:
        """Whether it was trained on rows of its own."""
        return (self.folder / TEST).is_file()


def read_adapter(store: Path, name: str) -> StoredAdapter:
    """A complete and unchanged adapter of the store.

    Raises:
        PipelineError: There is none of this name, or its files are not what they were.
    """
    names = list_names(store)
    if name not in names:
        raise PipelineError(f"{store}: no adapter {name!r}; there are {', '.join(names) or 'none'}")
    manifest, config = read_manifest(store / name, verify=True), read_json(store / name / CONFIG)
    refuse_more_than_pairs(config, store / name)
    return StoredAdapter(name, store / name, manifest["base"], int(config["r"]), manifest["made_by"])


def list_names(store: Path) -> list[str]:
    """Names of the complete adapters."""
    return sorted(path.parent.name for path in store.glob(f"*/{NAME}"))


def refuse_other_base(adapter: StoredAdapter, base: str) -> None:
    """Refuse an adapter whose base is another one.

    Raises:
        PipelineError: It is.
    """
    if adapter.base != base:
        raise PipelineError(
            f"adapter {adapter.name}: was trained on another base ({adapter.base[:12]}, this one is {base[:12]}); "
            "train it again on this one"
        )


def refuse_more_than_pairs(config: Mapping[str, Any], source: Path) -> None:
    """Refuse an adapter that is more than pairs of matrices of one rank.

    Raises:
        PipelineError: It is.
    """
    found = [f"{key}: {config[key]}" for key, plain in PLAIN.items() if config.get(key, plain) not in (plain, None)]
    if config.get("peft_type") != "LORA":
        found.insert(0, f"peft_type: {config.get('peft_type')}")
    if found:
        raise PipelineError(
            f"{source}: {', '.join(found)}; adapters that are combined or served side by side are plain LoRA; train "
            "with method: {name: lora}"
        )
