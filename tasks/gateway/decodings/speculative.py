"""Speculative decoding (Leviathan et al. 2023, arXiv:2211.17192): a small model proposes, the release checks.

Answers are those of ``plain``, sooner where the draft is much smaller and often right; a draft of the same family that
was distilled from the release proposes best. For a few clients at a time: rows are computed one by one.

Example: ``decoding: {name: speculative, draft: models/draft, ahead: 4}``. Of 4 proposed tokens of which 3 are what the
release would have written, one pass of the release gives 4 tokens: the 3, and the one it writes instead of the fourth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.params import Reads, Section
from tasks.gateway.decodings.decoding import PreparedDecoding, ReadFolder
from tasks.gateway.decodings.vocabulary import require_same_vocabulary


class SpeculativeDecoding(Section):
    """The release, with a draft that proposes tokens."""

    name: Literal["speculative"] = "speculative"
    draft: Annotated[Path, Reads("folder", holds="config.json")] = Field(
        description="folder of a small transformers model with the release's vocabulary"
    )
    ahead: int = Field(default=4, ge=1, le=64, description="tokens proposed at a time")

    def prepare(
        self, model: Any, tokenizer: Any, read: ReadFolder, prefill_tokens: int, context: int
    ) -> PreparedDecoding:
        from tasks.gateway.batching.speculation import SpeculativeBatch
        from tasks.language_models.batching import find_context

        draft, own = read(self.draft)
        require_same_vocabulary(tokenizer, own, "gateway.engine.decoding.draft", self.draft)
        room = min(context, find_context(draft.config, own))
        return PreparedDecoding(model, lambda: SpeculativeBatch(model, draft, self.ahead, room))
