"""The release alone, in batches: what training and evaluation have seen. The default."""

from __future__ import annotations

from typing import Any, Literal

from tasks.contracts.params import Section
from tasks.gateway.decodings.decoding import PreparedDecoding, ReadFolder


class PlainDecoding(Section):
    """The release alone."""

    name: Literal["plain"] = "plain"

    def prepare(
        self, model: Any, tokenizer: Any, read: ReadFolder, prefill_tokens: int, context: int
    ) -> PreparedDecoding:
        from tasks.gateway.batching.batch import Batch

        return PreparedDecoding(model, lambda: Batch(model, prefill_tokens))
