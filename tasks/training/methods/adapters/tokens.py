"""Trainable tokens: the rows of some tokens in the embeddings, and in an output layer that is tied to them, and nothing
else (PEFT's TrainableTokens).

Good for tokens that ``model_initialisation.vocabulary.add`` made, which begin as the mean of their pieces, and for
marks that the base never used. Everything that is said without these tokens stays as it was.

Example: ``method: {name: tokens, tokens: [XK-42, XK-43]}`` with ``learning_rate: 1.0e-2``. On a base of 320 that is 2 x
320 = 640 trained weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import FOLDER, adapt_with, merge_adapter, open_adapter, save_adapter
from tasks.training.methods.beside_layers import USUAL
from tasks.training.methods.method import Can, Rates


class TrainableTokens(Section):
    """Train the embeddings of some tokens."""

    can: ClassVar[Can] = USUAL
    reads_base: ClassVar[bool] = True

    name: Literal["tokens"] = "tokens"
    tokens: Literal["end"] | Annotated[list[str], Field(min_length=1)] = Field(
        default="end", description="tokens as the vocabulary has them; end: the one that ends a text"
    )

    def problems(self, shape: ModelShape) -> list[str]:
        problems = []
        if not shape.parameters:
            problems.append("method.tokens: the model has no embeddings; take another base")
        if self.tokens != "end" and len(set(self.tokens)) < len(self.tokens):
            problems.append("method.tokens: a token is named twice; name each once")
        return problems

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return (1e-4, 1e-1)

    def resolve(self, shape: ModelShape) -> Self:
        return self

    def trainable(self, shape: ModelShape) -> int:
        return (1 if self.tokens == "end" else len(self.tokens)) * shape.hidden

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return []

    def own_bytes(self, shape: ModelShape) -> int:
        """The rows as they are trained, and as the base has them."""
        return 2 * 4 * self.trainable(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The embeddings with the trained rows in them."""
        return shape.vocabulary * shape.hidden

    def describe(self) -> str:
        if self.tokens == "end":
            return "trainable tokens (the end of a text)"
        shown = ", ".join(self.tokens[:8]) + (", ..." if len(self.tokens) > 8 else "")
        return f"trainable tokens ({shown})"

    def adapt(self, model: Any) -> Any:
        """The base with trainable rows.

        Raises:
            PipelineError: The vocabulary lacks a token.
        """
        from peft import TrainableTokensConfig

        return adapt_with(model, TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=self._places(model)))

    def save(self, model: Any, folder: Path) -> list[Path]:
        return save_adapter(model, folder / FOLDER)

    def load(self, base: Path, tuned: Path) -> Any:
        """The base model with the trained rows over its own; nothing is merged."""
        return open_adapter(base, tuned).get_base_model()

    def merge(self, base: Path, tuned: Path) -> Any:
        """The base model with the trained rows in its embeddings."""
        return merge_adapter(open_adapter(base, tuned), tuned)

    def _places(self, model: Any) -> list[int]:
        """The tokens' rows, ascending."""
        from transformers import AutoTokenizer

        base = model.name_or_path
        tokenizer = AutoTokenizer.from_pretrained(base)
        if self.tokens == "end":
            return [tokenizer.eos_token_id]
        vocabulary = tokenizer.get_vocab()
        if missing := [token for token in self.tokens if token not in vocabulary]:
            raise PipelineError(
                f"method.tokens: the vocabulary of {base} has no {', '.join(missing)}; name tokens as it has them, or "
                "add them with model_initialisation.vocabulary.add"
            )
        return sorted(vocabulary[token] for token in self.tokens)
