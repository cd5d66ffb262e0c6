"""Contrastive embeddings from a decoder: texts that belong together get vectors that point the same way.

InfoNCE with in-batch negatives (van den Oord et al. 2018, arXiv:1807.03748; for decoders Neelakantan et al. 2022,
arXiv:2201.10005, and Muennighoff et al. 2024, arXiv:2402.09906). The vector of a text is the mean of the last hidden
states of its tokens, without a chat template. A merged release says so to ``sentence-transformers``, so that it is an
embedder as it is: ``{name: sentence_transformers, path: models/release/model}`` for monitoring or duplicates.

For B pairs of a batch with unit vectors u and v, and the temperature T,

    loss of pair i = -ln(exp(u_i v_i / T) / sum over j of exp(u_i v_j / T)), and the same from v to u, halved

where a text j is left out that is no negative: the same text, or one with the same label. More pairs a batch are more
negatives: raise batch_size, not accumulation.

Example: two pairs with cosines 0.9 (own) and 0.1 (other) at T = 0.05: ln(1 + exp(-16)) = 1.1e-7, as good as learned;
with 0.5 and 0.5 it is ln 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.language_models.encoding import IGNORED
from tasks.language_models.long_rows import LongRows
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.rows import TokenizedRows
from tasks.training.text_pairs import TextPair, list_pairs

if TYPE_CHECKING:
    import torch

NO_MATE = "no other row has its label"
NO_PAIR = "a document or an empty text, no pair"
SHORT = "a text of less than two tokens"


class Contrastive(PlainObjective):
    """Vectors of texts."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=False, token_loss=False, generates=False, shared_weights=True, keeps_state=False
    )
    rows: ClassVar[RowKind] = "text_pairs"
    sequences: ClassVar[int] = 2
    long_rows: ClassVar[tuple[LongRows, ...]] = ("truncate_right",)
    unit: ClassVar[str] = "pair"
    figures: ClassVar[Mapping[str, str]] = {
        "first": "share of the texts of a batch whose own partner is the nearest",
        "margin": "cosine with the own partner above that with the nearest other",
    }

    name: Literal["contrastive"] = "contrastive"
    pairs: Literal["answers", "labels"] = Field(
        default="answers", description="a prompt and its answer, or prompts of the same label"
    )
    temperature: float = Field(default=0.05, gt=0, description="cosines are divided by it")
    symmetric: bool = Field(default=True, description="find the partner from either side, not from the first only")

    def describe(self) -> str:
        what = "prompts and their answers" if self.pairs == "answers" else "prompts of the same label"
        return f"contrastive: {what} as vectors, temperature {self.temperature:g}"

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        pairs, dropped = list_pairs(tables.examples, self.pairs)
        pairs = pairs[: how.limit]
        texts = [text for pair in pairs for text in (pair.first, pair.second)]
        encoded = how.tokenizer(texts, truncation=True, max_length=how.max_tokens).input_ids if texts else []
        long = [min(len(encoded[2 * n]), len(encoded[2 * n + 1])) > 1 for n in range(len(pairs))]
        if not all(long):
            dropped = {**dropped, SHORT: len(pairs) - sum(long)}
        kept = [pair for pair, fits in zip(pairs, long, strict=True) if fits]
        sequences = [ids for n, fits in enumerate(long) if fits for ids in encoded[2 * n : 2 * n + 2]]
        return _rows(kept, sequences, dropped, how)

    def units(self, inputs: Batch) -> int:
        return len(inputs["items"])

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        import torch

        vectors = pool(scorer, inputs)
        first, second = vectors[0::2], vectors[1::2]
        cosines = first @ second.T
        usable = find_negatives(inputs["text"], inputs["label"])
        losses, ranked = contrast(cosines, usable, self.temperature)
        if self.symmetric:
            backward, from_second = contrast(cosines.T, usable.T, self.temperature)
            losses, ranked = (losses + backward) / 2, (ranked + from_second) / 2
        own = cosines.diagonal()
        others = torch.where(usable, cosines, -1.0).amax(-1)
        count = len(losses)
        figures = {"first": (ranked.detach().sum(), count), "margin": ((own - others).detach().sum(), count)}
        return ObjectiveLoss(losses.sum(), figures)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self.loss(scorer, inputs)


def _rows(
    pairs: Sequence[TextPair], sequences: Sequence[Sequence[int]], dropped: Mapping[str, int], how: Tokenization
) -> TokenizedRows:
    import numpy as np

    tokens = np.array([token for ids in sequences for token in ids], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, sequences)]).astype(np.int64)
    labels = tokens.copy()
    labels[offsets[:-1]] = IGNORED
    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    names = [pair.label for pair in pairs for _ in range(2)]
    lengths = np.diff(offsets)
    return TokenizedRows(
        tokens=tokens,
        labels=labels,
        offsets=offsets,
        dropped=dropped,
        ids=[pair.id for pair in pairs],
        full_lengths=lengths[0::2] + lengths[1::2],
        per_item=2,
        columns={
            "text": np.array([_number(text) for text in texts], dtype=np.int64),
            # 0 is no label.
            "label": np.array([0 if name is None else _number(name) for name in names], dtype=np.int64),
        },
    )


def _number(text: str) -> int:
    """A number that stands for a text, 62 bits of its hash, never 0."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2 | 1


def pool(scorer: Scorer, inputs: Batch) -> torch.Tensor:
    """Unit vectors of all sequences of a batch, the mean of their tokens' last hidden states, (sequences, width)."""
    import torch

    sequences = inputs["sequences"].flatten()
    places = (sequences >= 0).nonzero().squeeze(1)
    states = scorer.at_states(inputs, places, lambda hidden: hidden).float()
    owners = sequences[places]
    count = int(owners.max()) + 1
    sums = states.new_zeros(count, states.shape[-1]).index_add(0, owners, states)
    return torch.nn.functional.normalize(sums, dim=-1)


def find_negatives(texts: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Which second text is a negative of which first one, (pairs, pairs): another text, of another label.

    Args:
        texts: A number for the text of each sequence, first and second of a pair in turn, (2 x pairs,).
        labels: The same for its label; 0 is none, and negative of all.
    """
    import torch

    first, second, label = texts[0::2], texts[1::2], labels[0::2]
    same = (first[:, None] == first[None]) | (second[:, None] == second[None])
    same = same | (first[:, None] == second[None]) | (second[:, None] == first[None])
    same = same | ((label[:, None] == label[None]) & (label[:, None] != 0))
    return ~(same | torch.eye(len(label), dtype=torch.bool, device=texts.device))


def contrast(cosines: torch.Tensor, usable: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """InfoNCE of each row of a matrix whose diagonal has the pairs, and whether the own partner is the nearest."""
    import torch

    own = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    scores = torch.where(usable | own, cosines / temperature, -torch.inf)
    losses = scores.logsumexp(-1) - scores.diagonal()
    return losses, (scores.argmax(-1) == torch.arange(len(scores), device=scores.device)).float()
