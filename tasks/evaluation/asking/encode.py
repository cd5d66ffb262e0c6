"""Questions as tokens.

Conversations are rendered by the model's own chat template. Plain text is read as lm-evaluation-harness reads it, so
that its tasks give its numbers: with what the tokenizer puts before a text; spaces at the end of a context belong to
the continuation; both are tokenized together and cut where the tokens of the context end; what does not fit is cut off
at the beginning; a text that is longer than the context is scored in windows, each token once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tasks.evaluation.asking.question import Prompt, Question
from tasks.language_models.decoding.likelihoods import Pair
from tasks.language_models.encoding import encode_prompt

# A tokenizer without either begins texts with its first token.
_FIRST = 0


def begin_of(tokenizer: Any) -> int:
    """The token before a text that nothing stands before."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return _FIRST


def encode_text(tokenizer: Any, text: str, special: bool | None = None) -> list[int]:
    """Token ids of plain text.

    Args:
        tokenizer: The tokenizer.
        text: The text.
        special: Whether the tokens go before it that begin a text; None: where it does not begin with them itself.
    """
    if special is None and text.startswith(tokenizer.decode(begin_of(tokenizer))):
        special = False
    return list(tokenizer.encode(text) if special is None else tokenizer.encode(text, add_special_tokens=special))


def encode_question(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt, up to where the answer begins.

    Raises:
        TemplateRefusal: The chat template refuses the conversation.
    """
    return encode_text(tokenizer, prompt) if isinstance(prompt, str) else encode_prompt(tokenizer, prompt)


def encode_option(tokenizer: Any, question: Question, number: int, context: int | None) -> list[Pair]:
    """Context and continuation of an option; of a long text several, each token once.

    Raises:
        TemplateRefusal: The chat template refuses the conversation.
    """
    option = question.options[number]
    if question.kind == "texts":
        return list(cut_windows(encode_text(tokenizer, option.text), begin_of(tokenizer), context))
    before = question.prompt if option.context is None else option.context
    if not isinstance(before, str):
        return [(encode_prompt(tokenizer, before), encode_text(tokenizer, option.text, special=False))]
    if not before:
        begin, ids = begin_of(tokenizer), encode_text(tokenizer, option.text, special=False)
        return [(ids[:1], ids[1:]) if ids[:1] == [begin] else ([begin], ids)]
    stripped = before.rstrip()
    whole = encode_text(tokenizer, before + option.text)
    ids = encode_text(tokenizer, stripped)
    return [(ids or [begin_of(tokenizer)], whole[len(ids) :])]


def cut_windows(tokens: Sequence[int], begin: int, size: int | None) -> Iterator[Pair]:
    """Rows of at most ``size`` tokens and one more, in which each token is a continuation once.

    The last row is filled up with context from before it.
    """
    ids = list(tokens)
    size = size or len(ids)
    yield [begin], ids[:size]
    for start in range(size, len(ids), size):
        end = min(start + size, len(ids))
        yield ids[end - size - 1 : start], ids[start:end]


def fit_pair(pair: Pair, context: int | None) -> Pair | None:
    """The pair without the beginning that does not fit; None where the continuation alone does not.

    Nothing is read after the last token, so a pair may have one token more than the context.
    """
    before, after = pair
    if context is None:
        return pair
    return (before[-(context + 1 - len(after)) :], after) if len(after) <= context else None
