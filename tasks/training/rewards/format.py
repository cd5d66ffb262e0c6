"""The share of the wanted parts that an answer has, in their order: tags, a beginning, an end.

Rewards a form while its content is learned by another reward, as DeepSeek-R1's format reward does (arXiv:2501.12948):
``<think>`` and ``<answer>``, each closed, one after the other. ``ended`` also wants the model to have ended the answer.

Example: ``{name: format, tags: [think, answer]}`` gives "<think>2 + 2</think> 4" a half.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.training.rewards.reward import BINARY, AnswerAttempt, Bounds, Reference, Scorer, weight_field


class AnswerFormat(Section):
    """Reward the form of an answer."""

    name: Literal["format"] = "format"
    weight: float = weight_field()
    starts: str = Field(default="", description="text that the answer begins with")
    tags: tuple[str, ...] = Field(default=(), description="names of tags that follow one another, each once")
    ends: str = Field(default="", description="text that the answer ends with")
    ended: bool = Field(default=False, description="the model has ended the answer within the limit")

    @model_validator(mode="after")
    def _asks_for_something(self) -> AnswerFormat:
        if not (self.starts or self.tags or self.ends or self.ended):
            raise ValueError("give starts, tags, ends or ended: true")
        return self

    @property
    def needs(self) -> tuple[Reference, ...]:
        return ()

    @property
    def bounds(self) -> Bounds:
        return BINARY

    def problems(self) -> list[str]:
        return []

    def files(self) -> list[Path]:
        return []

    def describe(self) -> str:
        parts = [f"starting with {self.starts!r}"] if self.starts else []
        parts += [f"with the tags {', '.join(self.tags)}"] if self.tags else []
        parts += [f"ending with {self.ends!r}"] if self.ends else []
        return ", ".join(parts + (["ended by the model"] if self.ended else []))

    def open(self, cache: Path | None) -> Scorer:
        return self._score

    def _score(self, attempts: Sequence[AnswerAttempt]) -> list[float]:
        return [self._judge(attempt) for attempt in attempts]

    def _judge(self, attempt: AnswerAttempt) -> float:
        text = attempt.answer.strip()
        held = [text.startswith(self.starts)] if self.starts else []
        place = 0
        for tag in self.tags:
            name = re.escape(tag)
            once = len(re.findall(f"<{name}>", text)) == len(re.findall(f"</{name}>", text)) == 1
            found = re.compile(f"<{name}>.*?</{name}>", re.DOTALL).search(text, place) if once else None
            held.append(found is not None)
            place = found.end() if found else place
        held += [text.endswith(self.ends)] if self.ends else []
        held += [attempt.finished] if self.ended else []
        return sum(held) / len(held)
