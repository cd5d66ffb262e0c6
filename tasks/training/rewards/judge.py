"""A language model that reads the prompt and the answer and gives points (Zheng et al. 2023, arXiv:2306.05685).

Any model behind OpenAI's protocol, or a model folder. It is asked for a number between the ends of ``scale``, which
becomes 0 to 1. Its verdicts are kept by a hash of what it was asked, beside the checkpoints, so that a resumed run pays
for none twice and gets the same ones. A verdict that cannot be read is asked for again with another seed, and after
``attempts`` of them the run stops: no answer is rewarded with a number that nobody gave.

Example: ``{name: judge, writer: {name: openai, url: "http://127.0.0.1:8000/v1", model: judge, temperature: 0},
criteria: "polite, and answers what was asked"}``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.language_models.writers import AnyWriter
from tasks.language_models.writers.answers import Turns, ask_fully
from tasks.language_models.writers.local import Local, list_model_files
from tasks.language_models.writers.mixture import MixtureOfAgents
from tasks.training.rewards.reward import BINARY, AnswerAttempt, Bounds, Reference, Scorer, weight_field

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Judge(Section):
    """Reward by a judge's points."""

    name: Literal["judge"] = "judge"
    weight: float = weight_field()
    writer: AnyWriter = Field(default=Local(path="models/judge", max_tokens=16), description="the model that judges")
    criteria: str = Field(
        default="helpful, correct, and no longer than needed", min_length=1, description="what good answers are"
    )
    scale: tuple[int, int] = Field(default=(1, 10), description="lowest and highest points")
    shows_reference: bool = Field(default=False, description="the judge also reads the row's own answer")
    attempts: int = Field(default=3, ge=1, description="times a verdict that cannot be read is asked for")

    @model_validator(mode="after")
    def _is_a_scale(self) -> Judge:
        if self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale {list(self.scale)} has no room; give the lowest points first, such as [1, 10]")
        return self

    @property
    def needs(self) -> tuple[Reference, ...]:
        return ("answer",) if self.shows_reference else ()

    @property
    def bounds(self) -> Bounds:
        return BINARY

    def problems(self) -> list[str]:
        if isinstance(self.writer, Local) and not (Path(self.writer.path) / "config.json").is_file():
            return [
                f"rewards: judge: {self.writer.path} holds no config.json; set writer: {{name: local, path: <folder>}} "
                "or {name: openai, url: ..., model: ...}"
            ]
        return []

    def files(self) -> list[Path]:
        writers: list[Any] = [self.writer]
        if isinstance(self.writer, MixtureOfAgents):
            writers = [*(agent for layer in self.writer.layers for agent in layer), self.writer.aggregator]
        return [file for one in writers if isinstance(one, Local) for file in list_model_files(Path(one.path))]

    def describe(self) -> str:
        return f"judged by {self.writer.describe()}: {self.criteria}"

    def open(self, cache: Path | None) -> Scorer:
        def score(attempts: Sequence[AnswerAttempt]) -> list[float]:
            return self._score(attempts, None if cache is None else cache / "judge")

        return score

    def _score(self, attempts: Sequence[AnswerAttempt], cache: Path | None) -> list[float]:
        prompts = [self._ask_about(attempt) for attempt in attempts]
        points: list[float | None] = [None] * len(attempts)
        heard = [""] * len(attempts)
        for number in range(self.attempts):
            open_ones = [place for place, found in enumerate(points) if found is None]
            answers = ask_fully(self.writer.reseed(number), [prompts[place] for place in open_ones], cache)
            for place, answer in zip(open_ones, answers, strict=True):
                heard[place] = answer.text if answer.text is not None else answer.why
                points[place] = self._read(answer.text)
        lowest, highest = self.scale
        values = []
        for attempt, found, text in zip(attempts, points, heard, strict=True):
            if found is None:
                raise PipelineError(
                    f"reward judge: row {attempt.row}: {self.writer.describe()} gave no number from {lowest} to "
                    f"{highest} in {self.attempts} attempts, last {text[:80]!r}; change criteria, scale or the writer"
                )
            values.append((found - lowest) / (highest - lowest))
        return values

    def _ask_about(self, attempt: AnswerAttempt) -> Turns:
        shown = "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in attempt.prompt)
        reference = f"\n\nA right answer:\n{attempt.reference}" if self.shows_reference else ""
        lowest, highest = self.scale
        return [
            {
                "role": "user",
                "content": (
                    f"Judge the answer at the end of this conversation. Good answers are {self.criteria}.\n\n"
                    f"{shown}{reference}\n\nThe answer to judge:\n{attempt.answer}\n\n"
                    f"Reply with one number from {lowest} (worst) to {highest} (best) and nothing else."
                ),
            }
        ]

    def _read(self, text: str | None) -> float | None:
        """The points of a verdict: its last number, if that is on the scale."""
        numbers = _NUMBER.findall(text or "")
        if not numbers:
            return None
        found = float(numbers[-1])
        return found if self.scale[0] <= found <= self.scale[1] else None
