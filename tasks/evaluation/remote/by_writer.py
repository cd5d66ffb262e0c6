"""Answers of models that are only asked, behind a URL or as a mixture of several: nothing but their texts is known."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.ask import cut_at
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.asking.turns import ask_conversations
from tasks.evaluation.items import Item, hash_items
from tasks.evaluation.outcomes import ModelName, Outcome, Suites
from tasks.evaluation.remote.answers import NO_SUITES
from tasks.language_models.writers.answers import CUT_OFF, NO_ANSWER, FailureLimit, ask_fully

if TYPE_CHECKING:
    from tasks.language_models.writers import AnyWriter

logger = logging.getLogger(__name__)


def answer_with_writer(
    name: ModelName, writer: AnyWriter, items: Sequence[Item], folder: Path | None, suites: Suites = NO_SUITES
) -> Outcome:
    """Answers of a writer, by its own settings; losses are not a number, as no writer gives them.

    What has no answer, because it was cut off or refused or the server failed, is scored as an empty one.

    Args:
        name: What the model is called.
        writer: The model.
        items: Items to answer.
        folder: Where answers are kept; None keeps none.
        suites: Key of a suite to its questions.

    Raises:
        PipelineError: There is no answer at all.
    """
    asked = [place for place, item in enumerate(items) if item.prompt]
    failures = FailureLimit()
    prompts = [[dict(turn) for turn in items[place].prompt] for place in asked]
    found = dict(zip(asked, ask_fully(writer, prompts, folder, failures=failures), strict=True))
    missing = [answer.why for answer in found.values() if answer.text is None]
    if len(missing) == len(found):
        why = failures.reason or ", ".join(sorted(set(missing))) or "no item has a prompt"
        raise PipelineError(f"{name}: not one of {len(items):,} items is answered ({why}); check the writer")
    if missing:
        reasons = ", ".join(sorted(set(missing)))
        logger.warning("%s: %s of %s items have no answer (%s), and are scored as empty", name, len(missing),
                       len(found), reasons)  # fmt: skip
    answers = [found.get(place) for place in range(len(items))]

    def ask(some: Sequence[Question], title: str) -> list[Reply]:
        return ask_writer(writer, some, folder)

    return Outcome(
        name,
        [(answer.text or "") if answer else "" for answer in answers],
        np.array([answer is None or answer.why != CUT_OFF for answer in answers]),
        np.full(len(items), np.nan),
        np.ones(len(items), dtype=np.int64),
        np.array([(answer.completion_tokens or 0) if answer else 0 for answer in answers], dtype=np.int64),
        items=hash_items(items),
        replies={key: ask_conversations(ask, some, f"{name}, {key}") for key, some in suites.items()},
    )


def ask_writer(writer: AnyWriter, questions: Sequence[Question], folder: Path | None) -> list[Reply]:
    """Replies to questions of one turn, in their order; likelihoods and answers to plain text are not to be had.

    Args:
        writer: The model.
        questions: What to ask.
        folder: Where answers are kept; None keeps none.
    """
    replies = [Reply(unfit=f"{writer.describe()} only answers conversations")] * len(questions)
    asked = [
        (place, [dict(turn) for turn in question.prompt if not isinstance(turn, str)])
        for place, question in enumerate(questions)
        if question.kind == "answer" and not isinstance(question.prompt, str)
    ]
    failures = FailureLimit()
    found = ask_fully(writer, [prompt for _, prompt in asked], folder, failures=failures)
    for (place, _), answer in zip(asked, found, strict=True):
        problem = (failures.reason or answer.why) if answer.why == NO_ANSWER else ""
        text, tokens = answer.text or "", answer.completion_tokens or 0
        cut = cut_at(text, questions[place].stops)
        replies[place] = Reply(cut, tokens, answer.why != CUT_OFF or len(cut) < len(text), problem=problem)
    return replies
