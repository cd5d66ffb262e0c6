"""Passages that the prompts of several rows share: SQuAD's context, a document or a table with several questions.

Rows of one passage belong in one split: what a model learnt of the passage in train answers the questions held out.

**What is seen.** Sentences and lines of at least 12 words that are no questions, in paragraphs of at least 30 words
(`tasks.corpus.text.words`: of any script), of the turns of the user, then of tools, then of the system, where shorter
ones than 60 words more often instruct. Of each paragraph the 4 longest count, by their first 30 words, and of a row
16; a paragraph without any, such as a table of short lines, counts by its first 30 words. Sentences are compared folded
(`fold_text`): spaces, case and sentence punctuation make no difference, and an edited sentence leaves the others. Not
seen are shorter passages, rewritten ones, and what comes after the first 100,000 characters of a turn.

**Rule.** Rows are taken in their order. A row joins the passage of the first of its sentences that an earlier row has,
and brings its other sentences into it; it goes where the prompt of the passage's first row goes, as that row does. A
row that shares nothing with an earlier one is split by its own prompt. Rows with the same folded prompt stay together
whatever their passages. Of few passages none may fall to a split; `fill_splits` gives it an early one. No row looks at
later ones, so rows added at the end move no earlier row. Removing the first row of a passage, or inserting another
before it, may move the passage, and nothing else.

**Bounds.** A passage takes 30 rows (SQuAD's largest have 30). What more rows share is as often a block of instructions
as a document, and as one group would be a lump of the data; rows after the first 30 are split by their own prompts. A
sentence that 5 earlier rows and a twentieth of the earlier rows of the source have is tried last, so that passages
below a template are told apart. Rows with two passages each, in ever new pairs, cannot all be kept together. What is
left of shared passages is counted (`find_shared`), shown on the page and reported by the gate.

Example: 40 passages with 6 questions each are 40 groups; of 300 short prompts under one block of 80 words the first 30
are one group, the others are split one by one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.rows import cut_messages, row_of_turn
from tasks.corpus.text.words import find_words, fold_text, split_words

Array = np.ndarray[Any, Any]

# Column: 1 for a held-out row that has a sentence of a passage in common with a row of train, else 0.
SHARES_PASSAGE = "shares_passage"
# In words.
MIN_SENTENCE, MAX_COMPARED = 12, 30
# Words of a paragraph, by the role of its turn, in the order in which the sentences are tried.
MIN_PARAGRAPH = {"user": 30, "tool": 30, "system": 60}
# Characters per word from which a text without enough words is read as one without spaces between them.
COMPACT = 7
# Sentences per paragraph and per row, and characters of a turn; bound the memory for whole documents.
MAX_PER_PARAGRAPH, MAX_PER_ROW, MAX_CHARACTERS = 4, 16, 100_000
MAX_ROWS = 30
# Rows that are due to an empty split before it is given a passage.
DUE = 0.5
# From this number of earlier rows on, a sentence in this share of the rows so far is tried last.
MIN_USUAL, USUAL_SHARE = 5, 0.05

_PARAGRAPH = re.compile(r"\n\s*\n")
# What ends a sentence.
_ENDS = (". ", "! ", "? ")
_ALL_ENDS = (*_ENDS, "؟ ", "۔ ", "। ", "។ ", "။ ", "。", "！", "？")
_QUESTIONS, _AFTER_MARK = ("?", "？", "؟"), " \t\r\"'”’»)]"
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Sentences:
    """The sentences of all rows that may be of a passage, in the order in which they are tried.

    Attributes:
        hashes: One per sentence, uint64.
        rows: The row of each, ascending; a row has each sentence once.
    """

    hashes: Array
    rows: Array


def find_sentences(table: pa.Table, numbers: bool = True) -> Sentences:
    """The sentences of the prompts of all rows.

    Args:
        table: Rows with ``messages``.
        numbers: Whether sentences with different numbers are different.
    """
    parts, start = [Sentences(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64))], 0
    for messages in cut_messages(table):
        part = _hash_sentences(messages, numbers)
        parts.append(Sentences(part.hashes, part.rows + start))
        start += len(messages)
    return Sentences(np.concatenate([part.hashes for part in parts]), np.concatenate([part.rows for part in parts]))


def _hash_sentences(messages: pa.ListArray, numbers: bool) -> Sentences:
    turns, owners = messages.flatten(), row_of_turn(messages)
    rows: list[Array] = []
    sentences: list[str] = []
    for role, minimum in MIN_PARAGRAPH.items():
        of_role = np.flatnonzero(np.asarray(pc.equal(turns.field("role"), role)))
        texts = turns.field("content").take(pa.array(of_role, pa.int64())).to_pylist()
        lists = [list_sentences(text if numbers else _NUMBER.sub("0", text), minimum) for text in texts]
        rows.append(np.repeat(owners[of_role], np.array([len(found) for found in lists], dtype=np.int64)))
        sentences += [sentence for found in lists for sentence in found]
    digests = b"".join(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in sentences)
    table = pl.DataFrame({"hash": np.frombuffer(digests, dtype=">u8").astype(np.uint64), "row": np.concatenate(rows)})
    table = table.unique(maintain_order=True).sort("row", maintain_order=True)
    table = table.filter(pl.int_range(pl.len()).over("row") < MAX_PER_ROW)
    return Sentences(table["hash"].to_numpy(), table["row"].to_numpy())


def list_sentences(text: str, minimum: int = MIN_PARAGRAPH["user"]) -> list[str]:
    """The sentences of a text that may be of a passage, folded, in the order in which they are tried.

    Args:
        text: A turn.
        minimum: Words of a paragraph.
    """
    # A word has at least one character; most prompts are shorter.
    if len(text) < minimum:
        return []
    sentences: list[str] = []
    for paragraph in _PARAGRAPH.split(text[:MAX_CHARACTERS]):
        if len(sentences) >= MAX_PER_ROW:
            break
        if not (whole := _find_words(paragraph, minimum)):
            continue
        parts = [words for part in _cut_sentences(paragraph) if (words := _find_words(part, MIN_SENTENCE))]
        # Of equally long ones the first, since sorting keeps the order.
        chosen = sorted(parts, key=len, reverse=True)[:MAX_PER_PARAGRAPH]
        sentences += [fold_text(" ".join(words[:MAX_COMPARED])) for words in chosen or [whole]]
    return sentences[:MAX_PER_ROW]


def _find_words(text: str, minimum: int) -> list[str]:
    # None if they are fewer than the minimum.
    words = split_words(text)
    # Compact JSON and comma-separated values have words without spaces between them.
    if len(words) < minimum and len(text) > COMPACT * len(words):
        words = find_words(text)
    return words if len(words) >= minimum else []


def _cut_sentences(paragraph: str) -> list[str]:
    for mark in _ENDS if paragraph.isascii() else _ALL_ENDS:
        paragraph = paragraph.replace(mark, f"{mark}\n")
    return [part for part in paragraph.split("\n") if part and not part.rstrip(_AFTER_MARK).endswith(_QUESTIONS)]


def name_passages(table: pa.Table, sentences: Sentences, folds: Sequence[str]) -> list[str]:
    """Per row the key that decides its split: the fold of the first row of its passage, its own if it begins one.

    Args:
        table: The rows, with ``source``.
        sentences: Their sentences.
        folds: Per row what may stand in one split only, such as its folded prompt.
    """
    hashes, usual = sentences.hashes.tolist(), _find_usual(table, sentences).tolist()
    ends = np.searchsorted(sentences.rows, np.arange(len(folds)), side="right").tolist()
    # What one row alone has is never looked up.
    shared = pl.Series(sentences.hashes).is_duplicated().to_list()
    key_of_fold: dict[str, str] = {}
    passage_of: dict[int, str] = {}
    sizes: Counter[str] = Counter()
    keys, start = [], 0
    for fold, end in zip(folds, ends, strict=True):
        own = hashes[start:end]
        if fold not in key_of_fold:
            key_of_fold[fold] = _choose(own, usual[start:end], passage_of, sizes) or fold
        key = key_of_fold[fold]
        if own:
            sizes[key] += 1
        for name, known in zip(own, shared[start:end], strict=True):
            if known:
                passage_of.setdefault(name, key)
        keys.append(key)
        start = end
    return keys


def _choose(own: list[int], usual: list[bool], passage_of: dict[int, str], sizes: Counter[str]) -> str | None:
    # The passage that a row joins; None if it begins one.
    for last in (False, True):
        names = [name for name, common in zip(own, usual, strict=True) if common == last]
        for name in names:
            if name in passage_of and sizes[passage_of[name]] < MAX_ROWS:
                return passage_of[name]
        if any(name not in passage_of for name in names):
            return None
    return None


def _find_usual(table: pa.Table, sentences: Sentences) -> Array:
    # Per sentence whether it is in this share of the earlier rows of its source.
    sources = pl.Series(table["source"])
    place = pl.DataFrame({"source": sources}).select(pl.int_range(pl.len()).over("source")).to_series().to_numpy()
    found = pl.DataFrame({"hash": sentences.hashes, "source": sources.gather(sentences.rows)})
    earlier = found.select(pl.int_range(pl.len()).over("hash", "source")).to_series().to_numpy()
    usual: Array = (earlier >= MIN_USUAL) & (earlier >= USUAL_SHARE * place[sentences.rows])
    return usual


def fill_splits(
    splits: Sequence[str | None], keys: Sequence[str], folds: Sequence[str], shares: Mapping[str, float]
) -> list[str | None]:
    """The split of each row, where whole passages leave none of few passages to a split.

    A split that is still empty when half a row of those that follow another is due to it gets the next passage whole.
    Without shared passages nothing changes, and, as with them, no row looks at later ones.

    Args:
        splits: Per row the split by its key.
        keys: Per row its passage.
        folds: Per row its own fold.
        shares: Split to share, for those that are to be filled.
    """
    missing = dict(shares)
    given: dict[str, str | None] = {}
    seen: set[str] = set()
    filled: list[str | None] = []
    followers = 0
    for split, key, fold in zip(splits, keys, folds, strict=True):
        if key not in seen:
            seen.add(key)
            due = next((name for name, share in missing.items() if followers * share >= DUE), split)
            if due != split:
                given[key] = due
        filled.append(given.get(key, split))
        missing.pop(str(filled[-1]), None)
        followers += key != fold
    return filled


@dataclass(frozen=True)
class Shared:
    """Which held-out rows have text in common with train.

    Attributes:
        passages: Per row whether it is held out and shares a passage with train.
        wide: Per row whether it does not, but shares a text with train that many rows have: a template or a block of
            instructions, or a document with more questions than stay together.
    """

    passages: Array
    wide: Array


def find_shared(table: pa.Table, sentences: Sentences, splits: Sequence[str | None]) -> Shared:
    """Compare the held-out rows with train.

    A sentence in more than `MAX_ROWS` rows counts as a passage only where a row shares no rarer one, and not if it is
    in `USUAL_SHARE` of the rows of a source or a file.

    Args:
        table: The rows, with ``source`` and ``file``.
        sentences: Their sentences.
        splits: Per row its split, None for a row that is dropped.
    """
    count, sizes = pl.len().over("hash"), {"source": ("source",), "file": ("source", "file")}
    places = pl.DataFrame({name: pl.Series(table[name]) for name in sizes})
    places = places.with_columns(
        pl.Series("split", splits, dtype=pl.String),
        *(pl.len().over(by).alias(f"of_{name}") for name, by in sizes.items()),
    )
    found = places[sentences.rows].with_columns(hash=pl.Series(sentences.hashes), row=pl.Series(sentences.rows))
    found = found.filter(count > 1)
    usual = [pl.len().over("hash", *by) >= USUAL_SHARE * pl.col(f"of_{name}") for name, by in sizes.items()]
    found = found.with_columns(
        wide=count > MAX_ROWS,
        usual=pl.any_horizontal(usual).any().over("hash"),
        leaks=(pl.col("split") == "train").any().over("hash") & pl.col("split").is_in(["validation", "test"]),
    )
    of_passage = ~pl.col("wide") | (pl.col("wide").all().over("row") & ~pl.col("usual"))
    passages, any_text = (np.zeros(table.num_rows, dtype=bool) for _ in range(2))
    passages[found.filter(of_passage & pl.col("leaks"))["row"].to_numpy()] = True
    any_text[found.filter(pl.col("leaks"))["row"].to_numpy()] = True
    return Shared(passages, any_text & ~passages)
