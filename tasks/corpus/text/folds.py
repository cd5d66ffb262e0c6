"""Prompts folded: what differs in numbers, case, spaces or punctuation alone is the same prompt to the split."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pyarrow as pa

# Texts folded at once, which bounds the memory.
CHUNK = 20_000

_NUMBER = re.compile(r"\d+")
_NOT_WORD = re.compile(r"[\W_]+")
# ASCII letters in lower case, every digit as 0, the rest as 0 bytes: what `fold_prompt` keeps of them.
_FOLD = np.zeros(256, dtype=np.uint8)
for _code in range(128):
    if chr(_code).isalpha():
        _FOLD[_code] = ord(chr(_code).lower())
    elif chr(_code).isdigit():
        _FOLD[_code] = ord("0")


def fold_prompt(prompt: str) -> str:
    """Lower case, without spaces and punctuation, every number the same."""
    # A prompt of symbols alone would fold to nothing and share its split with all others like it.
    return _NOT_WORD.sub("", _NUMBER.sub("0", prompt.casefold())) or prompt


def fold_prompts(prompts: pl.Series) -> pl.Series:
    """`fold_prompt` of every text; those of ASCII, as a rule nearly all, at once."""
    ascii_only = prompts.str.len_bytes() == prompts.str.len_chars()
    plain = prompts.filter(ascii_only).to_arrow(compat_level=pl.CompatLevel.oldest())
    result = pl.repeat("", len(prompts), dtype=pl.String, eager=True)
    if len(plain):
        parts = [_fold_ascii(plain.slice(start, CHUNK)) for start in range(0, len(plain), CHUNK)]
        result = result.scatter(ascii_only.arg_true(), pl.Series(pa.chunked_array(parts)))
    others = (~ascii_only | (result == "")).arg_true()
    return result.scatter(others, [fold_prompt(text) for text in prompts.gather(others)]) if len(others) else result


def _fold_ascii(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    _, places, values = texts.buffers()
    offsets = np.frombuffer(places, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    codes = _FOLD[np.frombuffer(values or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]]
    offsets = offsets - offsets[0]
    # Of a number only the first digit stays, within one text.
    digits = codes == ord("0")
    again = np.zeros(len(codes), dtype=bool)
    again[1:] = digits[1:] & digits[:-1]
    again[offsets[:-1][offsets[:-1] < len(codes)]] = False
    keep = (codes != 0) & ~again
    ends = np.concatenate([[0], np.cumsum(keep)])[offsets]
    buffers = [None, pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(codes[keep])]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)
