"""Emulated fine-tuning (Mitchell et al. 2023, arXiv:2310.12962): a large base that answers as the release was taught.

``log p = log p_large + strength * (log p_release - log p_small)``: what training changed in the small release is added
to a large base that was never trained (`tasks.language_models.emulated`). A token takes a pass of three models; with
``ahead`` the release proposes tokens for the large base to check, as in the paper, which saves many of its passes.

Example: ``decoding: {name: emulated, large: models/large, small: models/base, ahead: 4}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.params import Reads, Section
from tasks.gateway.decodings.decoding import PreparedDecoding, ReadFolder
from tasks.gateway.decodings.vocabulary import require_same_vocabulary


class EmulatedDecoding(Section):
    """A large base with the difference that training made to the release."""

    name: Literal["emulated"] = "emulated"
    large: Annotated[Path, Reads("folder", holds="config.json")] = Field(
        description="folder of a large transformers model with the release's vocabulary, not tuned"
    )
    small: Annotated[Path, Reads("folder", holds="config.json")] = Field(
        description="folder of the model that the release was tuned from"
    )
    strength: float = Field(default=1.0, ge=0, le=4, description="factor of the difference; 0 is the large base alone")
    ahead: int = Field(default=0, ge=0, le=64, description="tokens that the release proposes at a time; 0: none")

    def prepare(
        self, model: Any, tokenizer: Any, read: ReadFolder, prefill_tokens: int, context: int
    ) -> PreparedDecoding:
        from tasks.gateway.batching.batch import Batch
        from tasks.gateway.batching.speculation import SpeculativeBatch
        from tasks.language_models.emulated import EmulatedModel

        others = []
        for key in ("large", "small"):
            other, own = read(getattr(self, key))
            require_same_vocabulary(tokenizer, own, f"gateway.engine.decoding.{key}", getattr(self, key))
            others.append(other)
        emulated = EmulatedModel(others[0], model, others[1], self.strength).eval()
        if self.ahead:
            return PreparedDecoding(emulated, lambda: SpeculativeBatch(emulated, model, self.ahead, context))
        return PreparedDecoding(emulated, lambda: Batch(emulated, prefill_tokens))
