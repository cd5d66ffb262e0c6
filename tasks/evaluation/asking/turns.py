"""Conversations of several turns: what comes next is asked after the model's own answer to what came before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tasks.evaluation.asking.question import Question, Reply

# Replies of a model to questions of one turn, in their order; the text names what is asked beside a progress bar.
AskOnce = Callable[[Sequence[Question], str], Sequence[Reply]]


def ask_conversations(ask: AskOnce, questions: Sequence[Question], title: str) -> list[Reply]:
    """Replies to questions, in their order, with those to their later turns in ``later``.

    All conversations are asked their next turn at once. A conversation that the model cannot be asked to its end has
    the reason in ``unfit`` or ``problem``, whatever it answered before.

    Args:
        ask: Asks a model, opened here (`tasks.evaluation.asking.ask`) or behind a URL
            (`tasks.evaluation.asking.endpoint`).
        questions: What to ask.
        title: Name beside the progress bar.
    """
    replies = list(ask(questions, title))
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
        found = ask(following, f"{title}, turn {turn + 2}")
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
