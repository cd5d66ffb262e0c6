"""A causal language model in a folder, asked on this machine; its answers are greedy and so the same every time.

Example: ``{name: local, path: models/teacher}``
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.corpus.writers.answers import Keeper, Turns, WriterAnswer

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
        files = sorted(Path(self.path).glob("*.safetensors"))
        weights = ",".join(_hash_once(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        return {"weights": weights, "max_tokens": self.max_tokens}

    @property
    def varies(self) -> bool:
        """Greedy answers never vary."""
        return False

    def describe(self) -> str:
        """The folder's name and the beginning of the hash of its weights."""
        return f"{Path(self.path).name}@{str(self.identity['weights'])[:12]}"

    def reseed(self, by: int) -> Self:
        """The same model: its answers know no seed."""
        return self

    def write(self, prompts: Sequence[Turns], keep: Keeper) -> list[WriterAnswer]:
        """Answer prompts.

        Raises:
            PipelineError: The folder is no model, has no chat template, or a prompt is too long for it.
        """
        from tasks.corpus.writers.answers import CUT_OFF, EMPTY
        from tasks.language_models.generation import encode_prompt, generate_answers

        if not prompts:
            return []
        model, tokenizer = load_model(self.path, "writer local")
        written: list[WriterAnswer] = []
        for start in range(0, len(prompts), KEPT):
            part = prompts[start : start + KEPT]
            answers = generate_answers(model, tokenizer, part, self.max_tokens, self.batch_size, "writing")
            for prompt, answer in zip(part, answers, strict=True):
                text = answer.text.strip()
                why = "" if text and answer.finished else EMPTY if answer.finished else CUT_OFF
                tokens = len(encode_prompt(tokenizer, prompt)), len(answer.tokens) + answer.finished
                found = WriterAnswer(None if why else text, why, *tokens)
                keep.keep(prompt, found)
                written.append(found)
        return written


@lru_cache
def _hash_once(file: Path, _size: int, _written: int) -> str:
    return hash_file(file)


@lru_cache(maxsize=1)
def load_model(path: str, user: str) -> tuple[Any, Any]:
    """A causal language model, ready to answer, and its tokenizer.

    Args:
        path: Its folder.
        user: Who wants it, for errors.

    Raises:
        PipelineError: The folder is no model.
    """
    if not (Path(path) / "config.json").is_file():
        raise PipelineError(f"{user}: {path} holds no config.json; give it a model folder")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="auto"
        )
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise PipelineError(f"{user}: {path} cannot be loaded ({why}); give it a model folder") from error
    return model.eval(), tokenizer
