"""Rewards of held-out conversations: by a reward model as trained, as exported, and as training reads it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.tables import read_examples
from tasks.language_models.encoding import encode_examples
from tasks.language_models.generation import context_length
from tasks.training.reward_models import last_place, open_classifier, padding_of, read_head, score_places
from tasks.training.rewards.model import RewardModel
from tasks.training.rewards.reward import AnswerAttempt
from tasks.training.tuned import load_tuned

TOLERANCE = 1e-3  # of a reward, absolute below 1 and relative above
BATCH = 16


@dataclass(frozen=True)
class ComparedRewards:
    """Rewards of the same conversations.

    Attributes:
        names: Ids of the conversations.
        left_out: Conversations longer than the context.
        same_tokens: Conversations that training's reward reads as the tokens that were trained on.
        trained: By the trained model, not merged.
        exported: By the exported classifier.
        served: By the reward ``{name: model}`` over the exported folder, from the texts.
    """

    names: list[str]
    left_out: int
    same_tokens: int
    trained: list[float]
    exported: list[float]
    served: list[float]

    def count_equal(self, others: Sequence[float]) -> int:
        """Rewards that are those of the trained model."""
        pairs = zip(self.trained, others, strict=True)
        return sum(abs(one - other) <= TOLERANCE * max(1.0, abs(one)) for one, other in pairs)

    @property
    def differences(self) -> list[float]:
        """The largest difference of each conversation's rewards from the trained model's."""
        every = zip(self.trained, self.exported, self.served, strict=True)
        return [max(abs(one - second), abs(one - third)) for one, second, third in every]


def compare_rewards(initial: Path, tuned: Path, exported: Path, test: Path, count: int) -> ComparedRewards:
    """Reward the first held-out conversations in the order of their ids.

    Args:
        initial: The base model's folder.
        tuned: Folder written by fine-tuning.
        exported: The exported classifier's folder.
        test: Held-out examples.
        count: Number of conversations; all where there are fewer.

    Raises:
        PipelineError: None fits into the context.
    """
    from transformers import AutoTokenizer

    model, tokenizer = load_tuned(initial, tuned)
    context = context_length(model.config)
    table = read_examples(test).sort_by("id")
    encoded = encode_examples(table, tokenizer, 1 << 30)
    conversations = table["messages"].to_pylist()
    fitting = [
        place
        for place, (tokens, turns) in enumerate(zip(encoded["input_ids"].to_pylist(), conversations, strict=True))
        if len(turns) > 1 and tokens and (context is None or len(tokens) <= context)
    ]
    chosen = fitting[:count]
    if not chosen:
        raise PipelineError(
            f"{test}: none of {table.num_rows:,} held-out conversations fits into a context of {context}, so no reward "
            "can be compared; give data_preparation a larger test share"
        )
    rows = [encoded["input_ids"][place].as_py() for place in chosen]
    places = [last_place(row, padding_of(tokenizer)) for row in rows]
    trained = [_reward_unmerged(model, read_head(tuned), row, place) for row, place in zip(rows, places, strict=True)]
    del model
    gc.collect()
    classifier = open_classifier(exported).float()
    by_export = score_places(classifier, rows, [[place] for place in places], BATCH, "exported")
    del classifier
    gc.collect()
    reward = RewardModel(path=str(exported), max_tokens=max(map(len, rows)), batch_size=BATCH)
    attempts = [
        AnswerAttempt(conversations[place][:-1], conversations[place][-1]["content"], 0, True, None, None, "")
        for place in chosen
    ]
    own = AutoTokenizer.from_pretrained(exported, trust_remote_code=False)
    read = [[*prompt, *answer] for prompt, answer in reward.encode(own, attempts)]
    same = sum(tokens == row for tokens, row in zip(read, rows, strict=True))
    served = reward.open(None)(attempts)
    names = [table["id"][place].as_py() for place in chosen]
    left_out = table.num_rows - len(fitting)
    return ComparedRewards(names, left_out, same, trained, [float(one[0]) for one in by_export], served)


def _reward_unmerged(model: Any, weight: Any, tokens: Sequence[int], place: int) -> float:
    """The reward of one row, from the state before the output layer, which a hook reads of any model and adapter."""
    import torch

    found: list[torch.Tensor] = []

    def read(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        found.append(arguments[0])

    hook = model.get_output_embeddings().register_forward_pre_hook(read)
    try:
        with torch.inference_mode():
            model(input_ids=torch.tensor([list(tokens)], device=model.device), use_cache=False)
    finally:
        hook.remove()
    return float(found[0][0, place].float() @ weight[0].to(model.device))
