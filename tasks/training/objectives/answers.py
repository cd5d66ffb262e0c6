"""Answers to a prompt as tokens: pairs of a better and a worse one, and single ones marked good or bad.

What cannot be compared is dropped and counted: sides that are the same, an empty answer, answers of one score, sides
whose prompts are written differently. A side longer than ``max_tokens`` loses its end (``truncate_right``), so that the
prompt, which both share, stays as it is; with ``drop`` the pair is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.long_rows import LongRows
from tasks.training.objectives.data import Tokenization
from tasks.training.rows import ANSWER_CUT, REFUSED, TOO_LONG, TokenizedRows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


LONG_ROWS: tuple[LongRows, ...] = ("truncate_right", "drop")
EQUAL = "both answers are the same"
EQUAL_AFTER_CUT = "the answers differ beyond max_tokens only"
EMPTY = "an answer is empty"
TIED = "both answers have the same score"
ALONE = "one answer only, which there is nothing to compare with"
PROMPTS_DIFFER = "the chat template writes the prompt of the two answers differently"
UNDECIDED = "marked good as often as bad"

Ranking = Literal["best", "all"]
Turns = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Side:
    """One answer to a prompt.

    Attributes:
        id: Of its answer set.
        prompt: The turns before it.
        turns: The answer.
        score: How good it is.
    """

    id: str
    prompt: Turns
    turns: Turns
    score: float


@dataclass(frozen=True)
class EncodedSide:
    """One answer after its prompt, as tokens.

    Attributes:
        tokens: Shape (tokens,).
        labels: The tokens of the answer, -100 elsewhere.
        full_length: Tokens before the cut.
        refused: Why the chat template refuses it; None where it does not.
    """

    tokens: np.ndarray
    labels: np.ndarray
    full_length: int
    refused: str | None

    @property
    def prompt(self) -> np.ndarray:
        """The tokens before the answer."""
        import numpy as np

        return self.tokens[: int(np.argmax(self.labels != IGNORED))]


def list_pairs(answers: pa.Table, ranking: Ranking, dropped: Counter[str]) -> Iterator[tuple[Side, Side]]:
    """The better and the worse of every two answers that are compared.

    Args:
        answers: Schema `ANSWER_SETS`.
        ranking: Of several answers to a prompt: the best with each other, or every two.
        dropped: Reasons are counted here.
    """
    for row in answers.to_pylist():
        sides = [Side(row["id"], row["prompt"], one["turns"], one["score"]) for one in row["answers"]]
        if len(sides) == 1:
            dropped[ALONE] += 1
        for number, better in enumerate(sides[:1] if ranking == "best" else sides):
            for worse in sides[number + 1 :]:
                first, second = (better, worse) if better.score >= worse.score else (worse, better)
                reason = _find_fault(first, second)
                if reason is None:
                    yield first, second
                else:
                    dropped[reason] += 1


def _find_fault(better: Side, worse: Side) -> str | None:
    if list(better.turns) == list(worse.turns):
        return EQUAL
    if is_empty(better) or is_empty(worse):
        return EMPTY
    return TIED if better.score == worse.score else None


def is_empty(side: Side) -> bool:
    """Whether an answer says nothing."""
    return not any(turn["role"] == "assistant" and turn["content"].strip() for turn in side.turns)


def encode_sides(sides: Sequence[Side], how: Tokenization) -> list[EncodedSide]:
    """Answers after their prompts; the answers alone carry loss."""
    import numpy as np
    import pyarrow as pa

    from tasks.contracts.records import MESSAGES, UNTRAINED

    untrained = [[n for n, turn in enumerate(side.prompt) if turn["role"] == "assistant"] or None for side in sides]
    table = pa.table(
        {
            "id": pa.array([side.id for side in sides], pa.string()),
            "messages": pa.array([[*side.prompt, *side.turns] for side in sides], MESSAGES),
            UNTRAINED.name: pa.array(untrained, UNTRAINED.type),
        }
    )
    encoded = encode_examples(table, how.tokenizer, how.max_tokens, how.long_rows)
    found = []
    for row in encoded.to_batches(max_chunksize=1024):
        columns = [row.column(name) for name in ("input_ids", "labels", "full_length", "refused")]
        for tokens, labels, length, refused in zip(*columns, strict=True):
            ids, marks = np.array(tokens.as_py(), dtype=np.int64), np.array(labels.as_py(), dtype=np.int64)
            marks[:1] = IGNORED  # no model predicts the first token
            found.append(EncodedSide(ids, marks, length.as_py(), refused.as_py()))
    return found


def tokenize_pairs(
    answers: pa.Table, how: Tokenization, ranking: Ranking, ends_before: int | None = None
) -> TokenizedRows:
    """Pairs of answers, two sequences an item, the better one first, with their scores.

    Args:
        answers: Schema `ANSWER_SETS`.
        how: Of the tokens.
        ranking: Of several answers to a prompt: the best with each other, or every two.
        ends_before: A token that ends no sequence, since whoever reads the last token takes it for padding.
    """
    import numpy as np

    dropped: Counter[str] = Counter()
    pairs = list(_first(list_pairs(answers, ranking, dropped), how.limit))
    sides = [side for pair in pairs for side in pair]
    encoded = [_end_before(side, ends_before) for side in encode_sides(sides, how)]
    kept, cut = [], 0
    for place in range(0, len(encoded), 2):
        two = encoded[place : place + 2]
        reason = _find_encoded_fault(two, how.max_tokens)
        if reason is None:
            kept.append(place)
            cut += any(side.full_length > how.max_tokens for side in two)
        else:
            dropped[reason] += 1
    order = [place + second for place in kept for second in (0, 1)]
    lengths = [max(side.full_length for side in encoded[place : place + 2]) for place in range(0, len(encoded), 2)]
    return join_sequences(
        [encoded[place] for place in order],
        ids=[sides[place].id for place in kept],
        columns={"score": np.array([sides[place].score for place in order], dtype=np.float32)},
        per_item=2,
        dropped=dropped,
        cut=cut,
        # What was dropped before it was written has no length.
        full_lengths=[*lengths, *[0] * (sum(dropped.values()) - len(lengths) + len(kept))],
    )


def _end_before(side: EncodedSide, token: int | None) -> EncodedSide:
    import numpy as np

    if token is None or not len(side.tokens) or side.tokens[-1] != token:
        return side
    length = int(np.flatnonzero(side.tokens != token).max(initial=0)) + 1
    return replace(side, tokens=side.tokens[:length], labels=side.labels[:length])


def _first(pairs: Iterator[tuple[Side, Side]], limit: int | None) -> Iterator[tuple[Side, Side]]:
    for number, pair in enumerate(pairs):
        if number == limit:
            return
        yield pair


def _find_encoded_fault(pair: Sequence[EncodedSide], max_tokens: int) -> str | None:
    import numpy as np

    for side in pair:
        if side.refused is not None:
            return f"{REFUSED} ({side.refused})"
    is_long = any(side.full_length > max_tokens for side in pair)
    if any(not len(side.tokens) for side in pair):
        return TOO_LONG
    if any((side.labels == IGNORED).all() for side in pair):
        return ANSWER_CUT if is_long else EMPTY
    if np.array_equal(pair[0].tokens, pair[1].tokens):
        return EQUAL_AFTER_CUT if is_long else EQUAL
    return None if np.array_equal(pair[0].prompt, pair[1].prompt) else PROMPTS_DIFFER


def tokenize_judged(answers: pa.Table, how: Tokenization) -> TokenizedRows:
    """Answers that are good (``desirable`` 1) or bad (0); those of pairs are both.

    The second sequence of an item is its prompt with the answer to another prompt, from which the divergence from the
    reference is estimated.

    Args:
        answers: Schema `ANSWER_SETS`.
        how: Of the tokens.
    """
    import numpy as np

    dropped: Counter[str] = Counter()
    judged = list(_list_judged(answers, dropped))[: how.limit]
    mismatched = [
        Side(side.id, side.prompt, judged[_find_other(judged, place)][0].turns, 0.0)
        for place, (side, _) in enumerate(judged)
    ]
    own = encode_sides([side for side, _ in judged], how)
    others = encode_sides(mismatched, how)
    kept, cut = [], 0
    for place, side in enumerate(own):
        reason = _find_alone_fault(side, how.max_tokens) or _find_alone_fault(others[place], how.max_tokens)
        if reason is None:
            kept.append(place)
            cut += side.full_length > how.max_tokens
        else:
            dropped[reason] += 1
    return join_sequences(
        [one for place in kept for one in (own[place], others[place])],
        ids=[judged[place][0].id for place in kept],
        columns={"desirable": np.repeat([judged[place][1] for place in kept], 2).astype(np.float32)},
        per_item=2,
        dropped=dropped,
        cut=cut,
        full_lengths=[*(side.full_length for side in own), *[0] * (sum(dropped.values()) - len(own) + len(kept))],
    )


def _list_judged(answers: pa.Table, dropped: Counter[str]) -> Iterator[tuple[Side, float]]:
    for row in answers.to_pylist():
        sides = [Side(row["id"], row["prompt"], one["turns"], one["score"]) for one in row["answers"]]
        marks = [1.0 if side.score > 0.5 else 0.0 for side in sides]
        if len(sides) > 1:
            best, worst = sides[0].score, min(side.score for side in sides)
            if best == worst:
                dropped[TIED] += len(sides)
                continue
            # Between the best and the worst nothing says what is good.
            sides = [side for side in sides if side.score in (best, worst)]
            marks = [float(side.score == best) for side in sides]
        for side, mark in zip(sides, marks, strict=True):
            if is_empty(side):
                dropped[EMPTY] += 1
            elif len(sides) == 1 and side.score == 0.5:
                dropped[UNDECIDED] += 1
            else:
                yield side, mark


def _find_other(judged: Sequence[tuple[Side, float]], place: int) -> int:
    """The place of an answer to another prompt, half of all answers further on or the next after that; its own if none
    is."""
    count, prompt = len(judged), list(judged[place][0].prompt)
    for step in range(count):
        other = (place + count // 2 + step) % count
        if list(judged[other][0].prompt) != prompt:
            return other
    return place


def _find_alone_fault(side: EncodedSide, max_tokens: int) -> str | None:
    if side.refused is not None:
        return f"{REFUSED} ({side.refused})"
    if not len(side.tokens):
        return TOO_LONG
    if (side.labels == IGNORED).all():
        return ANSWER_CUT if side.full_length > max_tokens else EMPTY
    return None


def join_sequences(
    sequences: Sequence[EncodedSide],
    ids: Sequence[str],
    columns: Mapping[str, np.ndarray],
    per_item: int,
    dropped: Mapping[str, int],
    cut: int,
    full_lengths: Sequence[int],
) -> TokenizedRows:
    """Sequences one after another, as training takes them.

    Args:
        sequences: Of all items.
        ids: Of each item.
        columns: A number of each sequence, by name.
        per_item: Sequences of an item.
        dropped: Reason to number of rows dropped.
        cut: Rows longer than a sequence that train.
        full_lengths: Tokens of each row before the cut.
    """
    import numpy as np

    empty = np.empty(0, dtype=np.int64)
    return TokenizedRows(
        tokens=np.concatenate([empty, *(one.tokens for one in sequences)]),
        labels=np.concatenate([empty, *(one.labels for one in sequences)]),
        offsets=np.cumsum([0, *(len(one.tokens) for one in sequences)], dtype=np.int64),
        dropped=dict(dropped),
        cut=cut,
        ids=list(ids),
        full_lengths=np.array(full_lengths, dtype=np.int64),
        per_item=per_item,
        columns=columns,
    )
