"""The held-out items that every model answers."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import orjson

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME
from tasks.contracts.tables import read_answers, read_examples
from tasks.evaluation.decisions.reuse import selection_key
from tasks.language_models.encoding import encode_document, encode_reference
from tasks.language_models.folder.model_folder import load_tokenizer, resolve_model
from tasks.language_models.generation import context_length
from tasks.language_models.templates.rendering import TemplateRefusal
from tasks.training.released import find_base

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

# Sources of variants of training rows, see `tasks.data_preparation.trainset.augmentation`.
AUGMENTED = "augmented by "


@dataclass(frozen=True)
class Item:
    """One held-out prompt with its reference answer, or a held-out document.

    Attributes:
        id: Content hash of the conversation.
        source: Name of the data source.
        label: The intent, if there is one.
        cluster: Id shared by near-duplicates, which are resampled together.
        prompt: The turns before the last answer, as ``{"role", "content"}``; none before a document.
        reference: The last answer of the assistant, or the document.
        worse: The worst of the other answers to the prompt, where the row has any of a lower score.
        steps: Whether each step of the reference is right, where the row says so.
    """

    id: str
    source: str
    label: str | None
    cluster: str
    prompt: tuple[dict[str, str], ...]
    reference: str
    worse: str | None = None
    steps: tuple[bool, ...] = ()


@dataclass(frozen=True)
class ItemSet:
    """The selected items and the number of rows left out.

    Attributes:
        items: In the order of the hash of their content.
        held_out: Rows of the test split.
        too_long: Rows considered that do not fit into the context of every model.
        unanswerable: Rows considered that have no prompt or an empty answer.
        same_tokens: Whether base and champion cut every reference into the same number of tokens, so that their
            losses can be compared.
        refused: Reason to number of rows considered that the template of a model refuses.
        duplicates: Rows considered that repeat the prompt and the answer of an item.
    """

    items: tuple[Item, ...] = field(repr=False)
    held_out: int
    too_long: int
    unanswerable: int
    same_tokens: bool = True
    refused: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0

    @property
    def figures(self) -> dict[str, int]:
        rare = {"refused": sum(self.refused.values()), "duplicates": self.duplicates}
        return {
            "items": len(self.items),
            "held_out": self.held_out,
            "too_long": self.too_long,
            "unanswerable": self.unanswerable,
        } | {name: count for name, count in rare.items() if count}


def select_items(
    test: Path,
    count: int,
    initial: Path,
    champion: Path | None,
    documents: bool = False,
    answers: Path | None = None,
    steps: bool = False,
    train: Path | None = None,
    train_only: Sequence[str] = (),
) -> ItemSet:
    """Select at most ``count`` rows of the test split by a hash of their content.

    The selection does not depend on the order of the rows, and new rows only displace as many old ones
    as they are. A row counts when it fits into the context of the base and of the champion, so that
    all models answer the same items.

    Args:
        test: Test split, `Example` rows.
        count: Maximum number of items.
        initial: Folder of the base model, written by model initialisation.
        champion: Folder of the champion's model, if there is one.
        documents: Plain texts are items too: references without a prompt, of any length.
        answers: Answer sets, `AnswerSet` rows, in which worse answers are looked for.
        steps: Take the held-out answers whose steps are marked, wrong ones too, instead of the test split's.
        train: Training split, whose rows are items too; None: those of the test split are.
        train_only: Titles of sources of which none is, such as generated data.

    Raises:
        PipelineError: Not one row can be evaluated.
    """
    rows = read_marked_answers(answers) if steps else read_examples(test).to_pylist()
    if train is not None:
        rows += find_items(read_examples(train), train_only).to_pylist()
    splits = ("test",) if train is None else ("test", "train")
    worse = read_worse_answers(answers, splits)
    return _select(rows, test, count, _load_tokenizers(initial, champion), documents, worse)


def find_items(train: pa.Table, train_only: Sequence[str]) -> pa.Table:
    """The training rows that are items where there are folds: no variants of others, and of no `train_only` source.

    Args:
        train: Training rows, `Example`.
        train_only: Titles of sources of which none is an item, such as generated data.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    source = train["source"]
    left_out = pc.or_(pc.is_in(source, pa.array(train_only, pa.string())), pc.starts_with(source, AUGMENTED))
    return train.filter(pc.invert(left_out))


def select_items_of(test: Path, count: int, folders: Sequence[Path]) -> ItemSet:
    """The same for any models, by the folders with their tokenizers; that of the base is model initialisation's."""
    readers: list[tuple[Any, int | None]] = []
    for folder in folders:
        initial = folder if (folder / NAME).is_file() else None
        readers += _load_tokenizers(initial, None) if initial else [_read_tokenizer(folder)]
    return _select(read_examples(test).to_pylist(), test, count, readers)


