"""Answers to the items of several folds as those of one model, and those that a champion's release keeps of its own.

``folds.parquet`` has a row for each row that a candidate was trained on, with its answer from the folds where it was an
item: what it answered before it had seen the row. Prompts are kept as hashes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.contracts.tables import read_table, write_table
from tasks.evaluation.asking.question import Reply
from tasks.evaluation.held_out.folds import Folds, list_places
from tasks.evaluation.held_out.prompts import hash_prompts
from tasks.evaluation.items import Item, hash_items
from tasks.evaluation.outcomes import (
    AnswerSettings,
    ModelName,
    Outcome,
    answer_with_candidate,
    answer_with_champion,
)
from tasks.evaluation.worse_answers import WorseAnswers

logger = logging.getLogger(__name__)

FOLDS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("cluster", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("item", pa.string()),
        pa.field("answer", pa.string()),
        pa.field("finished", pa.bool_()),
        pa.field("loss", pa.float64()),
        pa.field("tokens", pa.int64()),
        pa.field("answer_tokens", pa.int64()),
        pa.field("worse_loss", pa.float64()),
        pa.field("worse_tokens", pa.int64()),
        pa.field("rank", pa.int64()),
    ]
)
# The file in a release, beside its model.
KEPT = "folds.parquet"


def join_outcomes(
    model: ModelName,
    items: Sequence[Item],
    parts: Sequence[tuple[Sequence[int], Outcome]],
    replies: Mapping[str, Sequence[Reply]] | None = None,
) -> Outcome:
    """Answers to parts of the items as those to all of them; items in no part are not scored.

    Args:
        model: Name of the joined answers.
        items: All items.
        parts: Places of the items of each part, and the answers to them.
        replies: Those of the model itself to the questions of suites.
    """
    count = len(items)
    answers, finished = [""] * count, np.ones(count, dtype=np.bool_)
    losses, tokens, answer_tokens = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    worse_losses, worse_tokens = np.full(count, np.nan), np.zeros(count, dtype=np.int64)
    ranks, scored = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_)
    for places, part in parts:
        for place, answer in zip(places, part.answers, strict=True):
            answers[place] = answer
        where = np.array(places, dtype=np.int64)
        finished[where], losses[where], tokens[where] = part.finished, part.losses, part.tokens
        answer_tokens[where], scored[where] = part.answer_tokens, True
        if part.worse is not None:
            worse_losses[where], worse_tokens[where] = part.worse.losses, part.worse.tokens
        if part.ranks is not None:
            ranks[where] = part.ranks
    outcomes = [part for _, part in parts]
    return Outcome(
        model,
        answers,
        finished,
        losses,
        tokens,
        answer_tokens,
        next((one.bias for one in outcomes if one.bias is not None), None),
        WorseAnswers(worse_losses, worse_tokens) if any(one.worse is not None for one in outcomes) else None,
        ranks if any(one.ranks is not None for one in outcomes) else None,
        items=hash_items(items),
        replies=replies or {},
        scored=None if scored.all() else scored,
    )


def answer_by_folds(
    items: Sequence[Item], folds: Folds, initial: Path, tuned: Path, trained: Sequence[Path], how: AnswerSettings
) -> Outcome:
    """The candidate's answers: those of the folds' models to the training rows, its own to the others.

    Args:
        items: The held-out items.
        folds: How the training rows are dealt.
        initial: Folder of the base, written by model initialisation.
        tuned: Folder of the candidate, written by fine-tuning.
        trained: The same of each fold.
        how: The settings.
    """
    if not folds.count:
        return answer_with_candidate(items, initial, tuned, how)
    alone = replace(how, suites={})
    parts, replies = [], None
    for fold, places in list_places([item.id for item in items], folds):
        own = [items[place] for place in places]
        if fold is None:
            parts.append((places, answer_with_candidate(own, initial, tuned, how)))
            replies = parts[-1][1].replies
        else:
            parts.append((places, answer_with_candidate(own, initial, trained[fold], alone)))
    if how.suites and replies is None:
        # Questions of suites are for the candidate itself, also where no item is.
        replies = answer_with_candidate(items[:1], initial, tuned, how).replies
    return join_outcomes("candidate", items, parts, replies)


def answer_by_seeds(
    items: Sequence[Item], initial: Path, trained: Mapping[str, Path], how: AnswerSettings
) -> list[Outcome]:
    """Answers of the models of other seeds, each under its name."""
    alone = replace(how, suites={})
    return [replace(answer_with_candidate(items, initial, one, alone), model=name) for name, one in trained.items()]


def answer_unseen(items: Sequence[Item], folds: Folds, folder: Path | None, how: AnswerSettings) -> Outcome | None:
    """The champion's answers to what it had not seen, see `tasks.evaluation.held_out.folds`; None without a champion.

    Args:
        items: The held-out items.
        folds: How the candidate's training rows are dealt.
        folder: The champion's model.
        how: The settings.
    """
    if folder is None or not folds.count:
        return answer_with_champion(items, folder, how)
    kept = _read_kept(folder.parent / KEPT)
    seen = {name: {row[name] for row in kept} - {""} for name in ("id", "cluster", "prompt")}
    answered = {row["item"]: row for row in kept if row["item"] is not None}
    stored: list[int] = []
    fresh: list[int] = []
    for place, (item, prompt) in enumerate(zip(items, hash_prompts([one.prompt for one in items]), strict=True)):
        if hash_items([item]) in answered:
            stored.append(place)
        elif kept:
            if not (item.id in seen["id"] or item.cluster in seen["cluster"] or prompt in seen["prompt"]):
                fresh.append(place)
        elif item.id not in folds.of_item:
            # A champion without such a file was trained on nothing of the test split, and maybe on all the rest.
            fresh.append(place)
    if left := len(items) - len(stored) - len(fresh):
        logger.warning(
            "%s of %s items do not count: the champion was trained on them and its release keeps no answer from folds",
            f"{left:,}", f"{len(items):,}",
        )  # fmt: skip
    parts: list[tuple[list[int], Outcome]] = []
    if stored:
        parts.append((stored, _restore([answered[hash_items([items[place]])] for place in stored])))
    if fresh:
        own = answer_with_champion([items[place] for place in fresh], folder, how)
        assert own is not None
        parts.append((fresh, own))
        return join_outcomes("champion", items, parts, own.replies)
    asked = answer_with_champion(items[:1], folder, how) if how.suites else None
    return join_outcomes("champion", items, parts, asked.replies if asked else None)


def blank_unscored(items: Sequence[Item], outcomes: Sequence[Outcome | None]) -> list[Item]:
    """The items, without the prompts of those that count for no model, so that no judge is asked about them."""
    counted = np.ones(len(items), dtype=np.bool_)
    for one in outcomes:
        if one is not None and one.scored is not None:
            counted &= one.scored
    return [item if kept else replace(item, prompt=()) for item, kept in zip(items, counted, strict=True)]


def write_kept(outcome: Outcome, items: Sequence[Item], folds: Folds, train: pa.Table, path: Path) -> dict[str, int]:
    """Write what the folds answered, for the release; without folds a file without rows.

    Args:
        outcome: The candidate's answers.
        items: The held-out items.
        folds: How the training rows are dealt.
        train: Training rows, `Example`.
        path: The file.
    """
    place_of = {item.id: place for place, item in enumerate(items)}
    rows = train.select(["id", "cluster", "messages"]).to_pylist() if folds.count else []
    found = []
    for row, prompt in zip(rows, hash_prompts([row["messages"][:-1] for row in rows]), strict=True):
        values = {"id": row["id"], "cluster": row["cluster"], "prompt": prompt}
        if (place := place_of.get(row["id"])) is not None:
            values |= {
                "item": hash_items([items[place]]),
                "answer": outcome.answers[place],
                "finished": bool(outcome.finished[place]),
                "loss": float(outcome.losses[place]),
                "tokens": int(outcome.tokens[place]),
                "answer_tokens": int(outcome.answer_tokens[place]),
            }
            if outcome.worse is not None and outcome.worse.tokens[place]:
                values |= {
                    "worse_loss": float(outcome.worse.losses[place]),
                    "worse_tokens": int(outcome.worse.tokens[place]),
                }
            if outcome.ranks is not None:
                values["rank"] = int(outcome.ranks[place])
        found.append(values)
    write_table(pa.Table.from_pylist(found, schema=FOLDS), path, FOLDS)
    return {"rows": len(found), "answered": sum("item" in one for one in found)}


def _read_kept(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(path, FOLDS).to_pylist() if path.is_file() else []
    return found


def _restore(rows: Sequence[dict[str, Any]]) -> Outcome:
    return Outcome(
        "champion",
        [row["answer"] for row in rows],
        np.array([row["finished"] for row in rows], dtype=np.bool_),
        np.array([row["loss"] for row in rows], dtype=np.float64),
        np.array([row["tokens"] for row in rows], dtype=np.int64),
        np.array([row["answer_tokens"] for row in rows], dtype=np.int64),
        worse=_restore_worse(rows),
        ranks=None if any(row["rank"] is None for row in rows) else np.array([row["rank"] for row in rows]),
    )


def _restore_worse(rows: Sequence[dict[str, Any]]) -> WorseAnswers | None:
    if all(row["worse_loss"] is None for row in rows):
        return None
    return WorseAnswers(
        np.array([np.nan if row["worse_loss"] is None else row["worse_loss"] for row in rows], dtype=np.float64),
        np.array([row["worse_tokens"] or 0 for row in rows], dtype=np.int64),
    )
