"""Greedy answers, drawn tokens and reference loss of a causal language model, in batches.

The same function answers for every model and for the parity proof of a release, so that a difference
between two models is never a difference between two decoders. Greedy means the most likely token at
every step and nothing else: sampling, penalties and other settings of a ``generation_config.json``
are left out on purpose; `sample_tokens` draws instead. Prompts are padded on the left, sorted by
length, and a row leaves its batch as soon as it ends, so short answers do not pay for long ones.

Example:
    >>> prompts = [[{"role": "user", "content": "Where is my parcel?"}]]
    >>> answers = generate_answers(model, tokenizer, prompts, max_new_tokens=64)  # doctest: +SKIP
    >>> answers[0].text  # doctest: +SKIP
    'Your parcel is on its way.'
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.progress import progress
from tasks.language_models.decoding.batch import (
    IsOver,
    decode_batch,
    decode_one_by_one,
    length_batches,
    pad_left,
    takes_batches,
)
from tasks.language_models.documents import cut_row
from tasks.language_models.encoding import encode_document, encode_prompt, encode_reference
from tasks.language_models.templates.ends import ends_of
from tasks.language_models.templates.rendering import Turns

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.language_models.sampling import TokenSampler


# Logits of one loss batch at most, in elements: 1 GiB of fp32, however large the vocabulary.
LOGITS = 2**28


@dataclass(frozen=True)
class GreedyAnswer:
    """One greedy answer.

    Attributes:
        text: The decoded answer without special tokens.
        tokens: Its token ids, the end of turn left out.
        finished: Whether the model ended its turn, rather than running into the limit.
    """

    text: str
    tokens: tuple[int, ...]
    finished: bool


@dataclass(frozen=True)
class ReferenceLoss:
    """How likely a model finds a given answer.

    Attributes:
        mean: Mean negative log-likelihood in nats per token, the end of turn included.
        tokens: Number of tokens of the answer, the end of turn included.
    """

    mean: float
    tokens: int


def context_length(config: Any) -> int | None:
    """Longest sequence a model can read, in tokens; None when its config does not say."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def count_virtual_tokens(model: Any) -> int:
    """Vectors that a model puts before whatever it reads; they take room of its context."""
    return int(getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", 0))


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Turns],
    max_new_tokens: int,
    batch_size: int = 64,
    title: str = "answering",
    is_over: IsOver | None = None,
) -> list[GreedyAnswer]:
    """Answer prompts greedily.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer, with a chat template.
        prompts: Conversations that end before the answer.
        max_new_tokens: Longest answer, its end of turn included; less where the context is full.
        batch_size: Prompts answered at once.
        title: Name beside the progress bar.
        is_over: From the number of a prompt and its answer so far to whether the answer ends here.

    Returns:
        One answer per prompt, in their order.

    Raises:
        PipelineError: No chat template, or a prompt that fills the model's context.
    """
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    context = context_length(model.config)
    context = None if context is None else context - count_virtual_tokens(model)
    longest = max((len(ids) for ids in encoded), default=0)
    if context is not None and longest >= context:
        raise PipelineError(
            f"a prompt of {longest} tokens leaves no room in a context of {context}; "
            "leave it out or choose a base model with a longer context"
        )
    room = [min(max_new_tokens, (context or longest + max_new_tokens) - len(ids)) for ids in encoded]
    ends = ends_of(getattr(model, "generation_config", None), tokenizer)
    tokens = generate_tokens(model, encoded, room, ends, batch_size, title, is_over)
    return [_answer(tokenizer, ids, ends) for ids in tokens]


def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    room: Sequence[int],
    ends: frozenset[int],
    batch_size: int,
    title: str,
    is_over: IsOver | None = None,
) -> list[list[int]]:
    """Greedy tokens after each prompt, in batches of like length.

    Args:
        model: A causal language model in evaluation mode.
        prompts: Token ids before each answer; not one of them empty.
        room: Most tokens of each answer, at least 1.
        ends: Ids that end an answer.
        batch_size: Prompts answered at once.
        title: Name beside the progress bar.
        is_over: From the number of a prompt and its answer so far to whether the answer ends here.

    Returns:
        The tokens of each answer, in the order of the prompts, the end included where there is one.
    """
    import torch

    answer_batch = decode_batch if takes_batches(model) else decode_one_by_one
    tokens: list[list[int]] = [[] for _ in prompts]
    with torch.inference_mode(), progress(title, len(prompts)) as advance:
        for rows in length_batches(prompts, batch_size):
            over = None if is_over is None else _of_rows(is_over, rows)
            written = answer_batch(model, [prompts[r] for r in rows], [room[r] for r in rows], ends, is_over=over)
            for row, ids in zip(rows, written, strict=True):
                tokens[row] = ids
            advance(len(rows))
    return tokens


def _of_rows(is_over: IsOver, rows: Sequence[int]) -> IsOver:
    return lambda place, written: is_over(rows[place], written)


