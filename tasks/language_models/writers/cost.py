"""What asking a model costs: calls, tokens and money, counted by the server or else estimated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.language_models.writers.answers import Turns, WriterAnswer

# Minimum bytes per token, with which tokens are estimated before the server has counted them.
BYTES_PER_TOKEN = 3
# Tokens of the chat template per turn, estimated.
TOKENS_PER_TURN = 4


class Price(Section):
    """Price of a model per million tokens, in any one currency."""

    prompt: float = Field(default=0.0, ge=0, description="price of prompt tokens")
    completion: float = Field(default=0.0, ge=0, description="price of completion tokens")


@dataclass
class CallUsage:
    """Calls of a model, their tokens and their cost.

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

    def add(self, prompt: Turns, answer: WriterAnswer, price: Price) -> None:
        """Count an answered call."""
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        if prompt_tokens is None or completion_tokens is None:
            prompt_tokens = estimate_tokens(prompt)
            completion_tokens = len((answer.text or "").encode("utf-8", "replace")) // BYTES_PER_TOKEN
            self.estimated += 1
        self.calls += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.cost = compute_cost(self.prompt_tokens, self.completion_tokens, price)


def compute_cost(prompt: int, completion: int, price: Price) -> float:
    """Cost of tokens, in the currency of the prices."""
    return (prompt * price.prompt + completion * price.completion) / 1e6


def estimate_tokens(prompt: Turns) -> int:
    """Estimated tokens of a prompt; rather too many for text in Latin letters."""
    return sum(len(turn["content"].encode("utf-8", "replace")) // BYTES_PER_TOKEN + TOKENS_PER_TURN for turn in prompt)
