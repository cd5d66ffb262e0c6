"""Ask one model the questions of suites, through the same batched decoding as its answers to the held-out items."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from tasks.evaluation.asking.encode import begin_of, encode_option, encode_question, fit_pair
from tasks.evaluation.asking.question import Question, Reply
from tasks.language_models.decoding.likelihoods import Likelihood, Pair, score_continuations
from tasks.language_models.generation import context_length, count_virtual_tokens, generate_tokens
from tasks.language_models.templates.ends import ends_of, ends_of_text
from tasks.language_models.templates.rendering import TemplateRefusal

NOT_A_NUMBER = "the log-likelihood is not a number, so the model's weights are damaged"


@dataclass(frozen=True)
class AnswerLimits:
    """How long answers may be and how many questions are asked at once.

    Attributes:
        max_new_tokens: Longest answer where a question does not say, in tokens.
        batch_size: Questions, or options, at once.
        timeout_s: Longest time of an answer from its first token, in seconds; None: only tokens are limited.
    """

    max_new_tokens: int
    batch_size: int
    timeout_s: float | None = None


def ask_questions(
    model: Any, tokenizer: Any, questions: Sequence[Question], limits: AnswerLimits, title: str
) -> list[Reply]:
    """Replies to questions, in their order; one that the model cannot be asked has the reason in ``unfit``.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        questions: What to ask.
        limits: How long and how many at once.
        title: Name beside the progress bar.
    """
    size = context_length(model.config)
    context = None if size is None else size - count_virtual_tokens(model)
    numbered = dict(enumerate(questions))
    # Plain text and conversations end differently.
    texts = {n: one for n, one in numbered.items() if one.kind == "answer" and isinstance(one.prompt, str)}
    turns = {n: one for n, one in numbered.items() if one.kind == "answer" and n not in texts}
    scored = {n: one for n, one in numbered.items() if one.kind != "answer"}
    config = getattr(model, "generation_config", None)
    replies: dict[int, Reply] = {}
    for asked, find_ends in ((texts, ends_of_text), (turns, ends_of)):
        if asked:
            ends = find_ends(config, tokenizer)
            replies |= _answer(model, tokenizer, asked, ends, context, limits, f"{title}: answering")
    replies |= _score(model, tokenizer, scored, context, limits, f"{title}: likelihoods")
    return [replies[place] for place in range(len(questions))]


def _answer(
    model: Any,
    tokenizer: Any,
    questions: dict[int, Question],
    ends: frozenset[int],
    context: int | None,
    limits: AnswerLimits,
    title: str,
) -> dict[int, Reply]:
    """Greedy answers, by place of the question."""
    replies: dict[int, Reply] = {}
    prompts: list[list[int]] = []
    room: list[int] = []
    for place, question in questions.items():
        try:
            ids = encode_question(tokenizer, question.prompt)
        except TemplateRefusal as refusal:
            replies[place] = Reply(unfit=f"the chat template refuses it: {refusal.reason}")
            continue
        most = question.max_new_tokens or limits.max_new_tokens
        before = Reply()
        if context is not None and isinstance(question.prompt, str):
            # An answer that would leave no room for its question gets half of the context.
            most = most if most < context else max(1, context // 2)
            before = Reply(truncated=len(ids) > context - most)
            ids = ids[-(context - most) :]
        elif context is not None and len(ids) >= context:
            replies[place] = Reply(unfit=f"its {len(ids):,} tokens fill the context of {context:,}")
            continue
        replies[place] = before
        prompts.append(ids or [begin_of(tokenizer)])
        room.append(most if context is None else min(most, context - len(ids)))
    kept = [place for place in questions if not replies[place].unfit]
    if not kept:
        return replies
    watch = AnswerWatch(tokenizer, [questions[place].stops for place in kept], limits.timeout_s)
    size = limits.batch_size
    tokens = generate_tokens(model, prompts, room, ends, size, title, watch if watch.needed else None)
    for number, (place, ids) in enumerate(zip(kept, tokens, strict=True)):
        ended = bool(ids) and ids[-1] in ends
        text = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
        cut = cut_at(text, questions[place].stops)
        finished = (ended or len(cut) < len(text)) and number not in watch.timed_out
        replies[place] = replace(replies[place], text=cut, tokens=len(ids) - ended, finished=finished)
    return replies


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stops in it."""
    return text[: min((text.find(stop) for stop in stops if stop and stop in text), default=len(text))]


class AnswerWatch:
    """Ends answers at their stops, and when their batch takes too long."""

    def __init__(self, tokenizer: Any, stops: Sequence[Sequence[str]], timeout_s: float | None) -> None:
        self.tokenizer, self.stops, self.timeout_s = tokenizer, stops, timeout_s
        self.timed_out: set[int] = set()
        self.began: dict[int, float] = {}
        # A stop is complete within as many tokens as it has bytes; the last tokens of what comes before may be in it.
        self.tail = [max((len(stop.encode()) for stop in each), default=0) + 2 for each in stops]

    @property
    def needed(self) -> bool:
        return self.timeout_s is not None or any(any(each) for each in self.stops)

    def __call__(self, row: int, written: Sequence[int]) -> bool:
        if self.timeout_s is not None:
            now = time.monotonic()
            if now - self.began.setdefault(row, now) > self.timeout_s:
                self.timed_out.add(row)
                return True
        if not self.stops[row]:
            return False
        tail = self.tokenizer.decode(written[-self.tail[row] :], skip_special_tokens=True)
        return any(stop and stop in tail for stop in self.stops[row])


def _score(
    model: Any, tokenizer: Any, questions: dict[int, Question], context: int | None, limits: AnswerLimits, title: str
) -> dict[int, Reply]:
    """Log-likelihoods of the options, by place of the question."""
    replies: dict[int, Reply] = {}
    pairs: list[Pair] = []
    owners: list[tuple[int, int]] = []
    for place, question in questions.items():
        try:
            options = [encode_option(tokenizer, question, n, context) for n in range(len(question.options))]
        except TemplateRefusal as refusal:
            replies[place] = Reply(unfit=f"the chat template refuses it: {refusal.reason}")
            continue
        whole = [(number, pair) for number, windows in enumerate(options) for pair in windows]
        fitted = [(number, fit_pair(pair, context)) for number, pair in whole]
        if not whole or not all(after for _, (_, after) in whole):
            replies[place] = Reply(unfit="an option has no token")
        elif any(pair is None for _, pair in fitted):
            replies[place] = Reply(unfit=f"an option is longer than the context of {context:,} tokens")
        else:
            cut = [pair for _, pair in whole] != [pair for _, pair in fitted]
            replies[place] = Reply(truncated=cut)
            pairs += [pair for _, pair in fitted if pair is not None]
            owners += [(place, number) for number, _ in fitted]
    if not pairs:
        return replies
    padded = not count_virtual_tokens(model)
    found = score_continuations(model, pairs, len(tokenizer), limits.batch_size, title, padded)
    parts: dict[tuple[int, int], list[Likelihood]] = {}
    for owner, one in zip(owners, found, strict=True):
        parts.setdefault(owner, []).append(one)
    for place in {place for place, _ in owners}:
        of_options = [parts[place, number] for number in range(len(questions[place].options))]
        problem = "" if all(isfinite(one.total) for each in of_options for one in each) else NOT_A_NUMBER
        replies[place] = replace(
            replies[place],
            problem=problem,
            log_likelihoods=tuple(sum(one.total for one in each) for each in of_options),
            greedy=tuple(all(one.greedy for one in each) for each in of_options),
            counts=tuple(sum(one.tokens for one in each) for each in of_options),
        )
    return replies
