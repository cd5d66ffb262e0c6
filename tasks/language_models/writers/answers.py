"""Answers of a model, cached by a hash of the prompt: each prompt is paid for once and its answer stays the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, Self

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_bytes

Turns = list[dict[str, str]]
EMPTY, CUT_OFF, REFUSED = "empty", "cut off", "refused by the server's content policy"
NO_ANSWER, TOO_LONG = "no answer from the server", "longer than the model's context"
NO_LABEL = "none of the labels is among the likeliest tokens"


class LabelsRefused(PipelineError):
    """A server that gives no log-probabilities, so that an answer has to be read from its text."""


@dataclass
class FailureLimit:
    """Lets single prompts go without an answer, until so many in a row have none that nobody seems to be there.

    Attributes:
        limit: Prompts in a row that may fail; the rest is then not asked any more.
        in_a_row: How many just did.
        reason: Why the last one did.
    """

    limit: int = 8
    in_a_row: int = 0
    reason: str = ""

    @property
    def exhausted(self) -> bool:
        return self.in_a_row >= self.limit

    def note(self, error: PipelineError) -> WriterAnswer:
        """Count a failure, and give what stands for its answer."""
        self.in_a_row += 1
        self.reason = str(error)
        return WriterAnswer(None, NO_ANSWER, 0, 0)


@dataclass(frozen=True)
class WriterAnswer:
    """The answer of a model to one prompt, with its token counts.

    Attributes:
        text: The answer; None where it is empty, was cut off or refused.
        why: ``empty``, ``cut off`` or that the server refused, where there is no text.
        prompt_tokens: Tokens of the prompt, None when the server does not report them.
        completion_tokens: Tokens of the answer, None when the server does not report them.
        labels: Where labels were weighed: the probability of each, together 1.
    """

    text: str | None
    why: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    labels: tuple[float, ...] | None = None


class Writer(Protocol):
    """Interface of a model that answers prompts."""

    @property
    def identity(self) -> dict[str, str | int | float]: ...
    @property
    def varies(self) -> bool: ...
    @property
    def max_tokens(self) -> int: ...
    def describe(self) -> str: ...
    def reseed(self, by: int) -> Self: ...
    def write(self, prompts: Sequence[Turns], cache: AnswerCache) -> list[WriterAnswer]: ...
    def weigh(self, prompts: Sequence[Turns], labels: Sequence[str], cache: AnswerCache) -> list[WriterAnswer]: ...


class AnswerCache:
    """Answers cached in a folder, one file each.

    Args:
        folder: The cache folder; None stores nothing.
        identity: What determines an answer besides the prompt: address, model, settings.
        on_answer: Called after each new answer.
        failures: How many prompts may go without an answer; None: none may.
    """

    def __init__(
        self,
        folder: Path | None,
        identity: dict[str, str | int | float],
        on_answer: Callable[[], None] | None = None,
        failures: FailureLimit | None = None,
    ) -> None:
        self.folder, self.identity, self.on_answer, self.failures = folder, identity, on_answer, failures

    def name(self, prompt: Turns) -> str:
        """SHA-256 of a prompt and the identity of the model, 64 hex digits."""
        import orjson

        content = orjson.dumps([self.identity, prompt], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(content).hexdigest()

    def _path(self, prompt: Turns) -> Path | None:
        if self.folder is None:
            return None
        name = self.name(prompt)
        return self.folder / name[:2] / f"{name}.json"

    def find(self, prompt: Turns) -> WriterAnswer | None:
        """The cached answer to a prompt; None when there is none or its file is damaged."""
        import orjson

        path = self._path(prompt)
        if path is None or not path.is_file():
            return None
        try:
            cached = orjson.loads(path.read_bytes())
            return WriterAnswer(
                cached["answer"],
                cached.get("why", "" if cached["answer"] else EMPTY),
                cached.get("prompt_tokens"),
                cached.get("completion_tokens"),
                tuple(cached["labels"]) if cached.get("labels") else None,
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return None

    def store(self, prompt: Turns, answer: WriterAnswer) -> None:
        """Store an answer; the file is written completely, then renamed into place."""
        import orjson

        if (path := self._path(prompt)) is not None:
            values = asdict(answer)
            write_bytes(path, orjson.dumps({"answer": values.pop("text"), **values}))
        if self.on_answer:
            self.on_answer()


def ask(writer: Writer, prompts: Sequence[Turns], folder: Path | None) -> list[str | None]:
    """The texts of `ask_fully`, None where the answer is empty or was cut off."""
    return [answer.text for answer in ask_fully(writer, prompts, folder)]


def ask_fully(
    writer: Writer,
    prompts: Sequence[Turns],
    folder: Path | None,
    on_answer: Callable[[], None] | None = None,
    failures: FailureLimit | None = None,
) -> list[WriterAnswer]:
    """Answers to prompts, in the same order; cached answers are reused.

    Args:
        writer: The model.
        prompts: Conversations that end before the answer.
        folder: The cache folder; None caches nothing.
        on_answer: Called after each answer that was not cached.
        failures: How many prompts may go without an answer; None: the first that does raises.
    """
    cache = AnswerCache(folder, writer.identity, on_answer, failures)
    return _ask_uncached(prompts, cache, lambda new: writer.write(new, cache))


def weigh_labels(
    writer: Writer,
    prompts: Sequence[Turns],
    labels: Sequence[str],
    folder: Path | None,
    failures: FailureLimit | None = None,
) -> list[WriterAnswer]:
    """How likely a model answers each prompt with one label or another; the text of an answer is the likeliest.

    Args:
        writer: The model.
        prompts: Conversations that end before the answer.
        labels: The answers that are weighed, such as ``("A", "B")``.
        folder: The cache folder; None caches nothing.
        failures: How many prompts may go without an answer; None: the first that does raises.

    Raises:
        LabelsRefused: The server gives no log-probabilities.
    """
    cache = AnswerCache(folder, {**writer.identity, "labels": "|".join(labels)}, None, failures)
    return _ask_uncached(prompts, cache, lambda new: writer.weigh(new, labels, cache))


def choose_label(labels: Sequence[str], masses: Sequence[float], tokens: tuple[int | None, int | None]) -> WriterAnswer:
    """The answer that weighed labels are, from what probability each of them has; none where all have none."""
    total = sum(masses)
    if not total > 0:
        return WriterAnswer(None, NO_LABEL, *tokens)
    shares = tuple(mass / total for mass in masses)
    return WriterAnswer(labels[shares.index(max(shares))], "", *tokens, labels=shares)


def _ask_uncached(
    prompts: Sequence[Turns], cache: AnswerCache, ask_new: Callable[[list[Turns]], list[WriterAnswer]]
) -> list[WriterAnswer]:
    import orjson

    cached_answers = [cache.find(prompt) for prompt in prompts]
    uncached = [prompt for prompt, cached in zip(prompts, cached_answers, strict=True) if cached is None]
    # Repeated prompts are sent once.
    distinct = list({orjson.dumps(prompt): prompt for prompt in uncached}.values())
    new_answers = dict(zip((orjson.dumps(prompt) for prompt in distinct), ask_new(distinct), strict=True))
    return [cached or new_answers[orjson.dumps(prompt)] for prompt, cached in zip(prompts, cached_answers, strict=True)]
