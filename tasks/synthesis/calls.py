"""Calls of the teacher and the judge: kept, repeated when unusable, counted, and within the limits.

Tokens and cost are those of all calls that the rows took, those of earlier, broken runs with them: a run that goes on
counts what is kept as if it had asked, so its figures are those of an unbroken one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tasks.corpus.writers.answers import Keeper, Turns, Writer, WriterAnswer, ask_fully
from tasks.synthesis.params import Price, Synthesis
from tasks.synthesis.reading import Unusable

log = logging.getLogger(__name__)

STEPS = ("topics", "instructions", "answers", "critique", "rewrite")
# Bytes of text a token stands for, at least: what a limit of cost counts with before the server has counted.
BYTES_PER_TOKEN = 3
# Seeds of the rounds lie so far apart that attempts of one do not meet the next.
ROUND = 100
# Chats cost some tokens beyond their texts.
TURN_TOKENS = 4

T = TypeVar("T")


@dataclass
class Spent:
    """What a step took.

    Attributes:
        calls: Answered calls.
        usable: Of them, those whose answer could be read.
        unusable: Reason to number of the others.
        prompt_tokens: As the server counted, estimated where it did not.
        completion_tokens: The same of the answers.
        estimated: Calls whose tokens were estimated.
        cost: In the currency of the prices.
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
    """Tokens of a prompt, rather more than fewer for text in Latin letters."""
    return sum(len(turn["content"].encode("utf-8", "replace")) // BYTES_PER_TOKEN + TURN_TOKENS for turn in prompt)


class Calls:
    """All calls of a run.

    Args:
        settings: Models, prices, limits.
        folder: Where answers are kept.
        told: Called after each answered call that was not kept.
    """

    def __init__(self, settings: Synthesis, folder: Path, told: Callable[[], None] | None = None) -> None:
        self.settings, self.folder, self._told = settings, folder, told
        self.steps: dict[str, Spent] = {step: Spent() for step in STEPS}
        self.ended = ""
        self.fresh = 0
        self._counted: set[str] = set()

    @property
    def calls(self) -> int:
        return sum(spent.calls for spent in self.steps.values())

    @property
    def cost(self) -> float:
        return sum(spent.cost for spent in self.steps.values())

    def model(self, step: str) -> Writer:
        """Who is asked in a step."""
        settings = self.settings
        return (settings.judge or settings.teacher) if step == "critique" else settings.teacher

    def ask(
        self, step: str, prompts: Sequence[Turns], read: Callable[[str], T], round_number: int = 0
    ) -> list[T | Unusable]:
        """Ask, and ask again with other seeds where the answer cannot be used.

        Args:
            step: Which step asks.
            prompts: The questions.
            read: Makes something of an answer, or raises `Unusable`.
            round_number: Another one is another answer to the same question.

        Returns:
            Per question what was read, or why nothing was.

        Raises:
            PipelineError: The model does not answer at all.
        """
        found: list[T | Unusable] = [Unusable("not asked")] * len(prompts)
        open_ = list(range(len(prompts)))
        model = self.model(step)
        for attempt in range(self.settings.attempts if model.varies else 1):
            asked = model.reseed(round_number * ROUND + attempt)
            waiting, open_ = open_, []
            while waiting:
                affordable = self._afford(step, asked, [prompts[place] for place in waiting])
                if not affordable:
                    if attempt == 0:
                        found = [Unusable(self.ended) if place in waiting else one for place, one in enumerate(found)]
                    break
                part, waiting = waiting[:affordable], waiting[affordable:]
                answers = ask_fully(asked, [prompts[place] for place in part], self.folder, self._tell)
                for place, answer in zip(part, answers, strict=True):
                    found[place] = self._read(step, asked, prompts[place], answer, read)
                    if isinstance(found[place], Unusable):
                        open_.append(place)
        return found

    def _read(
        self, step: str, model: Writer, prompt: Turns, answer: WriterAnswer, read: Callable[[str], T]
    ) -> T | Unusable:
        """Count an answer and make something of it."""
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

    def _tell(self) -> None:
        self.fresh += 1
        if self._told:
            self._told()

    def _count(self, step: str, model: Writer, prompt: Turns, answer: WriterAnswer) -> bool:
        """Count a call once; whether it was new."""
        name = Keeper(None, model.identity).name(prompt)
        if name in self._counted:
            return False
        self._counted.add(name)
        sent, came = answer.prompt_tokens, answer.completion_tokens
        if sent is None or came is None:
            come = len((answer.text or "").encode("utf-8", "replace")) // BYTES_PER_TOKEN
            self.steps[step].add(estimate_tokens(prompt), come, find_price(self.settings, step), True)
        else:
            self.steps[step].add(sent, came, find_price(self.settings, step), False)
        return True

    def _afford(self, step: str, model: Writer, prompts: Sequence[Turns]) -> int:
        """How many of these questions, from the first on, may be asked at once; none: a limit is reached."""
        limits, price = self.settings.limits, find_price(self.settings, step)
        calls, cost = self.calls, self.cost
        keeper = Keeper(None, model.identity)
        new: set[str] = set()
        for place, prompt in enumerate(prompts):
            if (name := keeper.name(prompt)) in self._counted or name in new:
                continue
            new.add(name)
            calls += 1
            cost += compute_cost(estimate_tokens(prompt), model.max_tokens, price)
            if limits.calls is not None and calls > limits.calls:
                why = f"limit of {limits.calls:,} calls reached"
            elif limits.cost is not None and cost > limits.cost:
                why = f"limit of cost {limits.cost:g} reached"
            else:
                continue
            self.ended = why if place == 0 else self.ended
            return place
        return len(prompts)


def find_price(settings: Synthesis, step: str) -> Price:
    """What the model of a step costs."""
    if step != "critique":
        return settings.teacher_price
    return settings.judge_price or (Price() if settings.judge else settings.teacher_price)
