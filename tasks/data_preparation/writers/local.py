"""A causal language model in a folder, asked on this machine; its answers are greedy and so the same every time.

Example: ``{name: local, path: models/teacher}``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.generation import generate_answers
from tasks.contracts.manifest import hash_file
from tasks.contracts.params import Section
from tasks.data_preparation.writers.answers import Keeper, Turns

# Prompts after which answers are kept.
KEPT = 256


class Local(Section):
    """A model folder of transformers, with a chat template."""

    name: Literal["local"] = "local"
    path: str = Field(description="model folder")
    max_tokens: int = Field(default=256, ge=1, description="longest answer")
    batch_size: int = Field(default=16, ge=1, description="questions answered at once")

    @property
    def identity(self) -> dict[str, str | int | float]:
        """What decides about an answer."""
        weights = sorted(Path(self.path).glob("*.safetensors"))
        return {"weights": ",".join(hash_file(file) for file in weights), "max_tokens": self.max_tokens}

    def write(self, prompts: Sequence[Turns], keep: Keeper) -> list[str | None]:
        """Answer prompts.

        Raises:
            PipelineError: The folder is no model, has no chat template, or a prompt is too long for it.
        """
        if not prompts:
            return []
        model, tokenizer = self._load()
        written: list[str | None] = []
        for start in range(0, len(prompts), KEPT):
            part = prompts[start : start + KEPT]
            answers = generate_answers(model, tokenizer, part, self.max_tokens, self.batch_size, "writing")
            for prompt, answer in zip(part, answers, strict=True):
                text = answer.text.strip() if answer.finished else ""
                keep.keep(prompt, text or None)
                written.append(text or None)
        return written

    def _load(self) -> tuple[Any, Any]:
        if not (Path(self.path) / "config.json").is_file():
            raise PipelineError(f"writer local: {self.path} holds no config.json; give path a model folder")
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                self.path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="auto"
            )
        except (OSError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise PipelineError(f"writer local: {self.path} cannot be loaded ({why}); correct path") from error
        return model.eval(), tokenizer
