"""A plain transformers folder with safetensors weights (https://github.com/huggingface/safetensors).

Good for everything that reads transformers folders (transformers, vLLM, TGI, llama.cpp's converter).
``fp32`` answers exactly as the model was trained; ``bf16`` halves the size and rounds every weight to
eight significant bits, so that some answers differ: it needs a lower ``parity.minimum_match``.

Example in ``params.yaml``::

    deployment:
      release:
        export: {name: safetensors, dtype: bf16}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.deployment.exports.export import ExportCan


class Safetensors(Section):
    """Weights, tokenizer, chat template, config and generation config in one folder."""

    can: ClassVar[ExportCan] = ExportCan(beside=True)

    name: Literal["safetensors"] = "safetensors"
    dtype: Literal["fp32", "bf16"] = Field(default="fp32", description="Number format of the weights.")

    def write(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write an fp32 model.

        Args:
            model: A transformers model; it is cast in place.
            tokenizer: Its tokenizer, with the chat template.
            folder: An empty folder.
        """
        import torch

        model = model.to(torch.float32 if self.dtype == "fp32" else torch.bfloat16)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
