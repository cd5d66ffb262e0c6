"""The prompts that are answered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import content_id
from tasks.contracts.tables import read_examples
from tasks.corpus.reading.ingest import read_source
from tasks.synthesis.checks.duplicates import DuplicateCheck
from tasks.synthesis.sampling.params import AnswerSampling
from tasks.synthesis.seeds import read_splits
from tasks.training.objectives.rollouts.prompts import Prompt


def read_prompts(settings: AnswerSampling, splits: Mapping[str, Path], root: Path) -> list[Prompt]:
    """The prompts with the rows' own answers and labels, each once, in the order of a hash of them.

    Args:
        settings: Source and number.
        splits: Name of each split to its file, where there is one.
        root: Folder that relative paths are relative to.

    Raises:
        PipelineError: The source cannot be read, or no row asks anything that is not held out.
    """
    if settings.prompts == "train":
        table, place = read_examples(splits["train"]), str(splits["train"])
    else:
        source = settings.prompts.model_copy(update={"title": settings.prompts.title or "prompts"})
        table, _, origin = read_source(source, root)
        place = origin.place
    found: dict[str, Prompt] = {}
    for turns, label in zip(table["messages"].to_pylist(), table["label"].to_pylist(), strict=True):
        prompt = _read_prompt([{"role": turn["role"], "content": turn["content"]} for turn in turns], label)
        if prompt is not None:
            found.setdefault(prompt.row, prompt)
    prompts = sorted(found.values(), key=lambda prompt: hashlib.sha256(f"sampling:{prompt.row}".encode()).digest())
    asked = [str(prompt.turns[-1]["content"]) for prompt in prompts]
    held_out = [group for group in read_splits(splits) if group.held_out]
    leaking = set[int]().union(*(group.find_similar(asked, DuplicateCheck().held_out) for group in held_out))
    kept = [prompt for place_, prompt in enumerate(prompts) if place_ not in leaking][: settings.limit]
    if not kept:
        raise PipelineError(
            f"sampling.prompts: of {table.num_rows:,} rows of {place} none asks something that differs from the "
            "held-out rows; give other prompts"
        )
    return kept


def _read_prompt(turns: list[dict[str, Any]], label: str | None) -> Prompt | None:
    """What a conversation asks before its last answer; its row is the hash of that."""
    if len(turns) < 2 or turns[-1]["role"] != "assistant" or turns[-2]["role"] == "assistant":
        return None
    return Prompt(turns[:-1], turns[-1]["content"], label, content_id(turns[:-1]))
