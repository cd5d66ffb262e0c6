"""What the methods have in common that put modules of PEFT's beside layers of a frozen base: which layers, how they are
opened, saved and merged, and how their weights are counted.

A member is a file with its paper, its params and the sizes of what it trains beside a layer of (out, in). The adapter
is PEFT's own, ``adapter/``, and opens with any program that has PEFT.
"""

from __future__ import annotations

import json
import re
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.beside_layers import BesideLayers

FOLDER = "adapter"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


class Adapter(BesideLayers):
    """Modules of PEFT's beside layers of a frozen base.

    Attributes:
        peft_type: PEFT's name of the method.
    """

    peft_type: ClassVar[str]

    blocks: Literal["all"] | list[int] = Field(default="all", description="blocks that are adapted, counted from 0")

    def chosen_blocks(self, shape: ModelShape) -> Sequence[int]:
        return range(shape.layers) if self.blocks == "all" else self.blocks

    def which_blocks(self) -> str:
        return "" if self.blocks == "all" else f" of blocks {', '.join(map(str, self.blocks))}"

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The keys of PEFT's configuration that this method's params decide; of a resolved method."""

    def model_settings(self, model: Any) -> dict[str, Any]:
        """More of those keys, which depend on the model."""
        return {}

    def adapt(self, model: Any) -> Any:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
        from peft.utils.peft_types import PeftType

        kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(self.peft_type)]
        with quiet():
            config = kind(task_type="CAUSAL_LM", **self._peft_settings(model))
        return adapt_with(model, config)

    def save(self, model: Any, folder: Path) -> list[Path]:
        return save_adapter(model, folder / FOLDER)

    def load(self, base: Path, tuned: Path) -> Any:
        """The base model with the method's modules in its layers; nothing is merged."""
        return self.open(base, tuned).get_base_model()

    def merge(self, base: Path, tuned: Path) -> Any:
        """The base model with the method's changes in its weights."""
        return merge_adapter(self.open(base, tuned), tuned)

    def open(self, base: Path, tuned: Path) -> Any:
        """PEFT's model of what was saved."""
        return open_adapter(base, tuned)

    def _block_problems(self, shape: ModelShape) -> list[str]:
        if self.blocks == "all":
            return []
        problems = []
        beyond = sorted(block for block in self.blocks if not 0 <= block < shape.layers)
        if beyond or not self.blocks:
            problems.append(
                f"method.blocks: {', '.join(map(str, beyond)) or 'empty'}; expected all or some of 0 to "
                f"{shape.layers - 1}"
            )
        if uneven := self._uneven_targets(shape):
            problems.append(
                f"method.blocks: {', '.join(uneven)} is not the same in every block, so weights of some blocks cannot "
                "be counted; set blocks: all"
            )
        return problems

    def _peft_settings(self, model: Any) -> dict[str, Any]:
        return {"target_modules": self._peft_targets(), **self.settings(), **self.model_settings(model)}

    def _peft_targets(self) -> list[str] | str:
        """Names, or a pattern of whole names where only some blocks are adapted."""
        if self.blocks == "all" or isinstance(self.targets, str):
            return self.targets
        blocks, names = "|".join(map(str, self.blocks)), "|".join(map(re.escape, self.targets))
        return rf"(?:[^.\d][^.]*\.)*(?:{blocks})\.(?:.*\.)?(?:{names})"


@contextmanager
def quiet() -> Iterator[None]:
    """Without PEFT's remarks on what is meant: old names of attributes, transposed layers, sizes it adjusts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def adapt_with(model: Any, config: Any) -> Any:
    """The base with what a configuration of PEFT's puts into it, whose trained weights are fp32."""
    from peft import get_peft_model

    with quiet():
        adapted = get_peft_model(model, config)
    for weights in adapted.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()
    return adapted


def open_adapter(base: Path, tuned: Path) -> Any:
    """PEFT's model of what `save_adapter` wrote into ``adapter/`` of a folder."""
    from peft import PeftModel

    with quiet():
        return PeftModel.from_pretrained(load_model(base), tuned / FOLDER)


def merge_adapter(opened: Any, tuned: Path) -> Any:
    """The base with an opened adapter's changes in its weights.

    Args:
        opened: What `open_adapter` gave.
        tuned: Its folder, for the message.

    Raises:
        PipelineError: Its weights cannot be merged.
    """
    try:
        # `safe_merge` looks for weights that are not numbers before it overwrites anything.
        return opened.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise PipelineError(f"{tuned}: the adapter cannot be merged ({error}); train again") from error


def save_adapter(model: Any, folder: Path) -> list[Path]:
    """Write PEFT's files, the same bytes for the same weights, and no path of this machine."""
    with quiet():
        model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a model card without content
    for file in sorted(folder.rglob(CONFIG)):
        config = json.loads(file.read_text())
        adapter = file.parent.name if file.parent != folder else "default"
        for key, value in vars(model.peft_config[adapter]).items():
            # PEFT keeps names as a set, whose order changes from process to process.
            if isinstance(value, set) and key in config:
                config[key] = sorted(config[key])
        config["base_model_name_or_path"] = None
        write_json(file, config)
    return sorted(path for path in folder.rglob("*") if path.is_file())
