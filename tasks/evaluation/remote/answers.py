"""Answers of a model behind a URL to the held-out items and the questions of suites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.endpoint import AnswerEndpoint, ask_endpoint
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.asking.turns import ask_conversations
from tasks.evaluation.items import Item, hash_items
from tasks.evaluation.outcomes import ModelName, Outcome, Suites

NO_SUITES: Suites = {}


def answer_with_endpoint(
    name: ModelName, endpoint: AnswerEndpoint, items: Sequence[Item], max_new_tokens: int, suites: Suites = NO_SUITES
) -> Outcome:
    """Answers of a model behind a URL; it gives no losses, which are not numbers.

    Args:
        name: What the model is called.
        endpoint: The model.
        items: Items to answer.
        max_new_tokens: Longest answer, in tokens.
        suites: Key of a suite to its questions; one that gets no reply has a problem, and the others go on.

    Raises:
        PipelineError: An answer did not come.
    """
    questions = [Question(item.id, prompt=item.prompt) for item in items]
    asked = [place for place, item in enumerate(items) if item.prompt]
    replies = [Reply()] * len(items)
    given = ask_endpoint(endpoint, [questions[place] for place in asked], max_new_tokens, f"{name}: answering")
    for place, reply in zip(asked, given, strict=True):
        replies[place] = reply
    if problems := [reply.problem for reply in replies if reply.problem]:
        raise PipelineError(
            f"{name}: {len(problems):,} of {len(items):,} answers did not come (the first: {problems[0]}); check that "
            f"{endpoint.url} is up and serves {endpoint.model}, and run again"
        )

    def ask(some: Sequence[Question], title: str) -> list[Reply]:
        return ask_endpoint(endpoint, some, max_new_tokens, title)

    return Outcome(
        name,
        [reply.text for reply in replies],
        np.array([reply.finished for reply in replies]),
        np.full(len(items), np.nan),
        np.zeros(len(items), dtype=np.int64),
        np.array([reply.tokens for reply in replies]),
        items=hash_items(items),
        replies={key: ask_conversations(ask, some, f"{name}, {key}") for key, some in suites.items()},
    )
