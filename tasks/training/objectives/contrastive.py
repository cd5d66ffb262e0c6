"""Contrastive embeddings from a decoder: texts that belong together get vectors that point the same way.

InfoNCE with in-batch negatives (van den Oord et al. 2018, arXiv:1807.03748; for decoders Neelakantan et al. 2022,
arXiv:2201.10005, and Muennighoff et al. 2024, arXiv:2402.09906). The vector of a text is made of the last hidden states
of its tokens, their mean or the last one (`tasks.language_models.pooling`), without a chat template. A merged release
says so to ``sentence-transformers``, so that it is an embedder as it is: ``{name: sentence_transformers, path:
models/release/model}`` for monitoring or duplicates.

For B pairs of a batch with unit vectors u and v, and the temperature T,

    loss of pair i = -ln(exp(u_i v_i / T) / sum over j of exp(u_i v_j / T)), and the same from v to u, halved

where a text j is left out that is no negative: the same text, or one with the same label. More pairs a batch are more
negatives: raise batch_size, not accumulation. ``negatives`` adds hard ones, which all pairs of the batch are told from:
the worse answers that rows come with, or texts of other rows that the base finds near
(`tasks.training.hard_negatives`).

Example: two pairs with cosines 0.9 (own) and 0.1 (other) at T = 0.05: ln(1 + exp(-16)) = 1.1e-7, as good as learned;
with 0.5 and 0.5 it is ln 2; one hard negative of cosine 0.9 beside the 0.9 costs ln 2 as well.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.encoding import IGNORED
from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.long_rows import LongRows
from tasks.language_models.pooling import Pooling, pool_tokens
from tasks.training.hard_negatives import list_worse_answers, mine_negatives
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Reference, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.rows import TokenizedRows
from tasks.training.text_pairs import TextPair, list_pairs

if TYPE_CHECKING:
    import numpy as np
    import torch

logger = logging.getLogger(__name__)

SHORT = "a text of less than two tokens"
# Of what stands where a pair has no more negatives: a text that is no negative of its own pair.
FILLER_TOKENS = 2


class HardNegatives(Section):
    """Texts near a pair's first text that do not belong to it."""

    source: Literal["given", "mined"] = Field(
        description="given: worse answers to the prompt, such as `rejected` beside `chosen`; mined: texts of other "
        "rows that are near by the vectors of the model before the first step"
    )
    count: int = Field(default=1, ge=1, le=32, description="of a pair; a pair that has fewer trains with those")
    margin: float = Field(
        default=0.1,
        ge=0,
        lt=2,
        description="of mined: cosine below that with the partner; nearer ones may belong too",
    )


