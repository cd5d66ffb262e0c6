"""Answers of a model, kept by the content of their question: asked once, paid once, the same in every later run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, Self

import orjson

from tasks.contracts.manifest import write_bytes

Turns = list[dict[str, str]]
EMPTY, CUT_OFF = "empty", "cut off"


@dataclass(frozen=True)
class WriterAnswer:
    """What a model answered, and what it counted.

    Attributes:
        text: The answer; None where it is empty or was cut off.
        why: ``empty`` or ``cut off`` where there is no text.
        prompt_tokens: Tokens of the question, None where the model did not say.
        completion_tokens: Tokens of the answer, None where the model did not say.
    """

    text: str | None
    why: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Writer(Protocol):
    """A model that answers."""

    @property
    def identity(self) -> dict[str, str | int | float]: ...
    @property
    def varies(self) -> bool: ...
    @property
    def max_tokens(self) -> int: ...
    def describe(self) -> str: ...
    def reseed(self, by: int) -> Self: ...
    def write(self, prompts: Sequence[Turns], keep: Keeper) -> list[WriterAnswer]: ...


class Keeper:
    """Answers in files, one each.

    Args:
        folder: Where they are kept; None keeps nothing.
        identity: What besides the question decides about the answer: address, model, settings.
        told: Called after each answer that came.
    """

    def __init__(
        self, folder: Path | None, identity: dict[str, str | int | float], told: Callable[[], None] | None = None
    ) -> None:
        self.folder, self.identity, self.told = folder, identity, told

    def name(self, prompt: Turns) -> str:
        """Content hash of a question and of who is asked, 64 hex digits."""
        content = orjson.dumps([self.identity, prompt], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(content).hexdigest()

    def _path(self, prompt: Turns) -> Path | None:
        if self.folder is None:
            return None
        name = self.name(prompt)
        return self.folder / name[:2] / f"{name}.json"

    def find(self, prompt: Turns) -> WriterAnswer | None:
        """The answer to a question that was asked before."""
        path = self._path(prompt)
        if path is None or not path.is_file():
            return None
        try:
            kept = orjson.loads(path.read_bytes())
            return WriterAnswer(
                kept["answer"],
                kept.get("why", "" if kept["answer"] else EMPTY),
                kept.get("prompt_tokens"),
                kept.get("completion_tokens"),
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, prompt: Turns, answer: WriterAnswer) -> None:
        """Keep an answer, written aside and renamed into place."""
        if (path := self._path(prompt)) is not None:
            values = asdict(answer)
            write_bytes(path, orjson.dumps({"answer": values.pop("text"), **values}))
        if self.told:
            self.told()


def ask(writer: Writer, prompts: Sequence[Turns], folder: Path | None) -> list[str | None]:
    """The texts of `ask_fully`, None where the answer is empty or was cut off."""
    return [answer.text for answer in ask_fully(writer, prompts, folder)]


def ask_fully(
    writer: Writer, prompts: Sequence[Turns], folder: Path | None, told: Callable[[], None] | None = None
) -> list[WriterAnswer]:
    """Answers to prompts, in their order; those asked before come from the folder.

    Args:
        writer: The model.
        prompts: Conversations that end before the answer.
        folder: Where answers are kept.
        told: Called after each answer that was not there before.
    """
    keeper = Keeper(folder, writer.identity, told)
    known = [keeper.find(prompt) for prompt in prompts]
    new = [prompt for prompt, found in zip(prompts, known, strict=True) if found is None]
    # The same question is asked once.
    distinct = list({orjson.dumps(prompt): prompt for prompt in new}.values())
    written = dict(zip((orjson.dumps(prompt) for prompt in distinct), writer.write(distinct, keeper), strict=True))
    return [found or written[orjson.dumps(prompt)] for prompt, found in zip(prompts, known, strict=True)]
