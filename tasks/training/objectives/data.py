"""What prepared data offers to objectives: tables of a split, and how many rows of each kind are in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from tasks.language_models.long_rows import LongRows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


RowKind = Literal["conversations", "pairs", "judged", "prompts", "texts", "text_pairs", "steps"]

# What each kind is, and the shape of source rows that gives it; for refusals.
WANTED: Mapping[RowKind, str] = {
    "conversations": 'conversations with an answer, such as {"messages": [...]} or {"prompt": ..., "completion": ...}',
    "pairs": 'at least two answers to one prompt, one better than another, such as {"prompt": ..., "chosen": ..., '
    '"rejected": ...} or ranked or scored answers',
    "judged": 'answers marked good or bad, such as {"prompt": ..., "completion": ..., "label": true}, or pairs',
    "prompts": "conversations, whose turns before the last answer are the prompts and whose last answer is the "
    "reference",
    "texts": 'plain texts, such as {"text": ...}',
    "text_pairs": "conversations, whose last two turns are a pair of texts that belong together",
    "steps": 'answers whose steps are marked right or wrong, such as {"prompt": ..., "completions": ["...", ...], '
    '"labels": [true, ...]}',
}

# What one of each kind is called, and several.
NOUNS: Mapping[RowKind, tuple[str, str]] = {
    "conversations": ("conversation", "conversations"),
    "pairs": ("pair of answers", "pairs of answers"),
    "judged": ("judged answer", "judged answers"),
    "prompts": ("prompt", "prompts"),
    "texts": ("text", "texts"),
    "text_pairs": ("pair of texts", "pairs of texts"),
    "steps": ("answer in steps", "answers in steps"),
}


@dataclass(frozen=True)
class SplitTables:
    """The prepared rows of one split.

    Attributes:
        examples: Schema `EXAMPLES`, with the column `UNTRAINED` where a row has answers without loss.
        answers: Schema `ANSWER_SETS`, those of this split, with the column `STEPS` where any has marks of steps.
    """

    examples: pa.Table
    answers: pa.Table


@dataclass(frozen=True)
class Tokenization:
    """How rows become tokens.

    Attributes:
        tokenizer: The base's.
        max_tokens: Length of a sequence.
        long_rows: What becomes of longer conversations.
        weights: Loss weight of each example, shape (examples,); None where all are 1.
        classes: Class of each example, shape (examples,), to stratify batches by; None: not stratified.
        limit: Most items wanted; None: all.
    """

    tokenizer: Any
    max_tokens: int
    long_rows: LongRows = "truncate_right"
    weights: np.ndarray | None = None
    classes: np.ndarray | None = None
    limit: int | None = None


def split_tables(examples: pa.Table, answers: pa.Table | None, split: str) -> SplitTables:
    """The rows of a split.

    Args:
        examples: Its examples.
        answers: Answer sets of all splits; None: there are none.
        split: ``train``, ``validation`` or ``test``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.contracts.records import ANSWER_SETS

    own = (
        pa.Table.from_batches([], ANSWER_SETS) if answers is None else answers.filter(pc.equal(answers["split"], split))
    )
    return SplitTables(examples, own)


def count_kinds(tables: SplitTables) -> dict[RowKind, int]:
    """Rows of each kind in the tables, before any is refused."""
    import pyarrow.compute as pc

    from tasks.contracts.records import STEPS

    sets = _list_scores(tables.answers)
    has_steps = STEPS.name in tables.answers.column_names
    pairs = sum(min(each) < each[0] for each in sets)
    marked = sum(len(each) == 1 for each in sets)
    examples = tables.examples.num_rows
    return {
        "conversations": examples,
        "pairs": pairs,
        "judged": pairs + marked,
        "prompts": examples,
        # In Python: Arrow imports pandas to look at a number that it is to compare with.
        "texts": pc.list_value_length(tables.examples["messages"]).to_pylist().count(1),
        "text_pairs": examples,
        "steps": len(tables.answers) - tables.answers[STEPS.name].null_count if has_steps else 0,
    }


def _list_scores(answers: pa.Table) -> list[list[float]]:
    """The scores of each answer set; not by way of NumPy, nor of an empty column, for which Arrow imports pandas."""
    if not answers.num_rows:
        return []
    lists = answers["answers"].combine_chunks()
    scores, offsets = lists.flatten().field("score").to_pylist(), lists.offsets.to_pylist()
    return [scores[start - offsets[0] : end - offsets[0]] for start, end in pairwise(offsets)]
