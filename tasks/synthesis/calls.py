"""Calls of the teacher and the judge: cached, retried when unusable, counted, and limited.

Tokens and cost are those of all calls for the rows, including calls of earlier, interrupted runs: a resumed run
counts cached answers as calls, so its figures equal those of an uninterrupted one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tasks.language_models.writers.answers import AnswerCache, Turns, Writer, WriterAnswer, ask_fully
from tasks.synthesis.params import Price, Synthesis
from tasks.synthesis.reading import Unusable

log = logging.getLogger(__name__)

STEPS = ("topics", "instructions", "answers", "critique", "rewrite")
# Minimum bytes per token, with which tokens are estimated before the server has counted them.
BYTES_PER_TOKEN = 3
# Distance between the seeds of two rounds, larger than the number of attempts.
SEEDS_PER_ROUND = 100
# Tokens of the chat template per turn, estimated.
TOKENS_PER_TURN = 4

T = TypeVar("T")


@dataclass
class StepUsage:
    """Calls, tokens and cost of a step.

    Attributes:
        calls: Answered calls.
        usable: Calls with an answer that could be parsed.
        unusable: Reason to number of calls with an unusable answer.
        prompt_tokens: Tokens of the prompts, as counted by the server or else estimated.
        completion_tokens: The same for the answers.
        estimated: Calls whose tokens were estimated.
        cost: Cost in the currency of the prices.
    """

    calls: int = 0
    usable: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    cost: float = 0.0

    def add(self, prompt: int, completion: int, price: Price, estimated: bool) -> None:
        self.calls += 1
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.estimated += estimated
        self.cost = compute_cost(self.prompt_tokens, self.completion_tokens, price)


def compute_cost(prompt: int, completion: int, price: Price) -> float:
    """Cost of tokens, in the currency of the prices."""
    return (prompt * price.prompt + completion * price.completion) / 1e6


def estimate_tokens(prompt: Turns) -> int:
    """Estimated tokens of a prompt; rather too many for text in Latin letters."""
    return sum(len(turn["content"].encode("utf-8", "replace")) // BYTES_PER_TOKEN + TOKENS_PER_TURN for turn in prompt)


class Calls:
    """All calls of a run.

    Args:
        settings: Models, prices, limits.
        folder: Cache of the answers.
        on_answer: Called after each answered call that was not cached.
    """

    def __init__(self, settings: Synthesis, folder: Path, on_answer: Callable[[], None] | None = None) -> None:
        self.settings, self.folder, self._on_answer = settings, folder, on_answer
        self.steps: dict[str, StepUsage] = {step: StepUsage() for step in STEPS}
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
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        if prompt_tokens is None or completion_tokens is None:
            completion_tokens = len((answer.text or "").encode("utf-8", "replace")) // BYTES_PER_TOKEN
            self.steps[step].add(estimate_tokens(prompt), completion_tokens, find_price(self.settings, step), True)
        else:
            self.steps[step].add(prompt_tokens, completion_tokens, find_price(self.settings, step), False)
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
