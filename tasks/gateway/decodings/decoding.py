"""The shape of a decoding: whose logits the engine chooses tokens from, and how they are computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.gateway.batching.running_rows import RunningRows

# Folder of a transformers model to the model in evaluation mode and its tokenizer.
ReadFolder = Callable[[Any], tuple[Any, Any]]


@dataclass(frozen=True)
class PreparedDecoding:
    """What a decoding made of a release.

    Attributes:
        model: Gives the logits that tokens are chosen from.
        rows: Makes the batch that the loop fills; it is called again for a measurement.
    """

    model: Any
    rows: Callable[[], RunningRows]


class Decoding(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name."""

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def prepare(
        self, model: Any, tokenizer: Any, read: ReadFolder, prefill_tokens: int, context: int
    ) -> PreparedDecoding:
        """Open what else is needed and say how rows are decoded.

        Args:
            model: The release.
            tokenizer: Its tokenizer.
            read: Opens another folder as the release was opened.
            prefill_tokens: Maximum prompt tokens of one pass.
            context: Maximum tokens of prompt and answer together, of the release.

        Raises:
            PipelineError: Another model is needed that cannot be opened, or has another vocabulary.
        """
        ...