def read_worse_answers(answers: Path | None, splits: Sequence[str] = ("test",)) -> dict[str, tuple[str, str]]:
    """Id of each answer set of these splits to its preferred answer and the worst one, where both are single turns."""
    if answers is None:
        return {}
    found = {}
    for row in read_answers(answers).to_pylist():
        best, worst = row["answers"][0], min(row["answers"], key=lambda answer: answer["score"])
        if row["split"] in splits and worst["score"] < best["score"] and len(best["turns"]) == len(worst["turns"]) == 1:
            text = worst["turns"][0]["content"]
            if text.strip() and text != best["turns"][0]["content"]:
                found[row["id"]] = best["turns"][0]["content"], text
    return found


def read_marked_answers(answers: Path | None) -> list[dict[str, Any]]:
    """The held-out answers whose steps are marked, as rows of the test split would be."""
    rows = read_answers(answers).to_pylist() if answers is not None else []
    return [
        {**row, "label": None, "messages": [*row["prompt"], *row["answers"][0]["turns"]]}
        for row in rows
        if row["split"] == "test" and row.get("steps")
    ]


def _select(
    table: Sequence[Mapping[str, Any]],
    test: Path,
    count: int,
    tokenizers: Sequence[tuple[Any, int | None]],
    documents: bool = False,
    worse: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> ItemSet:
    rows = sorted(table, key=lambda row: (selection_key(row["id"]), row["source"], row["row"]))
    selected: list[Item] = []
    known: set[str] = set()
    too_long = unanswerable = duplicates = 0
    refused: Counter[str] = Counter()
    same_tokens = True
    for row in rows:
        if len(selected) == count:
            break
        item = make_item(row)
        asked = any(turn["content"].strip() for turn in item.prompt)
        if not (asked or (documents and not item.prompt)) or not item.reference.strip():
            unanswerable += 1
            continue
        if (name := hash_items([item])) in known:
            duplicates += 1
            continue
        known.add(name)
        try:
            sizes = [_count_tokens(tokenizer, item) for tokenizer, _ in tokenizers]
        except TemplateRefusal as refusal:
            refused[refusal.reason] += 1
            continue
        limits = [context for _, context in tokenizers]
        if item.prompt and any(
            limit is not None and sum(size) > limit for size, limit in zip(sizes, limits, strict=True)
        ):
            too_long += 1
            continue
        if worse.get(item.id, ("", ""))[0] == item.reference:
            item = _add_worse(item, worse[item.id][1], tokenizers)
        selected.append(item)
        same_tokens = same_tokens and len({answer for _, answer in sizes}) == 1
    if not selected:
        raise PipelineError(
            f"{test}: nothing to evaluate: {len(rows)} rows, {too_long} longer than the model's context, "
            f"{unanswerable} without a prompt or an answer, {sum(refused.values())} refused by a chat template"
            f"{''.join(f' ({reason})' for reason in list(refused)[:1])}; give data_preparation a larger test share or "
            "choose a base model with a longer context"
        )
    for reason, rows_refused in refused.items():
        logger.warning("%d held-out rows are not items: a chat template refuses them: %s", rows_refused, reason)
    if duplicates:
        logger.warning("%s held-out rows repeat an item and are left out", f"{duplicates:,}")
    return ItemSet(tuple(selected), len(rows), too_long, unanswerable, same_tokens, dict(refused), duplicates)


def _add_worse(item: Item, text: str, tokenizers: Sequence[tuple[Any, int | None]]) -> Item:
    """The item with a worse answer, where that fits into the context of every model."""
    other = replace(item, reference=text)
    sizes = [_count_tokens(tokenizer, other) for tokenizer, _ in tokenizers]
    fits = all(limit is None or sum(size) <= limit for size, (_, limit) in zip(sizes, tokenizers, strict=True))
    return replace(item, worse=text) if fits else item


def hash_items(items: Sequence[Item]) -> str:
    """SHA-256 of prompts and references in their order, 64 hex digits: models with the same one answered the same."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(orjson.dumps([item.prompt, item.reference]))
    return digest.hexdigest()


def make_item(row: Mapping[str, Any]) -> Item:
    """The item that an `Example` row is: its last turn is the reference, what stands before it the prompt."""
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
    steps = tuple(row.get("steps") or ())
    answer = turns[-1]["content"]
    return Item(row["id"], row["source"], row["label"], row["cluster"], tuple(turns[:-1]), answer, steps=steps)


def _load_tokenizers(initial: Path, champion: Path | None) -> list[tuple[Any, int | None]]:
    from transformers import AutoConfig

    tokenizers = [(load_tokenizer(initial), context_length(AutoConfig.from_pretrained(resolve_model(initial))))]
    if champion is not None:
        tokenizers.append(_read_tokenizer(champion))
    return tokenizers


def _read_tokenizer(folder: Path) -> tuple[Any, int | None]:
    """Tokenizer and context of a plain model folder, or of a release's model."""
    from transformers import AutoConfig, AutoTokenizer

    base = find_base(folder)
    return AutoTokenizer.from_pretrained(base), context_length(AutoConfig.from_pretrained(base))


def _count_tokens(tokenizer: Any, item: Item) -> tuple[int, int]:
    if not item.prompt:
        before, text = encode_document(tokenizer, item.reference)
        return len(before), len(text)
    prompt, answer = encode_reference(tokenizer, item.prompt, item.reference)
    return len(prompt), len(answer)
