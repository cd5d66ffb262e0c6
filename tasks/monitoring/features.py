"""Features of a request in which drift shows and that a person can interpret."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.text.words import split_terms, split_words
from tasks.monitoring.sample import Array, TrafficSample

UNKNOWN_WORDS = "prompt words unknown to the baseline"


def last_user_turn(messages: Sequence[dict[str, str]]) -> str:
    """The content of the last user turn."""
    return next((turn["content"] or "" for turn in reversed(messages) if turn["role"] == "user"), "")


def describe_rows(
    baseline: pa.Table, window: pa.Table, embedder: AnyEmbedder, refusals: Sequence[str], seed: int
) -> TrafficSample:
    """Features of all rows, the baseline's first.

    Args:
        baseline: Answered requests of the baseline, schema `REQUESTS`.
        window: Answered requests of the window, the same schema.
        embedder: Turns prompts into vectors.
        refusals: Patterns that mark an answer as a refusal.
        seed: Seed of the embedder.
    """
    messages = baseline["messages"].to_pylist() + window["messages"].to_pylist()
    answers = [answer or "" for table in (baseline, window) for answer in table["answer"].to_pylist()]
    prompts = [last_user_turn(turns) for turns in messages]
    refusal = re.compile("|".join(refusals) or r"(?!)", re.IGNORECASE)
    words = [split_terms(prompt) for prompt in prompts]
    unknown_at = count_unknown(words)
    reference = (np.arange(len(prompts)) < baseline.num_rows).astype(np.float64)[None, :]
    numbers = {
        "prompt length in characters": [len(prompt) for prompt in prompts],
        "prompt length in words": [len(row) for row in words],
        "punctuation in the prompt": [share(p, lambda c: not c.isalnum() and not c.isspace()) for p in prompts],
        "capitals in the prompt": [share(p, str.isupper) for p in prompts],
        "digits in the prompt": [share(p, str.isdigit) for p in prompts],
        "different words in the prompt": [len(set(row)) / max(len(row), 1) for row in words],
        UNKNOWN_WORDS: unknown_at(reference)[0],
        "turns of the conversation": [len(turns) for turns in messages],
        "answer length in characters": [len(answer) for answer in answers],
        "answer length in words": [len(split_words(answer)) for answer in answers],
    }
    flags = {
        "answers that refuse": [bool(refusal.search(answer.replace("’", "'"))) for answer in answers],
        "empty answers": [not answer.strip() for answer in answers],
    }
    return TrafficSample(
        reference_rows=baseline.num_rows,
        prompts=prompts,
        answers=answers,
        numbers={name: np.asarray(values, dtype=np.float64) for name, values in numbers.items()},
        flags={name: np.asarray(values, dtype=np.float64) for name, values in flags.items()},
        embeddings=embedder.embed(prompts, seed).astype(np.float64),
        recounted={UNKNOWN_WORDS: unknown_at},
    )


def share(text: str, kind: Callable[[str], bool]) -> float:
    """Share of the characters for which ``kind`` is true; 0 for an empty text."""
    return sum(map(kind, text)) / max(len(text), 1)


def count_unknown(words: Sequence[Sequence[str]]) -> Callable[[Array], Array]:
    """Share of each prompt's words that no (other) baseline prompt contains, as a function of who is in the baseline.

    A baseline row's own words do not count as known: its share would be 0 by construction, and every new row would
    look different.

    Args:
        words: Words of each prompt.

    Returns:
        A function of the baseline counts (splits x rows), each 0 or 1, that returns the shares (splits x rows).
    """
    from scipy.sparse import csr_matrix

    column_of: dict[str, int] = {}
    columns = np.array([column_of.setdefault(word, len(column_of)) for row in words for word in row], dtype=np.int64)
    lengths = np.array([len(row) for row in words], dtype=np.int64)
    shape = (len(words), max(len(column_of), 1))
    rows = np.repeat(np.arange(len(words)), lengths)
    occurrences = csr_matrix((np.repeat(1 / np.maximum(lengths, 1), lengths), (rows, columns)), shape=shape)
    presence = (occurrences > 0).astype(np.float64)

    def shares_at(reference: Array) -> Array:
        frequency = presence.T @ reference.T
        unknown_to_window, unknown_to_others = (occurrences @ (frequency <= limit).astype(float) for limit in (0, 1))
        shares: Array = np.where(reference.T > 0, unknown_to_others, unknown_to_window).T
        return shares

    return shares_at
