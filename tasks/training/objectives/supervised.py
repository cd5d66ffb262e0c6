"""Supervised fine-tuning: the tokens of the assistant's turns, each given everything before it.

What a model learns its task with, from conversations that show it. Which tokens carry loss is in the data: the turns of
the assistant, ends of turn included, but for those marked ``train: false``; a row's weight multiplies its tokens' loss,
see `tasks.language_models.encoding`. ``training_setup.loss`` says what of a token's probability is minimised.

Example: ``objective: {name: supervised}``, the default. A conversation of 30 tokens, of which the answer is 12, counts
as 12 units; a step of 40 such tokens in all divides the sum of their losses by 40. ``tokens: last_answer`` trains the
last answer of each conversation alone, ``tokens: all`` everything that is written, what the user says and the
template's marks too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from pydantic import Field

from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.long_rows import LongRows
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.rows import TokenizedRows, keep_supervised

if TYPE_CHECKING:
    import pyarrow as pa


_TOKENS = {
    "answers": "the assistant's turns",
    "last_answer": "the last answer of each conversation",
    "all": "all tokens",
}


class Supervised(PlainObjective):
    """The assistant's turns of conversations."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=True, token_loss=True, generates=False, shared_weights=True, keeps_state=False
    )
    rows: ClassVar[RowKind] = "conversations"
    sequences: ClassVar[int] = 1
    long_rows: ClassVar[tuple[LongRows, ...]] = get_args(LongRows)
    unit: ClassVar[str] = "token"
    figures: ClassVar[Mapping[str, str]] = {}

    name: Literal["supervised"] = "supervised"
    tokens: Literal["answers", "last_answer", "all"] = Field(
        default="answers", description="which carry loss: every answer, the last of each conversation, or all tokens"
    )

    def describe(self) -> str:
        return f"supervised: {_TOKENS[self.tokens]}"

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        examples = tables.examples if how.limit is None else tables.examples.slice(0, how.limit)
        if self.tokens == "last_answer":
            examples = _leave_last_answer(examples)
        encoded = encode_examples(examples, how.tokenizer, how.max_tokens, how.long_rows)
        if self.tokens == "all":
            encoded = encoded.set_column(encoded.schema.get_field_index("labels"), "labels", encoded["input_ids"])
        return keep_supervised(encoded, how.max_tokens, how.weights, how.classes)

    def units(self, inputs: Batch) -> int:
        return int(inputs["labels"][:, 1:].ne(IGNORED).sum())

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return scorer.sum(inputs, scorer.token_loss)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return scorer.sum(inputs, CrossEntropy())


def _leave_last_answer(examples: pa.Table) -> pa.Table:
    """The examples with every answer but the last marked as one without loss."""
    import pyarrow as pa

    from tasks.contracts.records import UNTRAINED

    earlier = [
        [place for place, turn in enumerate(turns[:-1]) if turn["role"] == "assistant"] or None
        for turns in examples["messages"].to_pylist()
    ]
    rest = examples.drop_columns([UNTRAINED.name]) if UNTRAINED.name in examples.column_names else examples
    return rest.append_column(UNTRAINED, pa.array(earlier, UNTRAINED.type))
