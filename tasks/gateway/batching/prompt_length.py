"""Prompts that cannot fit the context are refused before they cost: by their characters, then by reading a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# Characters encoded at once, per token of the context; other requests are encoded between two pieces.
PIECE_CHARACTERS = 4
# Tokens that cutting texts into pieces may add, as a share of the tokens counted.
CUT_SHARE = 0.05
CUT_TOKENS = 16


def longest_token(vocabulary: Sequence[str]) -> int:
    """Length of the longest token as the vocabulary spells it, characters.

    No token stands for more characters of the text, unless the tokenizer drops some before it reads them.
    """
    return max(map(len, vocabulary), default=1)


def cannot_fit(texts: Sequence[str], context: int, longest: int, count: Callable[[str], int]) -> bool:
    """Whether texts have more tokens than the context, or more characters than so many of the longest tokens.

    Texts of which neither is certain pass, to be encoded as a whole. Costs at most about the encoding of ``context``
    tokens, whatever the length of the texts.

    Args:
        texts: Contents of the messages.
        context: Maximum tokens of prompt and answer.
        longest: Maximum characters that one token stands for.
        count: Number of tokens of a short text, without special tokens.
    """
    # Every message takes a token at least, for its role.
    if len(texts) > context or sum(map(len, texts)) > context * longest:
        return True
    size = PIECE_CHARACTERS * context
    if sum(map(len, texts)) <= size:
        # Short enough to be encoded as a whole.
        return False
    tokens = 0
    for text in texts:
        for start in range(0, len(text), size):
            tokens += count(text[start : start + size])
            if tokens * (1 - CUT_SHARE) - CUT_TOKENS > context:
                return True
    return False
