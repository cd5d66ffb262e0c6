"""Prompts as they are compared: by what data preparation folds them to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from tasks.corpus.text.folds import fold_prompts


def fold_turns(prompts: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
    """Each prompt as one text without case, spaces and sentence punctuation; empty where there is none."""
    import polars as pl

    texts = ["\n".join(f"{turn['role']}: {turn['content']}" for turn in turns) for turns in prompts]
    folded: list[str] = fold_prompts(pl.Series(texts, dtype=pl.String)).to_list()
    return folded


def hash_prompts(prompts: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
    """A hash of each folded prompt, 16 hex digits; empty where there is none."""
    return [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest() if text else ""
        for text in fold_turns(prompts)
    ]
