"""What objectives that compare the better with the worse of two answers have alike."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from tasks.language_models.long_rows import LongRows
from tasks.training.objectives.answers import LONG_ROWS, Ranking, tokenize_pairs
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.objectives.preferences.pair_figures import PAIR_FIGURES
from tasks.training.rows import TokenizedRows


class PairObjective(PlainObjective):
    """Pairs of answers to a prompt; a member says its ``loss`` of a batch of them, the better side of each first."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=True, token_loss=False, generates=False, shared_weights=True, keeps_state=False
    )
    rows: ClassVar[RowKind] = "pairs"
    sequences: ClassVar[int] = 2
    long_rows: ClassVar[tuple[LongRows, ...]] = LONG_ROWS
    unit: ClassVar[str] = "pair"
    figures: ClassVar[Mapping[str, str]] = PAIR_FIGURES
    rate_share: ClassVar[float] = 0.1

    ranking: Ranking = Field(
        default="best", description="of more than two answers: the best with each other one, or all pairs"
    )

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        return tokenize_pairs(tables.answers, how, self.ranking)

    def units(self, inputs: Batch) -> int:
        return len(inputs["items"])

    @abstractmethod
    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        """The sum over the pairs of a batch."""

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self.loss(scorer, inputs)
