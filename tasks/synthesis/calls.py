"""Calls of the teacher and the judge: cached, retried when unusable, counted, and limited.

Tokens and cost are those of all calls for the rows, including calls of earlier, interrupted runs: a resumed run
counts cached answers as calls, so its figures equal those of an uninterrupted one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tasks.language_models.writers.answers import AnswerCache, Turns, Writer, WriterAnswer, ask_fully
from tasks.language_models.writers.cost import CallUsage, Price, compute_cost, estimate_tokens
from tasks.language_models.writers.reading import Unusable
from tasks.synthesis.params import Synthesis

log = logging.getLogger(__name__)

STEPS = ("topics", "instructions", "answers", "critique", "rewrite")
# Distance between the seeds of two rounds, larger than the number of attempts.
SEEDS_PER_ROUND = 100

T = TypeVar("T")


class Calls:
    """All calls of a run.

    Args:
        settings: Models, prices, limits.
        folder: Cache of the answers.
        on_answer: Called after each answered call that was not cached.
    """

    def __init__(self, settings: Synthesis, folder: Path, on_answer: Callable[[], None] | None = None) -> None:
        self.settings, self.folder, self._on_answer = settings, folder, on_answer
        self.steps: dict[str, CallUsage] = {step: CallUsage() for step in STEPS}
        self.ended = ""
        self.fresh = 0
        self._counted: set[str] = set()

    @property
    def calls(self) -> int:
        return sum(usage.calls for usage in self.steps.values())

    @property
    def cost(self) -> float:
        return sum(usage.cost for usage in self.steps.values())

    def model(self, step: str) -> Writer:
        """The model that is asked in a step."""
        settings = self.settings
        return (settings.judge or settings.teacher) if step == "critique" else settings.teacher

    def ask(
        self, step: str, prompts: Sequence[Turns], read: Callable[[str], T], round_number: int = 0
    ) -> list[T | Unusable]:
        """Ask, and retry with other seeds where the answer is unusable.

        Args:
            step: The step that asks.
            prompts: The prompts.
            read: Parses an answer, or raises `Unusable`.
            round_number: Changes the seed, which gives another answer to the same prompt.

        Returns:
            For each prompt the parsed answer, or why there is none.

        Raises:
            PipelineError: The model does not answer at all.
        """
        results: list[T | Unusable] = [Unusable("not asked")] * len(prompts)
        unanswered = list(range(len(prompts)))
        model = self.model(step)
        for attempt in range(self.settings.attempts if model.varies else 1):
            reseeded = model.reseed(round_number * SEEDS_PER_ROUND + attempt)
            waiting, unanswered = unanswered, []
            while waiting:
                affordable = self._afford(step, reseeded, [prompts[index] for index in waiting])
                if not affordable:
                    if attempt == 0:
                        for index in waiting:
                            results[index] = Unusable(self.ended)
                    break
                batch, waiting = waiting[:affordable], waiting[affordable:]
                answers = ask_fully(reseeded, [prompts[index] for index in batch], self.folder, self._report_answer)
                for index, answer in zip(batch, answers, strict=True):
                    results[index] = self._parse(step, reseeded, prompts[index], answer, read)
                    if isinstance(results[index], Unusable):
                        unanswered.append(index)
        return results

    def _parse(
        self, step: str, model: Writer, prompt: Turns, answer: WriterAnswer, read: Callable[[str], T]
    ) -> T | Unusable:
        """Count an answer and parse it."""
        counts = self._count(step, model, prompt, answer)
        try:
            if answer.text is None:
                raise Unusable(answer.why)
            value = read(answer.text)
        except Unusable as error:
            self.steps[step].unusable[str(error)] += counts
            return error
        self.steps[step].usable += counts
        return value

    def _report_answer(self) -> None:
        self.fresh += 1
        if self._on_answer:
            self._on_answer()

    def _count(self, step: str, model: Writer, prompt: Turns, answer: WriterAnswer) -> bool:
        """Count a call once; returns whether it was new."""
        name = AnswerCache(None, model.identity).name(prompt)
        if name in self._counted:
            return False
        self._counted.add(name)
        self.steps[step].add(prompt, answer, find_price(self.settings, step))
        return True

    def _afford(self, step: str, model: Writer, prompts: Sequence[Turns]) -> int:
        """How many of these prompts, from the first on, the limits allow; 0 when a limit is reached."""
        limits, price = self.settings.limits, find_price(self.settings, step)
        calls, cost = self.calls, self.cost
        cache = AnswerCache(None, model.identity)
        new: set[str] = set()
        for index, prompt in enumerate(prompts):
            if (name := cache.name(prompt)) in self._counted or name in new:
                continue
            new.add(name)
            calls += 1
            cost += compute_cost(estimate_tokens(prompt), model.max_tokens, price)
            if limits.calls is not None and calls > limits.calls:
                reason = f"limit of {limits.calls:,} calls reached"
            elif limits.cost is not None and cost > limits.cost:
                reason = f"limit of cost {limits.cost:g} reached"
            else:
                continue
            self.ended = reason if index == 0 else self.ended
            return index
        return len(prompts)


def find_price(settings: Synthesis, step: str) -> Price:
    """The price of the model of a step."""
    if step != "critique":
        return settings.teacher_price
    return settings.judge_price or (Price() if settings.judge else settings.teacher_price)
