"""The score of a sequence classifier, above all of a reward model that was trained on preferences.

A folder with ``config.json`` and safetensors that transformers opens as a sequence classifier. One with a single
output gives that number, which has no bounds; one with several gives the log-probability of ``label``. The conversation
is written with the folder's own chat template, or, where it has none, as one text.

Example: ``{name: model, path: models/reward}``; ``{name: model, path: models/toxicity, label: toxic, weight: -1}``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.training.rewards.reward import AnswerAttempt, Bounds, Reference, Scorer, weight_field


class RewardModel(Section):
    """Reward by a classifier."""

    name: Literal["model"] = "model"
    weight: float = weight_field()
    path: Annotated[str, Reads("folder", holds="config.json")] = Field(
        default="models/reward", description="folder of the classifier, with its tokenizer"
    )
    label: str | None = Field(default=None, description="class whose log-probability counts; null: the only output")
    max_tokens: int = Field(default=1024, ge=1, description="tokens that it reads; longer texts lose their beginning")
    batch_size: int = Field(default=16, ge=1, description="texts scored at once")

    @property
    def needs(self) -> tuple[Reference, ...]:
        return ()

    @property
    def bounds(self) -> Bounds:
        return (-math.inf, math.inf) if self.label is None else (-math.inf, 0.0)

    def problems(self) -> list[str]:
        if (Path(self.path) / "config.json").is_file():
            return []
        return [f"rewards: model: {self.path} holds no config.json; set path to the folder of a sequence classifier"]

    def files(self) -> list[Path]:
        return sorted(path for path in Path(self.path).rglob("*") if path.suffix in (".safetensors", ".json", ".jinja"))

    def describe(self) -> str:
        return f"{'the score' if self.label is None else f'the log-probability of {self.label}'} of {self.path}"

    def open(self, cache: Path | None) -> Scorer:
        """Load the classifier.

        Raises:
            PipelineError: The folder holds none, or not this label.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(self.path, **options)
            auto: Any = AutoModelForSequenceClassification
            model = auto.from_pretrained(self.path, use_safetensors=True, **options).eval()
        except (OSError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise PipelineError(
                f"reward model: {self.path} cannot be loaded as a sequence classifier ({why}); give such a folder"
            ) from error
        column = self._find_column(model.config)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        tokenizer.padding_side = "right"

        def score(attempts: Sequence[AnswerAttempt]) -> list[float]:
            return self._score(model, tokenizer, column, attempts)

        return score

    def _find_column(self, config: Any) -> int | None:
        names = {str(name): int(number) for number, name in config.id2label.items()}
        if self.label is None:
            if config.num_labels == 1:
                return None
            raise PipelineError(
                f"reward model: {self.path} has {config.num_labels} classes; set label to one of {', '.join(names)}"
            )
        if self.label not in names:
            raise PipelineError(
                f'reward model: {self.path} has no class "{self.label}"; set label to one of {", ".join(names)}'
            )
        return names[self.label]

    def _score(self, model: Any, tokenizer: Any, column: int | None, attempts: Sequence[AnswerAttempt]) -> list[float]:
        import torch

        rows = [self.encode(tokenizer, attempt)[-self.max_tokens :] for attempt in attempts]
        values: list[float] = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            inputs = tokenizer.pad({"input_ids": [rows[place] for place in part]}, return_tensors="pt")
            with torch.inference_mode():
                logits = model(
                    input_ids=inputs["input_ids"].to(model.device),
                    attention_mask=inputs["attention_mask"].to(model.device),
                ).logits.float()
            found = logits[:, 0] if column is None else torch.log_softmax(logits, dim=-1)[:, column]
            for place, value in zip(part, found.tolist(), strict=True):
                values[place] = value
        return values

    def encode(self, tokenizer: Any, attempt: AnswerAttempt) -> list[int]:
        """The conversation as tokens, as a model is trained on it; without a chat template, as one text."""
        turns = [*attempt.prompt, {"role": "assistant", "content": attempt.answer}]
        if tokenizer.chat_template is None:
            text = "\n".join(str(turn.get("content") or "") for turn in turns)
            return list(tokenizer(text).input_ids)
        from tasks.language_models.chat import chat_of

        chat = chat_of(tokenizer)
        (parts,) = chat.encode([chat.write(turns)])
        return [token for part in parts for token, _ in part]
