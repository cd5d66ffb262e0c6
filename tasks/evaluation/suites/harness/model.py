"""A model for lm-evaluation-harness that answers by this project's batched decoding.

Example:
    >>> lm_eval.simple_evaluate(BatchedModel(model, tokenizer), tasks=["arc_easy"])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.ask import AnswerLimits, ask_questions
from tasks.evaluation.suites.harness.requests import MAX_NEW_TOKENS, list_responses, make_question, write_turns


class BatchedModel(LM):
    """Greedy answers and log-likelihoods of a causal language model.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        batch_size: Requests at once.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 32) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.limits = AnswerLimits(MAX_NEW_TOKENS, batch_size)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path)

    def chat_template(self, chat_template: bool | str = False) -> str:
        return self.tokenizer.chat_template if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return write_turns(chat_history, add_generation_prompt)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return self._ask("loglikelihood", requests)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        return self._ask("loglikelihood_rolling", requests)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        return self._ask("generate_until", requests)

    def _ask(self, kind: str, requests: Sequence[Instance]) -> list[Any]:
        questions = [make_question(str(number), kind, [one.args]) for number, one in enumerate(requests)]
        replies = ask_questions(self.model, self.tokenizer, questions, self.limits, "lm_eval")
        for reply in replies:
            if reply.unfit or reply.problem:
                raise PipelineError(f"a request cannot be answered: {reply.unfit or reply.problem}")
        return [list_responses(question, reply)[0] for question, reply in zip(questions, replies, strict=True)]
