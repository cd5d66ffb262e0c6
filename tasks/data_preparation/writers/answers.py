"""Answers of a model, kept by the content of their question: asked once, paid once, the same in every later run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import orjson

Turns = list[dict[str, str]]


class Writer(Protocol):
    """A model that answers."""

    @property
    def identity(self) -> dict[str, str | int | float]: ...
    def write(self, prompts: Sequence[Turns], keep: Keeper) -> list[str | None]: ...


class Keeper:
    """Answers in files, one each.

    Args:
        folder: Where they are kept; None keeps nothing.
        identity: What besides the question decides about the answer: address, model, settings.
    """

    def __init__(self, folder: Path | None, identity: dict[str, str | int | float]) -> None:
        self.folder, self.identity = folder, identity

    def _path(self, prompt: Turns) -> Path | None:
        if self.folder is None:
            return None
        content = orjson.dumps([self.identity, prompt], option=orjson.OPT_SORT_KEYS)
        name = hashlib.sha256(content).hexdigest()
        return self.folder / name[:2] / f"{name}.json"

    def find(self, prompt: Turns) -> tuple[bool, str | None]:
        """Whether a question was answered before, and the answer; None is an answer that could not be used."""
        path = self._path(prompt)
        if path is None or not path.is_file():
            return False, None
        try:
            answer = orjson.loads(path.read_bytes())["answer"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return False, None
        return True, answer

    def keep(self, prompt: Turns, answer: str | None) -> None:
        """Keep an answer, written aside and renamed into place."""
        path = self._path(prompt)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_bytes(orjson.dumps({"answer": answer}))
        aside.replace(path)


def ask(writer: Writer, prompts: Sequence[Turns], folder: Path | None) -> list[str | None]:
    """Answers to prompts, in their order; those asked before come from the folder.

    Args:
        writer: The model.
        prompts: Conversations that end before the answer.
        folder: Where answers are kept.

    Returns:
        Per prompt the text, None where the answer is empty or was cut off.
    """
    keeper = Keeper(folder, writer.identity)
    known = [keeper.find(prompt) for prompt in prompts]
    new = [prompt for prompt, (found, _) in zip(prompts, known, strict=True) if not found]
    # The same question is asked once.
    distinct = list({orjson.dumps(prompt): prompt for prompt in new}.values())
    written = dict(zip((orjson.dumps(prompt) for prompt in distinct), writer.write(distinct, keeper), strict=True))
    return [
        answer if found else written[orjson.dumps(prompt)]
        for prompt, (found, answer) in zip(prompts, known, strict=True)
    ]