def sample_tokens(
    model: Any,
    prompts: Mapping[int, Sequence[int]],
    room: Mapping[int, int],
    ends: frozenset[int],
    sampler: TokenSampler,
    batch_size: int,
) -> dict[int, list[int]]:
    """Continue some rows by drawing tokens, in batches of like length.

    Args:
        model: A causal language model in evaluation mode, with what is trained on it in its own modules.
        prompts: Row of the sampler to the token ids before its answer.
        room: Most tokens of each row's answer, its end included; at least 1.
        ends: Ids that end an answer.
        sampler: Draws the tokens.
        batch_size: Rows at once.

    Returns:
        Row to the tokens that were drawn, the end included where there is one.

    Raises:
        PipelineError: The architecture does not decode in batches.
    """
    import torch

    if not takes_batches(model):
        raise PipelineError(
            f"{type(model).__name__} cannot be sampled in batches: it takes no positions or has a cache of its own; "
            "take another base, or an objective that does not generate"
        )
    numbers = list(prompts)
    tokens: dict[int, list[int]] = {}
    # Not inference mode: autocast may keep copies of weights that a backward pass needs later.
    with torch.no_grad():
        for places in length_batches([prompts[number] for number in numbers], batch_size):
            rows = [numbers[place] for place in places]

            def choose(logits: Tensor, inside: Sequence[int], rows: Sequence[int] = rows) -> Tensor:
                return sampler(logits, [rows[place] for place in inside])

            written = decode_batch(model, [prompts[r] for r in rows], [room[r] for r in rows], ends, choose)
            tokens.update(zip(rows, written, strict=True))
    return tokens


def score_references(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Turns],
    references: Sequence[str],
    batch_size: int = 32,
    title: str = "scoring",
    documents: bool = False,
) -> list[ReferenceLoss]:
    """Loss of given answers.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer, with a chat template.
        prompts: Conversations that end before the answer.
        references: One answer per prompt; after no turns a document where ``documents`` says so, of any length.
        batch_size: Pairs scored at once; fewer where the vocabulary is large.
        title: Name beside the progress bar.
        documents: References without a prompt are documents, see `tasks.language_models.documents`.

    Returns:
        One loss per pair, in their order.
    """
    import torch

    pairs: list[tuple[list[int], list[int]]] = []
    places: list[int] = []
    context = context_length(model.config)
    for place, (prompt, reference) in enumerate(zip(prompts, references, strict=True)):
        if documents and not prompt:
            before, answer = encode_document(tokenizer, reference)
            tokens = before + answer
            parts = [(part[:1], part[1:]) for part in cut_row(tokens, context or len(tokens))]
        else:
            parts = [encode_reference(tokenizer, prompt, reference)]
        pairs += parts
        places += [place] * len(parts)
    whole = [before + answer for before, answer in pairs]
    losses = [ReferenceLoss(0.0, 0)] * len(pairs)
    with torch.inference_mode(), progress(title, len(pairs)) as advance:
        for rows in length_batches(whole, batch_size):
            kept = max(len(pairs[row][1]) for row in rows) + 1
            step = max(1, LOGITS // (kept * len(tokenizer)))
            if count_virtual_tokens(model):
                step = 1  # padding would stand between its vectors and the text
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                for row, loss in zip(part, _batch_loss(model, [pairs[r] for r in part]), strict=True):
                    losses[row] = loss
            advance(len(rows))
    return _join_parts(losses, places, len(prompts))


def _join_parts(losses: Sequence[ReferenceLoss], places: Sequence[int], count: int) -> list[ReferenceLoss]:
    """Losses of whole references from those of their parts, of which nearly all have one."""
    if len(losses) == count:
        return list(losses)
    sums, tokens = [0.0] * count, [0] * count
    for place, loss in zip(places, losses, strict=True):
        sums[place] += loss.mean * loss.tokens
        tokens[place] += loss.tokens
    return [ReferenceLoss(total / number, number) for total, number in zip(sums, tokens, strict=True)]


def _answer(tokenizer: Any, ids: list[int], ends: frozenset[int]) -> GreedyAnswer:
    finished = bool(ids) and ids[-1] in ends
    kept = tuple(ids[:-1] if finished else ids)
    return GreedyAnswer(tokenizer.decode(kept, skip_special_tokens=True), kept, finished)


def _batch_loss(model: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> list[ReferenceLoss]:
    """Loss of one batch; answers end at the right edge, so only the last logits are needed."""
    import torch

    kept = max(len(answer) for _, answer in pairs) + 1
    ids, mask, positions = pad_left([before + answer for before, answer in pairs], model.device)
    accepts = inspect.signature(model.forward).parameters
    extra: dict[str, Any] = {"logits_to_keep": kept} if "logits_to_keep" in accepts else {}
    if "position_ids" in accepts:
        extra["position_ids"] = positions
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits[:, -kept:-1]
    targets = ids[:, -(kept - 1) :]
    surprise = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none").double()
    return [
        ReferenceLoss(float(row[-len(answer) :].mean()), len(answer))
        for row, (_, answer) in zip(surprise.cpu(), pairs, strict=True)
    ]
