"""The rows of a split as prompts: what is asked, and beside it what the answers are compared with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.contracts.errors import raise_all
from tasks.language_models.encoding import IGNORED
from tasks.language_models.long_rows import LongRows
from tasks.language_models.templates.chat import chat_of
from tasks.language_models.templates.rendering import TemplateRefusal, Turns
from tasks.training.objectives.data import SplitTables, Tokenization
from tasks.training.objectives.rollouts.params import Rollout
from tasks.training.objectives.rollouts.tools import OpenTools
from tasks.training.rewards.reward import Reference, RowFacts
from tasks.training.rewards.scoring import list_reward_problems
from tasks.training.rows import REFUSED, TokenizedRows

# The answer of a row is no part of what is cut; a prompt that leaves no room for another is left out by either.
PROMPTS_LONGER: tuple[LongRows, ...] = ("truncate_right", "drop")
NO_PROMPT = "nothing is asked before the answer"
NO_ROOM = "the prompt leaves no room for max_new_tokens"


@dataclass(frozen=True)
class Prompt:
    """What is known of an item beside its tokens.

    Attributes:
        turns: The turns before the answer.
        reference: The row's own answer; None where it has none.
        label: Its label, if any.
        row: Its id.
    """

    turns: Turns
    reference: str | None
    label: str | None
    row: str

    def write(self) -> str:
        return json.dumps(vars(self), ensure_ascii=False)


def read_prompt(note: str) -> Prompt:
    """What `Prompt.write` wrote."""
    return Prompt(**json.loads(note))


def tokenize_prompts(tables: SplitTables, how: Tokenization, rollout: Rollout) -> TokenizedRows:
    """One item for each conversation: its turns before the last answer, which is the reference.

    Args:
        tables: The split.
        how: ``max_tokens`` is the length of prompt and answer together.
        rollout: Says how long answers may be, which tools the prompt tells of, and what rewards compare with.

    Raises:
        PipelineError: Rows lack what a reward compares with.
    """
    import numpy as np

    chat, dropped, kept = chat_of(how.tokenizer), Counter[str](), []
    tools = OpenTools(rollout.tools) if rollout.tools else None
    numbers, full_lengths = [], []
    examples = tables.examples if how.limit is None else tables.examples.slice(0, how.limit)
    columns = (examples[name].to_pylist() for name in ("id", "messages", "label"))
    for number, (row, messages, label) in enumerate(zip(*columns, strict=True)):
        turns: list[dict[str, Any]] = [dict(turn) for turn in messages]
        reference = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else None
        if not turns:
            dropped[NO_PROMPT] += 1
            full_lengths.append(0)
            continue
        try:
            ids = chat.prompt_ids(tools.explain(turns) if tools else turns)
        except TemplateRefusal:
            dropped[REFUSED] += 1
            full_lengths.append(0)
            continue
        full_lengths.append(len(ids))
        if len(ids) + rollout.max_new_tokens > how.max_tokens:
            dropped[NO_ROOM] += 1
            continue
        kept.append((ids, Prompt(turns, reference, label, row)))
        numbers.append(number)
    _check_references(rollout, [prompt for _, prompt in kept])
    lengths = np.array([len(ids) for ids, _ in kept], dtype=np.int64)
    tokens = np.array([token for ids, _ in kept for token in ids], dtype=np.int64)
    return TokenizedRows(
        tokens=tokens,
        labels=np.full(len(tokens), IGNORED, dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        dropped=dropped,
        ids=[prompt.row for _, prompt in kept],
        weights=None,
        classes=None if how.classes is None else how.classes[numbers],
        columns={"prompt_tokens": lengths},
        notes=[prompt.write() for _, prompt in kept],
        full_lengths=np.array(full_lengths, dtype=np.int64),
    )


def _check_references(rollout: Rollout, prompts: Sequence[Prompt]) -> None:
    """Refuse rows without what a reward compares with.

    Raises:
        PipelineError: Some lack it.
    """
    having: dict[Reference, int] = {
        "answer": sum(prompt.reference is not None for prompt in prompts),
        "label": sum(prompt.label is not None for prompt in prompts),
    }
    problems = list_reward_problems(rollout.rewards, RowFacts(len(prompts), having))
    raise_all(problems, "the rewards do not fit the rows")