class Contrastive(PlainObjective):
    """Vectors of texts."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=False, token_loss=False, generates=False, shared_weights=True, keeps_state=False
    )
    rows: ClassVar[RowKind] = "text_pairs"
    long_rows: ClassVar[tuple[LongRows, ...]] = ("truncate_right",)
    unit: ClassVar[str] = "pair"
    figures: ClassVar[Mapping[str, str]] = {
        "first": "share of the texts of a batch whose own partner is the nearest",
        "margin": "cosine with the own partner above that with the nearest other",
        "hard_negatives": "hard negatives of a pair",
    }

    name: Literal["contrastive"] = "contrastive"
    pairs: Literal["answers", "labels"] = Field(
        default="answers", description="a prompt and its answer, or prompts of the same label"
    )
    temperature: float = Field(default=0.05, gt=0, description="cosines are divided by it")
    symmetric: bool = Field(default=True, description="find the partner from either side, not from the first only")
    pooling: Pooling = Field(
        default="mean", description="what a text's vector is: the mean of its tokens' states, or the last"
    )
    negatives: HardNegatives | None = Field(default=None, description="hard negatives beside those of the batch")

    @property
    def sequences(self) -> int:
        return 2 + (self.negatives.count if self.negatives else 0)

    @property
    def reference(self) -> Reference:
        return "precomputed_of_all" if self._mined else "none"

    @property
    def _mined(self) -> HardNegatives | None:
        return self.negatives if self.negatives and self.negatives.source == "mined" else None

    def describe(self) -> str:
        what = "prompts and their answers" if self.pairs == "answers" else "prompts of the same label"
        parts = [f"contrastive: {what} as vectors, temperature {self.temperature:g}"]
        if self.pooling == "last":
            parts.append("the state of the last token")
        if self.negatives:
            margin = f" with a margin of {self.negatives.margin:g}" if self._mined else ""
            count = self.negatives.count
            parts.append(f"{count} hard negative{'s' * (count > 1)} a pair, {self.negatives.source}{margin}")
        return ", ".join(parts)

    def problems(self, shape: ModelShape) -> list[str]:
        if self.negatives and self.negatives.source == "given" and self.pairs == "labels":
            return [
                "objective.negatives: given are worse answers, and with pairs: labels no answer is read; set source: "
                "mined, or pairs: answers"
            ]
        return []

    def trained_tokens(self, tokens: int, items: int) -> int:
        """With mined negatives, which are found later, as if they were as long as the pairs' texts."""
        return tokens * self.sequences // 2 if self._mined else tokens

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
        rows = _rows(kept, sequences, dropped)
        if self.negatives and self.negatives.source == "given":
            return self._add_given(rows, kept, tables, how)
        return rows

    def _add_given(
        self, rows: TokenizedRows, pairs: Sequence[TextPair], tables: SplitTables, how: Tokenization
    ) -> TokenizedRows:
        """The pairs with the worse answers of their rows."""
        assert self.negatives is not None, "asked of given negatives only"
        worse = list_worse_answers(tables.answers)
        chosen = [worse.get(pair.id, [])[: self.negatives.count] for pair in pairs]
        if pairs and not any(chosen):
            logger.warning(
                "objective.negatives: given, and none of %s pairs has a worse answer; prepare rows with several "
                "answers, such as prompt, chosen and rejected, or set source: mined",
                f"{len(pairs):,}",
            )
        flat = [text for texts in chosen for text in texts]
        encoded = iter(how.tokenizer(flat, truncation=True, max_length=how.max_tokens).input_ids if flat else [])
        added = [[(next(encoded), _number(text), 0) for text in texts] for texts in chosen]
        return add_negatives(rows, added, self.negatives.count)

    def measure_reference(self, scorer: Scorer, inputs: Batch) -> Mapping[str, torch.Tensor]:
        return {"vector": pool(scorer, inputs, self.pooling)}

    def use_reference(self, rows: TokenizedRows) -> TokenizedRows:
        """The pairs with the negatives that their vectors give."""
        mined = self._mined
        if mined is None or "vector" not in rows.columns:
            return rows
        columns = dict(rows.columns)
        vectors, texts, labels = columns.pop("vector"), columns["text"], columns["label"]
        found = mine_negatives(
            vectors[0::2], vectors[1::2], texts.reshape(-1, 2), labels[0::2], mined.count, mined.margin
        )
        logger.info("%.2f hard negatives of a pair, of %s", (found >= 0).sum() / max(len(found), 1), mined.count)
        added = [
            [(rows.row(2 * other + 1)[0], int(texts[2 * other + 1]), int(labels[2 * other])) for other in others]
            for others in ([one for one in row if one >= 0] for row in found.tolist())
        ]
        return add_negatives(replace(rows, columns=columns), added, mined.count)

    def units(self, inputs: Batch) -> int:
        return len(inputs["items"])

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        import torch

        each, count = len(inputs["text"]) // len(inputs["items"]), len(inputs["items"])
        vectors = pool(scorer, inputs, self.pooling).view(count, each, -1)
        first, second = vectors[:, 0], vectors[:, 1]
        others = vectors[:, 2:].flatten(0, 1)
        usable = find_negatives(inputs["text"], inputs["label"], each)
        cosines = first @ torch.cat([second, others]).T
        losses, ranked = contrast(cosines, usable, self.temperature)
        if self.symmetric:
            backward, from_second = contrast(cosines[:, :count].T, usable[:, :count].T, self.temperature)
            losses, ranked = (losses + backward) / 2, (ranked + from_second) / 2
        nearest = torch.where(usable, cosines, -1.0).amax(-1)
        figures = {
            "first": (ranked.detach().sum(), count),
            "margin": ((cosines.diagonal() - nearest).detach().sum(), count),
        }
        if self.negatives:
            texts = inputs["text"].view(count, each)
            figures["hard_negatives"] = ((texts[:, 2:] != texts[:, 1:2]).sum().float(), count)
        return ObjectiveLoss(losses.sum(), figures)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self.loss(scorer, inputs)


