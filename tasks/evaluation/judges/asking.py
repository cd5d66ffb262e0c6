"""Asking the models of a panel: for a label, by its probability or in words, kept and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.language_models.writers.answers import (
    NO_ANSWER,
    NO_LABEL,
    TOO_LONG,
    FailureLimit,
    LabelsRefused,
    Turns,
    ask_fully,
    weigh_labels,
)
from tasks.language_models.writers.cost import CallUsage
from tasks.language_models.writers.reading import Unusable, read_json

if TYPE_CHECKING:
    from tasks.evaluation.judges.judge import HowRead, JudgeSection, JudgingModel

logger = logging.getLogger(__name__)

Shares = tuple[float, ...]
REMINDER = "\n\nYour reply must be the JSON object alone, with nothing before or after it."
# Another attempt does not help: the client has tried again itself, or the prompt stays too long.
FINAL = (NO_ANSWER, TOO_LONG)


@dataclass(frozen=True)
class JudgeQuestion:
    """What a judge is asked, in the two ways that a verdict is read.

    Attributes:
        direct: Asks for the label alone.
        reasoned: Asks for a JSON object with a reason and the label under ``verdict``.
    """

    direct: str
    reasoned: str


@dataclass
class Panel:
    """The models of a judge while they are asked.

    Attributes:
        models: Who judges.
        verdict: How a verdict is read.
        attempts: Times a verdict that cannot be read is asked for.
        folder: Where verdicts are kept; None keeps none.
        usage: What each model was asked and what that costs, kept verdicts included.
        weighed: Of each model that was asked: whether its verdicts are log-probabilities.
        failures: Of each model: how many of its questions went without an answer.
    """

    models: tuple[JudgingModel, ...]
    verdict: HowRead
    attempts: int
    folder: Path | None
    usage: list[CallUsage] = field(default_factory=list)
    weighed: list[bool] = field(default_factory=list)
    failures: list[FailureLimit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.usage = [CallUsage() for _ in self.models]
        self.weighed = [False] * len(self.models)
        self.failures = [FailureLimit() for _ in self.models]

    @classmethod
    def of(cls, judge: JudgeSection, folder: Path | None) -> Panel:
        """The panel of a judge."""
        return cls(judge.panel, judge.verdict, judge.attempts, folder)

    @property
    def names(self) -> list[str]:
        """What the models are called, no two alike."""
        names = [one.writer.describe() for one in self.models]
        return [f"{name} ({place + 1})" if names.count(name) > 1 else name for place, name in enumerate(names)]

    def ask(
        self,
        questions: Sequence[JudgeQuestion],
        labels: Sequence[str],
        read: Callable[[str, Sequence[str]], int],
    ) -> list[list[Shares | None]]:
        """For each model and question the share of each label; None where there is no verdict.

        Args:
            questions: What is asked.
            labels: What may be answered.
            read: Finds the label of an answer in words, or raises `Unusable`.

        Raises:
            LabelsRefused: Probabilities are wanted and the engine gives none.
        """
        return [self._ask_model(place, questions, labels, read) for place in range(len(self.models))]

    def _ask_model(
        self,
        place: int,
        questions: Sequence[JudgeQuestion],
        labels: Sequence[str],
        read: Callable[[str, Sequence[str]], int],
    ) -> list[Shares | None]:
        found: list[Shares | None] = [None] * len(questions)
        open_ones = list(range(len(questions)))
        if self.verdict != "text" and questions:
            open_ones = self._weigh(place, questions, labels, found)
        writer = self.models[place].writer
        for attempt in range(self.attempts if writer.varies else min(self.attempts, 2)):
            if not open_ones:
                break
            prompts = [as_turns(questions[one].reasoned + REMINDER * bool(attempt)) for one in open_ones]
            answers = ask_fully(writer.reseed(attempt), prompts, self.folder, failures=self.failures[place])
            left = []
            for one, prompt, answer in zip(open_ones, prompts, answers, strict=True):
                if answer.why != NO_ANSWER:
                    self.usage[place].add(prompt, answer, self.models[place].price)
                try:
                    if answer.text is None:
                        raise Unusable(answer.why)
                    chosen = read(answer.text, labels)
                    found[one] = tuple(float(number == chosen) for number in range(len(labels)))
                    self.usage[place].usable += 1
                except Unusable as error:
                    self.usage[place].unusable[str(error)] += 1
                    if str(error) not in FINAL:
                        left.append(one)
            open_ones = left
        return found

    def _weigh(
        self, place: int, questions: Sequence[JudgeQuestion], labels: Sequence[str], found: list[Shares | None]
    ) -> list[int]:
        """Fill in the shares by log-probabilities; returns what is to be asked in words."""
        writer, failures = self.models[place].writer, self.failures[place]
        prompts = [as_turns(question.direct) for question in questions]
        try:
            # The first alone, so that an engine without log-probabilities is not asked for them again and again.
            weigh_labels(writer, prompts[:1], labels, self.folder, failures)
            answers = weigh_labels(writer, prompts, labels, self.folder, failures)
        except LabelsRefused as refusal:
            if self.verdict == "probabilities":
                raise
            logger.info("%s: %s; verdicts are read from its text", writer.describe(), refusal)
            return list(range(len(questions)))
        self.weighed[place] = True
        in_words = []
        for one, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            if answer.why != NO_ANSWER:
                self.usage[place].add(prompt, answer, self.models[place].price)
            if answer.labels is not None:
                found[one] = answer.labels
                self.usage[place].usable += 1
                continue
            self.usage[place].unusable[answer.why] += 1
            if answer.why == NO_LABEL and self.verdict == "auto":
                in_words.append(one)
        return in_words


def as_turns(text: str) -> Turns:
    """A prompt of one turn."""
    return [{"role": "user", "content": text}]


def read_label(text: str, labels: Sequence[str]) -> int:
    """The place of the label under ``verdict`` of a JSON object.

    Raises:
        Unusable: There is none, or another one.
    """
    value = read_json(text)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    verdict = value.get("verdict") if isinstance(value, dict) else None
    if verdict is None or isinstance(verdict, bool | list | dict):
        raise Unusable("wrong schema")
    if isinstance(verdict, float) and verdict.is_integer():
        verdict = int(verdict)
    if (label := str(verdict).strip()) not in labels:
        raise Unusable("unknown verdict")
    return list(labels).index(label)
