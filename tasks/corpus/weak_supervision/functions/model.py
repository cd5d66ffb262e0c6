"""A language model that is prompted for the label; an answer that is not one of the labels is an abstention.

Answers are cached by a hash of the prompt in the folder ``cache``: a rerun needs no model and gives the same votes. DVC
tracks the cache when it lies below ``data/raw``.

Example: ``{name: model, labels: [refund, parcel], writer: {name: local, path: models/teacher}, cache: data/raw/votes}``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section
from tasks.corpus.text.labels import LabelReader
from tasks.language_models.writers import AnyWriter

ORDER = (
    "Which of these labels fits the text between the lines best: {labels}? Answer with that label and nothing else, "
    "or with none if none fits.\n---\n{text}\n---"
)


class Model(Section):
    """The label that a language model answers."""

    name: Literal["model"] = "model"
    title: str = Field(default="", description="its name in the tables; model when empty")
    labels: tuple[str, ...] = Field(min_length=2, description="labels to choose from")
    order: str = Field(default=ORDER, description="prompt with the placeholders {labels} and {text}")
    writer: AnyWriter = Field(description="the model that answers the prompts")
    cache: str = Field(description="folder of the cached answers")

    @field_validator("order")
    @classmethod
    def _check_placeholders(cls, order: str) -> str:
        if "{text}" not in order or "{labels}" not in order:
            raise ValueError("order must hold {text} and {labels}")
        return order

    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
        """The label, or None, per text."""
        from tasks.language_models.writers.answers import ask

        order = self.order.replace("{labels}", ", ".join(self.labels))
        prompts = [[{"role": "user", "content": order.replace("{text}", text)}] for text in texts]
        reader = LabelReader(self.labels)
        answers = ask(self.writer, prompts, root / self.cache)
        return {self.title or "model": [reader.read(text or "") for text in answers]}
