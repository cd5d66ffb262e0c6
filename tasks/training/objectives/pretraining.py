"""Continued pre-training: documents as they are, every token given everything before it.

Teaches a base the words and facts of a field before it is taught a task (Gururangan et al. 2020, arXiv:2004.10964).
Documents are rows of plain text: no chat template, the end-of-text token after each, long ones split and nothing
dropped (`tasks.language_models.documents`); `tasks.language_models.long_rows` is for conversations. Those can be
trained beside, as in supervised fine-tuning, so that a base forgets less of how to answer;
``training_setup.mixture`` says how often.

Example: ``objective: {name: pretraining}``. Two documents of 300 and 150 tokens in rows of 256 are rows of 256, 47 and
152 tokens, of which 301 and 151 carry loss: every token of both, and their ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.language_models.document_rows import Blocks, encode_documents, find_documents
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.long_rows import LongRows
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.rows import TokenizedRows, join_rows, keep_supervised

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    pass

CONVERSATION = "a conversation, no document; `conversations: supervised` trains it"


class Pretraining(PlainObjective):
    """Every token of documents."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=True, token_loss=True, generates=False, shared_weights=True, keeps_state=False
    )
    rows: ClassVar[RowKind] = "texts"
    sequences: ClassVar[int] = 1
    long_rows: ClassVar[tuple[LongRows, ...]] = get_args(LongRows)
    unit: ClassVar[str] = "token"
    figures: ClassVar[Mapping[str, str]] = {}

    name: Literal["pretraining"] = "pretraining"
    blocks: Blocks = Field(
        default="document",
        description="document: each in rows and an attention block of its own; wrapped: one after another in full rows",
    )
    conversations: Literal["drop", "supervised"] = Field(
        default="drop", description="rows that are no documents: left out and counted, or their answers trained"
    )

    def describe(self) -> str:
        beside = ", and answers of conversations" if self.conversations == "supervised" else ""
        wrapped = ", one after another in full rows" if self.blocks == "wrapped" else ""
        return f"continued pre-training: every token of documents{wrapped}{beside}"

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        import numpy as np

        examples = tables.examples if how.limit is None else tables.examples.slice(0, how.limit)
        documents = np.array(find_documents(examples), dtype=bool)
        if self.blocks == "wrapped" and how.weights is not None:
            raise PipelineError(
                "objective.blocks: wrapped puts documents of several labels into one row, so that "
                "data_preparation.balancing cannot weigh it; set blocks: document, or balancing.weighting: none"
            )
        encoded = encode_documents(_where(examples, documents), how.tokenizer, how.max_tokens, self.blocks)
        kept = keep_supervised(encoded, how.max_tokens, *_chosen(how, documents))
        kept = replace(kept, cut=0)  # a long document loses nothing
        if self.conversations == "drop":
            left_out = int((~documents).sum())
            return replace(kept, dropped={**kept.dropped, **({CONVERSATION: left_out} if left_out else {})})
        others = encode_examples(_where(examples, ~documents), how.tokenizer, how.max_tokens, how.long_rows)
        return join_rows(kept, keep_supervised(others, how.max_tokens, *_chosen(how, ~documents)))

    def units(self, inputs: Batch) -> int:
        return int(inputs["labels"][:, 1:].ne(IGNORED).sum())

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return scorer.sum(inputs, scorer.token_loss)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return scorer.sum(inputs, CrossEntropy())


def _where(examples: pa.Table, mask: np.ndarray) -> pa.Table:
    import pyarrow as pa

    return examples.filter(pa.array(mask.tolist(), pa.bool_()))


def _chosen(how: Tokenization, mask: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights and classes of some of the examples."""
    return (
        None if how.weights is None else how.weights[mask],
        None if how.classes is None else how.classes[mask],
    )
