"""Validation loss against the processor seconds of training, measured alike in every trainer of transformers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, TrainerCallback


class LossClock(TrainerCallback):
    """Looks at the validation loss every few steps, with the clock of the training stopped meanwhile.

    Args:
        job: ``validation``: a file of conversations; ``validate_every``: optimizer steps. Without, it does nothing.

    Attributes:
        points: Processor seconds of training, which another load does not stretch, and mean cross-entropy of the
            answers' tokens, in nats, of each look.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.every: int = job.get("validate_every", 0)
        self.points: list[tuple[float, float]] = []
        self.began, self.paused = 0.0, 0.0
        if self.every:
            tokenizer = AutoTokenizer.from_pretrained(job["model"])
            lines = Path(job["validation"]).read_text().splitlines()
            self.rows = [encode(tokenizer, json.loads(line)["messages"], job["max_tokens"]) for line in lines]

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not self.every or state.global_step % self.every:
            return
        looked = time.process_time()
        loss = mean_loss(model, self.rows)
        self.points.append((looked - self.began - self.paused, loss))
        self.paused += time.process_time() - looked


def encode(tokenizer: Any, turns: list[dict[str, str]], max_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of a conversation and whether each belongs to an answer, shape (1, tokens)."""
    found = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    ids, answers = found["input_ids"][:max_tokens], found["assistant_masks"][:max_tokens]
    return torch.tensor(ids)[None], torch.tensor(answers, dtype=torch.bool)[None]


def mean_loss(model: Any, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for ids, answers in rows:
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            total, count = total + float(losses[answers[0, 1:]].sum()), count + int(answers[0, 1:].sum())
    model.train()
    return total / count
