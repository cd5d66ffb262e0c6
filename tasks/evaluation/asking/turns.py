"""Conversations of several turns: what comes next is asked after the model's own answer to what came before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tasks.evaluation.asking.ask import AnswerLimits, ask_questions
from tasks.evaluation.asking.question import Question, Reply


def ask_conversations(
    model: Any, tokenizer: Any, questions: Sequence[Question], limits: AnswerLimits, title: str
) -> list[Reply]:
    """Replies to questions, in their order, with those to their later turns in ``later``.

    The arguments are those of `ask_questions`. All conversations are asked their next turn in one batch. A conversation
    that the model cannot be asked to its end has the reason in ``unfit``, whatever it answered before.
    """
    replies = ask_questions(model, tokenizer, questions, limits, title)
    asked = {place: question for place, question in enumerate(questions) if question.later}
    prompts = {place: question.prompt for place, question in asked.items()}
    turn = 0
    while asked := {
        place: question
        for place, question in asked.items()
        if turn < len(question.later) and not (replies[place].unfit or replies[place].problem)
    }:
        for place, question in asked.items():
            said = replies[place].later[-1] if turn else replies[place].text
            prompts[place] = (
                *(dict(each) for each in prompts[place] if not isinstance(each, str)),
                {"role": "assistant", "content": said},
                {"role": "user", "content": question.later[turn]},
            )
        following = [replace(question, prompt=prompts[place], later=()) for place, question in asked.items()]
        found = ask_questions(model, tokenizer, following, limits, f"{title}, turn {turn + 2}")
        for place, reply in zip(asked, found, strict=True):
            before = replies[place]
            replies[place] = replace(
                before,
                later=(*before.later, reply.text),
                tokens=before.tokens + reply.tokens,
                finished=before.finished and reply.finished,
                unfit=reply.unfit,
                problem=reply.problem,
            )
        turn += 1
    return replies
