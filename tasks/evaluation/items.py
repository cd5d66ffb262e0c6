"""The held-out items every model answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.contracts.tables import read_table
from tasks.language_models.generation import context_length, encode_reference
from tasks.language_models.model_folder import load_tokenizer, resolve_model


@dataclass(frozen=True)
class Item:
    """One held-out question.

    Attributes:
        id: Content hash of the conversation.
        source: Where it came from.
        label: Its intent, if it has one.
        cluster: Near-duplicates share one; they are resampled together.
        prompt: The turns before the last answer, as ``{"role", "content"}``.
        reference: The last answer of the assistant.
    """

    id: str
    source: str
    label: str | None
    cluster: str
    prompt: tuple[dict[str, str], ...]
    reference: str


@dataclass(frozen=True)
class ItemSet:
    """The chosen items and what was left out.

    Attributes:
        items: In the order of the hash of their content.
        held_out: Rows of the test split.
        too_long: Rows looked at that do not fit into the context of every model.
        unanswerable: Rows looked at without a prompt or with an empty answer.
    """

    items: tuple[Item, ...] = field(repr=False)
    held_out: int
    too_long: int
    unanswerable: int

    @property
    def figures(self) -> dict[str, int]:
        return {
            "items": len(self.items),
            "held_out": self.held_out,
            "too_long": self.too_long,
            "unanswerable": self.unanswerable,
        }


def select_items(test: Path, count: int, initial: Path, champion: Path | None) -> ItemSet:
    """Choose at most ``count`` rows of the test split by a hash of their content.

    The choice does not depend on the order of the rows, and new rows only displace as many old ones
    as they are. A row counts when it fits into the context of the base and of the champion, so that
    all models answer the same items.

    Args:
        test: Test split, `Example` rows.
        count: Most items wanted.
        initial: Folder of the base model, written by model initialisation.
        champion: Folder of the champion's model, if there is one.

    Raises:
        PipelineError: Not one row can be evaluated.
    """
    table = read_table(test, EXAMPLES)
    rows = sorted(table.to_pylist(), key=lambda row: (_place(row["id"]), row["source"], row["row"]))
    readers = _readers(initial, champion)
    chosen: list[Item] = []
    too_long = unanswerable = 0
    for row in rows:
        if len(chosen) == count:
            break
        item = _item(row)
        if not item.prompt or not item.reference.strip():
            unanswerable += 1
        elif all(_fits(tokenizer, context, item) for tokenizer, context in readers):
            chosen.append(item)
        else:
            too_long += 1
    if not chosen:
        raise PipelineError(
            f"{test}: nothing to evaluate: {len(rows)} rows, {too_long} longer than the model's context, "
            f"{unanswerable} without a prompt or an answer; give data_preparation a larger test share or "
            "choose a base model with a longer context"
        )
    return ItemSet(tuple(chosen), len(rows), too_long, unanswerable)


def _place(identity: str) -> bytes:
    # The split itself is made from the content hash, so the choice needs one of its own.
    return hashlib.sha256(f"evaluation:{identity}".encode()).digest()


def _item(row: dict[str, Any]) -> Item:
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
    return Item(row["id"], row["source"], row["label"], row["cluster"], tuple(turns[:-1]), turns[-1]["content"])


def _readers(initial: Path, champion: Path | None) -> list[tuple[Any, int | None]]:
    from transformers import AutoConfig, AutoTokenizer

    readers = [(load_tokenizer(initial), context_length(AutoConfig.from_pretrained(resolve_model(initial))))]
    if champion is not None:
        context = context_length(AutoConfig.from_pretrained(champion))
        readers.append((AutoTokenizer.from_pretrained(champion), context))
    return readers


def _fits(tokenizer: Any, context: int | None, item: Item) -> bool:
    before, answer = encode_reference(tokenizer, item.prompt, item.reference)
    return context is None or len(before) + len(answer) <= context
