"""A question of a suite and a model's reply to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["answer", "choices", "texts"]

# A conversation that ends before the answer, rendered by each model's chat template; or plain text, taken as it is.
Prompt = tuple[dict[str, str], ...] | str


@dataclass(frozen=True)
class Option:
    """A text whose likelihood is asked.

    Attributes:
        text: The text, its leading space included where it has one.
        context: What stands before it, where the options of a question do not share the question's prompt.
    """

    text: str
    context: Prompt | None = None


@dataclass(frozen=True)
class Question:
    """One question, the same for every model.

    Attributes:
        key: Names it in its suite.
        kind: ``answer``: greedy text after the prompt; ``choices``: log-likelihood of each option after the prompt;
            ``texts``: log-likelihood of each option as a text of its own, of any length.
        prompt: What is asked; not read for ``texts``.
        options: The texts of ``choices`` and ``texts``.
        cluster: Questions of one cluster are not independent and are resampled together; its own key where empty.
        max_new_tokens: Longest answer; the params' where None.
        stops: Texts that end an answer; they are cut off.
        texts: What of it must not stand in training rows; the prompt where there are none.
        later: What the user says next, one after the other, each after the model's answer to what came before.
        facts: What its suite scores with: the right answer, say. No model sees it.
    """

    key: str
    kind: Kind = "answer"
    prompt: Prompt = ()
    options: tuple[Option, ...] = ()
    cluster: str = ""
    max_new_tokens: int | None = None
    stops: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What is drawn when questions are resampled."""
        return self.cluster or self.key

    @property
    def asked(self) -> list[Any]:
        """Everything a model sees, for a hash."""
        options = [[option.text, option.context] for option in self.options]
        return [self.kind, self.prompt, options, self.max_new_tokens, self.stops, self.later]


@dataclass(frozen=True)
class Reply:
    """What a model makes of a question.

    Attributes:
        text: The answer, without what stopped it; empty where none was asked.
        tokens: Tokens of all answers.
        finished: Whether it ended by itself or at a stop, rather than at a limit.
        log_likelihoods: Of each option the sum over its tokens, in nats.
        greedy: Of each option whether it is what the model would write.
        counts: Of each option its number of tokens.
        truncated: Whether the beginning of a plain prompt was cut to fit into the context.
        unfit: Why the model cannot be asked this at all (context, chat template); the question is left out for all.
        problem: Why there is no reply although there should be one; the question counts as failed.
        later: The answers to the question's later turns.
    """

    text: str = ""
    tokens: int = 0
    finished: bool = True
    log_likelihoods: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()
    counts: tuple[int, ...] = ()
    truncated: bool = False
    unfit: str = ""
    problem: str = ""
    later: tuple[str, ...] = ()