def _rows(pairs: Sequence[TextPair], sequences: Sequence[Sequence[int]], dropped: Mapping[str, int]) -> TokenizedRows:
    import numpy as np

    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    names = [pair.label for pair in pairs for _ in range(2)]
    joined = _join(sequences)
    lengths = np.diff(joined.offsets)
    return replace(
        joined,
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


def _join(sequences: Sequence[Sequence[int] | np.ndarray]) -> TokenizedRows:
    """Sequences as rows, all of whose tokens but the first count as supervised."""
    import numpy as np

    arrays = [np.asarray(ids, dtype=np.int64) for ids in sequences]
    tokens = np.concatenate(arrays) if arrays else np.empty(0, np.int64)
    offsets = np.cumsum([0, *map(len, arrays)]).astype(np.int64)
    labels = tokens.copy()
    labels[offsets[:-1]] = IGNORED
    return TokenizedRows(tokens, labels, offsets)


def _number(text: str) -> int:
    """A number that stands for a text, 62 bits of its hash, never 0."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2 | 1


Added = tuple["Sequence[int] | np.ndarray", int, int]


def add_negatives(rows: TokenizedRows, added: Sequence[Sequence[Added]], count: int) -> TokenizedRows:
    """The pairs with hard negatives after their two texts.

    Where a pair has fewer, the beginning of its second text stands under the number of that, which is no negative.

    Args:
        rows: Two sequences an item.
        added: For each item its negatives: tokens, number of the text, number of the label.
        count: Negatives of an item.
    """
    import numpy as np

    sequences, texts, labels = [], list[int](), list[int]()
    own_texts, own_labels = rows.columns["text"].tolist(), rows.columns["label"].tolist()
    for item, negatives in enumerate(added):
        pair = [(rows.row(2 * item + side)[0], own_texts[2 * item + side], own_labels[2 * item]) for side in (0, 1)]
        usable = [one for one in negatives if len(one[0]) >= FILLER_TOKENS][:count]
        filler = (pair[1][0][:FILLER_TOKENS], *pair[1][1:])
        for ids, text, label in (*pair, *usable, *[filler] * (count - len(usable))):
            sequences.append(ids)
            texts.append(text)
            labels.append(label)
    columns = {"text": np.array(texts, dtype=np.int64), "label": np.array(labels, dtype=np.int64)}
    joined = _join(sequences)
    return replace(
        rows,
        tokens=joined.tokens,
        labels=joined.labels,
        offsets=joined.offsets,
        per_item=2 + count,
        columns=columns,
    )


def pool(scorer: Scorer, inputs: Batch, pooling: Pooling) -> torch.Tensor:
    """Unit vectors of all sequences of a batch, (sequences, width)."""
    sequences = inputs["sequences"].flatten()
    places = (sequences >= 0).nonzero().squeeze(1)
    states = scorer.at_states(inputs, places, lambda hidden: hidden).float()
    owners = sequences[places]
    return pool_tokens(states, owners, int(owners.max()) + 1, pooling)


def find_negatives(texts: torch.Tensor, labels: torch.Tensor, each: int = 2) -> torch.Tensor:
    """Which candidate is a negative of which first text: another text, of another label.

    Args:
        texts: A number for the text of each sequence, first, second and hard negatives of a pair in turn,
            (pairs x each,).
        labels: The same for its label; 0 is none, and negative of all.
        each: Sequences of a pair.

    Returns:
        Shape (pairs, candidates), the candidates being all second texts and then all hard negatives.
    """
    import torch

    texts, labels = texts.view(-1, each), labels.view(-1, each)
    first, second = texts[:, 0], texts[:, 1]
    candidates = torch.cat([second, texts[:, 2:].flatten()])
    marked = torch.cat([labels[:, 1], labels[:, 2:].flatten()])
    same = (first[:, None] == candidates[None]) | (second[:, None] == candidates[None])
    same = same | ((labels[:, :1] == marked[None]) & (marked[None] != 0))
    # A text that a same text belongs to, the own partner among them.
    akin = (first[:, None] == first[None]) | (second[:, None] == first[None])
    others = akin.new_zeros(len(first), len(candidates) - len(first))
    return ~(same | torch.cat([akin, others], dim=1))


def contrast(cosines: torch.Tensor, usable: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """InfoNCE of each row of a matrix whose diagonal has the pairs, and whether the own partner is the nearest.

    Args:
        cosines: Of each text with all candidates, (pairs, candidates).
        usable: Which of these are negatives.
        temperature: Cosines are divided by it.
    """
    import torch

    own = torch.eye(*cosines.shape, dtype=torch.bool, device=cosines.device)
    scores = torch.where(usable | own, cosines / temperature, -torch.inf)
    losses = scores.logsumexp(-1) - scores.diagonal()
    return losses, (scores.argmax(-1) == torch.arange(len(scores), device=scores.device)).float()
