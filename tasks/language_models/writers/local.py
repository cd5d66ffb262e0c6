"""A causal language model in a folder, run on this machine with greedy decoding, so that its answers do not vary.

Example: ``{name: local, path: models/teacher}``
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.contracts.params import Reads, Section

if TYPE_CHECKING:
    from tasks.language_models.writers.answers import AnswerCache, Turns, WriterAnswer

# Answers are cached after this many prompts, so that an interrupted run loses no more.
PROMPTS_PER_CHECKPOINT = 256
DOCUMENTS = (".md", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg")


class Local(Section):
    """A transformers model folder with a chat template."""

    name: Literal["local"] = "local"
    path: Annotated[str, Reads("folder", holds="config.json")] = Field(description="model folder")
    max_tokens: int = Field(default=256, ge=1, description="maximum length of an answer")
    batch_size: int = Field(default=16, ge=1, description="prompts per batch")

    @property
    def identity(self) -> dict[str, str | int | float]:
        """What determines an answer besides the prompt: every file of the folder, see `hash_model`."""
        return {"files": hash_model(self.path), "max_tokens": self.max_tokens}

    @property
    def varies(self) -> bool:
        """Greedy answers never vary."""
        return False

    def describe(self) -> str:
        """The folder's name and the beginning of the hash of its weights."""
        weights = ",".join(map(_hash_file, sorted(Path(self.path).glob("*.safetensors"))))
        return f"{Path(self.path).name}@{weights[:12]}"

    def reseed(self, by: int) -> Self:
        """The same model: greedy decoding uses no seed."""
        return self

    def write(self, prompts: Sequence[Turns], cache: AnswerCache) -> list[WriterAnswer]:
        """Answer prompts.

        Raises:
            PipelineError: The folder holds no model or no chat template, or a prompt exceeds the context length.
        """
        from tasks.language_models.encoding import encode_prompt
        from tasks.language_models.generation import generate_answers
        from tasks.language_models.writers.answers import CUT_OFF, EMPTY, WriterAnswer

        if not prompts:
            return []
        model, tokenizer = load_model(self.path, "writer local")
        written_answers: list[WriterAnswer] = []
        for start in range(0, len(prompts), PROMPTS_PER_CHECKPOINT):
            batch = prompts[start : start + PROMPTS_PER_CHECKPOINT]
            answers = generate_answers(model, tokenizer, batch, self.max_tokens, self.batch_size, "writing")
            for prompt, answer in zip(batch, answers, strict=True):
                text = answer.text.strip()
                why = "" if text and answer.finished else EMPTY if answer.finished else CUT_OFF
                tokens = len(encode_prompt(tokenizer, prompt)), len(answer.tokens) + answer.finished
                writer_answer = WriterAnswer(None if why else text, why, *tokens)
                cache.store(prompt, writer_answer)
                written_answers.append(writer_answer)
        return written_answers


def hash_model(path: str) -> str:
    """SHA-256 over names and content of a model folder's files: weights, configs, tokenizer, chat template.

    Hidden files and documents, which change no answer, are left out.
    """
    import orjson

    digest = hashlib.sha256()
    for file in sorted(Path(path).rglob("*")):
        place = file.relative_to(path)
        is_hidden = any(part.startswith(".") for part in place.parts)
        if file.is_file() and not is_hidden and file.suffix.lower() not in DOCUMENTS:
            digest.update(orjson.dumps([place.as_posix(), _hash_file(file)]))
    return digest.hexdigest()


def _hash_file(file: Path) -> str:
    return _hash_once(file.absolute(), file.stat().st_size, file.stat().st_mtime_ns)


@lru_cache
def _hash_once(file: Path, _size: int, _modified: int) -> str:
    return hash_file(file)


def load_model(path: str, user: str) -> tuple[Any, Any]:
    """Load a causal language model in evaluation mode and its tokenizer.

    Args:
        path: The model folder.
        user: Name of the caller, for error messages.

    Raises:
        PipelineError: The folder holds no loadable model.
    """
    if not (Path(path) / "config.json").is_file():
        raise PipelineError(f"{user}: {path} holds no config.json; give it a model folder")
    return _load_once(path, user, hash_model(path))


@lru_cache(maxsize=1)
def _load_once(path: str, user: str, _files: str) -> tuple[Any, Any]:
    # Loaded anew when a file changes, so that no answer of an old model is cached under the new one's key.
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
