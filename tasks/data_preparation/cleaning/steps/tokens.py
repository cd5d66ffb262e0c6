"""Length limits in tokens of a model's tokenizer.

Good for: keeping only rows that fit the context used in training. The tokens of the texts are counted, without those
that the chat template adds to each turn.

Example:
    ``{name: tokens, tokenizer: models/base, max_total: 256}`` drops conversations of more than 256 tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.contracts.params import Reads, Section

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

BATCH_TEXTS = 10_000


class Tokens(Section):
    """Drops rows with too few or too many tokens."""

    name: Literal["tokens"] = "tokens"
    tokenizer: Annotated[str, Reads("place")] = Field(
        default="models/base", description="folder of a model, or its tokenizer.json; relative to the repository"
    )
    sha256: str | None = Field(
        default=None,
        description="SHA-256 of tokenizer.json; pin it, as DVC does not track a tokenizer outside models/base",
    )
    min_prompt: int = Field(default=1, ge=0, description="tokens of all user turns together")
    min_answer: int = Field(default=1, ge=0, description="tokens of all assistant turns together")
    max_total: int = Field(default=2048, gt=0, description="tokens of the whole conversation")

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Tokens:
        if self.min_prompt + self.min_answer > self.max_total:
            raise ValueError("min_prompt + min_answer is more than max_total; no row could be kept")
        return self

    def clean(self, table: pa.Table) -> Cleaned:
        import numpy as np
        import pyarrow.compute as pc

        from tasks.corpus.rows.learned import learned_messages
        from tasks.corpus.rows.rows import turn_lengths
        from tasks.corpus.rows.texts import Cleaned

        messages = learned_messages(table)
        turns = messages.flatten()
        counts = count_tokens(turns.field("content"), Path(self.tokenizer), self.sha256)
        row_of_turn = np.repeat(np.arange(len(messages)), turn_lengths(messages))

        def total(role: str | None = None) -> list[int]:
            chosen = counts if role is None else counts * np.asarray(pc.equal(turns.field("role"), role))
            sums: list[int] = np.bincount(row_of_turn, weights=chosen, minlength=len(messages)).astype(int).tolist()
            return sums

        each = zip(total("user"), total("assistant"), total(), strict=True)
        return Cleaned(table, [self._judge(*figures) for figures in each])

    def _judge(self, prompt: int, answer: int, total: int) -> str | None:
        if prompt < self.min_prompt:
            return f"prompt shorter than {self.min_prompt} tokens"
        if answer < self.min_answer:
            return f"answer shorter than {self.min_answer} tokens"
        return f"longer than {self.max_total} tokens" if total > self.max_total else None


def count_tokens(texts: pa.Array, place: Path, sha256: str | None = None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Tokens of each text.

    Args:
        texts: Strings.
        place: Folder of a model, or its ``tokenizer.json``.
        sha256: Expected hash of the file, if pinned.

    Raises:
        PipelineError: The tokenizer is missing, cannot be read, or differs from its pinned hash.
    """
    import numpy as np
    from tokenizers import Tokenizer

    file = place / "tokenizer.json" if place.is_dir() else place
    if not file.is_file():
        raise PipelineError(
            f"tokens: no tokenizer at {file}; name the folder of a model with tokenizer.json "
            "in data_preparation.cleaning (tokens.tokenizer)"
        )
    if sha256 is not None and (found := hash_file(file)) != sha256:
        raise PipelineError(f"tokens: {file} has SHA-256 {found}, pinned is {sha256}; restore it or change the pin")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise PipelineError(f"tokens: {file} is not a tokenizer ({error}); save it again with transformers") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counts = np.zeros(len(texts), dtype=np.int64)
    for start in range(0, len(texts), BATCH_TEXTS):
        batch = texts.slice(start, BATCH_TEXTS).to_pylist()
        encoded = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        counts[start : start + len(batch)] = [len(tokens.ids) for tokens in encoded]
    return counts
