"""Prompts folded: what differs in case, spaces or sentence punctuation alone is the same prompt.

Digits, signs, operators, brackets and emoji are part of a prompt: ``12 + 7 =`` and ``3 * 9 =``, ``a < b`` and
``a > b``, ``3.5`` and ``35``, ``f(x, y)`` and ``f(xy)`` stay apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# Texts folded at once, which bounds the memory.
CHUNK = 20_000

# Quotes, and marks that end or open a sentence in any place.
_QUIET = "'\"“”‘’«»„…¿¡。！？，、；："
_QUIET_ASCII = r"['\"]+"
# Marks that end a sentence only before white space; `3.5`, `a.b`, `!x` and `a?b:c` keep theirs.
_ENDING = r"[.,!?;:]+(\s|\z)"
# White space stays between two digits only: `1 2` is not `12`.
_BEFORE_OTHER, _AFTER_OTHER = r"\s+(\D|\z)", r"(\A|\D)\s+"
_NUMBER = r"\d+"
# Brackets, and marks with the white space behind them that separate what stands in brackets.
_SEPARATED = re.compile(r"[()\[\]{}]|([,;:])\s+")
_MAY_SEPARATE = r"(?s)[(\[{].*[,;:]\s"
_OPENED_BY = {")": "(", "]": "[", "}": "{"}

_QUIET_ANY = re.compile(f"[{re.escape(_QUIET)}]+")
_RULES = [
    (re.compile(rule.replace(r"\z", r"\Z")), new)
    for rule, new in ((_ENDING, r"\1"), (_BEFORE_OTHER, r"\1"), (_AFTER_OTHER, r"\1"), (r"\s+", " "))
]
_ANY_NUMBER = re.compile(_NUMBER)


def fold_prompt(prompt: str, numbers: bool = True) -> str:
    """Lower case, without spaces and sentence punctuation; a prompt of nothing else stays as it is.

    Args:
        prompt: The prompt.
        numbers: Whether prompts with different numbers are different; if not, every number becomes 0.
    """
    text = _QUIET_ANY.sub("", _join_separated(prompt.casefold()))
    if not numbers:
        text = _ANY_NUMBER.sub("0", text)
    for pattern, new in _RULES:
        text = pattern.sub(new, text)
    return text or prompt


def fold_prompts(prompts: pl.Series, numbers: bool = True) -> pl.Series:
    """`fold_prompt` of every text; those of ASCII without lists in brackets, as a rule nearly all, at once."""
    import polars as pl

    ascii_only = prompts.str.len_bytes() == prompts.str.len_chars()
    result = pl.repeat("", len(prompts), dtype=pl.String, eager=True)
    ascii_only &= ~prompts.str.contains(_MAY_SEPARATE)
    plain = prompts.filter(ascii_only)
    if len(plain):
        parts = [_fold_ascii(plain.slice(start, CHUNK), numbers) for start in range(0, len(plain), CHUNK)]
        result = result.scatter(ascii_only.arg_true(), pl.concat(parts))
    others = (~ascii_only | (result == "")).arg_true()
    if not len(others):
        return result
    return result.scatter(others, [fold_prompt(text, numbers) for text in prompts.gather(others)])


def _fold_ascii(texts: pl.Series, numbers: bool) -> pl.Series:
    # Python counts these as white space, and polars does not.
    folded = texts.str.to_lowercase().str.replace_all(r"[\x1c-\x1f]", " ").str.replace_all(_QUIET_ASCII, "")
    if not numbers:
        folded = folded.str.replace_all(_NUMBER, "0")
    for rule, new in ((_ENDING, "$1"), (_BEFORE_OTHER, "$1"), (_AFTER_OTHER, "$1"), (r"\s+", " ")):
        folded = folded.str.replace_all(rule, new)
    return folded


def _join_separated(text: str) -> str:
    """The text without white space behind the marks that separate what stands in brackets, so that they stay."""
    # Open brackets, each with the number of marks before it; marks not yet known to be in brackets; those that are.
    opened: list[tuple[str, int]] = []
    waiting: list[re.Match[str]] = []
    inside: list[re.Match[str]] = []
    for found in _SEPARATED.finditer(text):
        sign = found.group()
        if found[1]:
            waiting.append(found)
        elif sign not in _OPENED_BY:
            opened.append((sign, len(waiting)))
        elif opened and opened[-1][0] == _OPENED_BY[sign]:
            _, before = opened.pop()
            inside += waiting[before:]
            del waiting[before:]
    if not inside:
        return text
    pieces, done = [], 0
    for found in sorted(inside, key=lambda match: match.start()):
        pieces.append(text[done : found.end(1)])
        done = found.end()
    return "".join([*pieces, text[done:]])
