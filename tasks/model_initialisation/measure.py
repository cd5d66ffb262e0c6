"""Measurements of a base model and its tokenizer on the training data, before any training."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import UNTRAINED
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.model_initialisation.checks import CheckedModel

logger = logging.getLogger(__name__)

_TOKENIZER_ROWS = 2000
_MAXIMUM_LOGITS = 1 << 25  # of a batch
_REPLACEMENT_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class TokenizerFit:
    """How well the tokenizer fits the training data.

    Attributes:
        rows: Conversations measured.
        words: Words in them, separated by white space.
        tokens_per_word: Tokens of the contents (without the template) per word.
        bytes_per_token: UTF-8 bytes of the contents per token.
        unknown_share: Share of tokens that are the unknown token.
        byte_share: Share of tokens that are parts of a character.
        longest: Tokens of the longest rendered conversation.
        over_context: Share of rendered conversations longer than the model's context.
    """

    rows: int
    words: int
    tokens_per_word: float
    bytes_per_token: float
    unknown_share: float
    byte_share: float
    longest: int
    over_context: float

    @property
    def figures(self) -> dict[str, float | int]:
        return dict(vars(self))


@dataclass(frozen=True)
class BaseLoss:
    """Loss of the base, before training, on answers of the training split.

    Attributes:
        rows: Conversations measured.
        tokens: Supervised tokens in them.
        nats_per_token: Mean negative log-likelihood per supervised token.
        bits_per_byte: The same per UTF-8 byte of the answers, which compares across tokenizers.
    """

    rows: int
    tokens: int
    nats_per_token: float
    bits_per_byte: float

    @property
    def figures(self) -> dict[str, float | int]:
        return dict(vars(self))


def take_evenly(table: pa.Table, count: int) -> pa.Table:
    """At most ``count`` rows, evenly spaced over the table."""
    if table.num_rows <= count:
        return table
    return table.take([index * table.num_rows // count for index in range(count)])


def measure_tokenizer(examples: pa.Table, tokenizer: Any, context: int) -> TokenizerFit:
    """Count tokens, words, unknown and byte tokens on up to 2,000 training rows.

    Args:
        examples: Training split, schema `EXAMPLES`.
        tokenizer: The base model's.
        context: Longest input of the model; 0 when unknown.

    Raises:
        PipelineError: The training split is empty.
    """
    if not examples.num_rows:
        raise PipelineError("the training split has no rows; expected some; see reports/data_preparation")
    sample = take_evenly(examples, _TOKENIZER_ROWS)
    contents = [turn["content"] for turns in sample["messages"].to_pylist() for turn in turns]
    rows = tokenizer(contents, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    tokens = [token for row in rows for token in row]
    partial = {token for token in set(tokens) if _is_partial_character(token, tokenizer)}
    words = sum(len(content.split()) for content in contents)
    encoded = encode_examples(sample, tokenizer, max_tokens=1)
    _report_refused([reason for reason in encoded["refused"].to_pylist() if reason], sample.num_rows)
    lengths = encoded["full_length"].to_pylist()
    return TokenizerFit(
        rows=sample.num_rows,
        words=words,
        tokens_per_word=round(len(tokens) / max(words, 1), 4),
        bytes_per_token=round(sum(len(c.encode()) for c in contents) / max(len(tokens), 1), 4),
        unknown_share=round(_share(tokens, {tokenizer.unk_token_id}), 6),
        byte_share=round(_share(tokens, partial), 6),
        longest=max(lengths),
        over_context=round(sum(n > context for n in lengths) / len(lengths), 6) if context else 0.0,
    )


def _report_refused(reasons: Sequence[str], rows: int) -> None:
    if reasons:
        logger.warning(
            "the chat template refuses %s of %s sampled training rows (%s), which will be left out; the cleaning step "
            "template of data_preparation sets such rows aside, or repairs them with repair: [merge, fold]",
            len(reasons),
            rows,
            reasons[0],
        )


def open_base(base: CheckedModel, limit: int) -> Any | None:
    """The base in fp32 on the CPU, to be measured.

    Args:
        base: The checked model.
        limit: Models with more parameters are not loaded.

    Returns:
        The model, or None when it is larger than ``limit`` or than the free memory.

    Raises:
        PipelineError: The model does not load, tensors are missing from its files, or weights are not finite.
    """
    import psutil

    parameters = base.weights.parameters
    if parameters > limit or parameters * 4 * 1.2 > psutil.virtual_memory().available:
        logger.info("%s has %s parameters; it is not measured here", base.folder, f"{parameters:,}")
        return None
    return _load(base.folder)


def measure_loss(model: Any | None, examples: pa.Table, tokenizer: Any, context: int, rows: int) -> BaseLoss | None:
    """Loss of the base on a sample of training answers.

    Args:
        model: The base; None where it was not loaded.
        examples: Training split.
        tokenizer: The base model's.
        context: Longest input of the model; 0 when unknown.
        rows: Conversations to measure.

    Returns:
        The loss; None without a model.

    Raises:
        PipelineError: No sampled row has an answer that fits the context, or the loss is not a number.
    """
    if model is None:
        return None
    sample = take_evenly(examples, rows)
    encoded = encode_examples(sample, tokenizer, max_tokens=context or 4096)
    untruncated = [
        (row, example)
        for row, example in zip(encoded.to_pylist(), sample.to_pylist(), strict=True)
        # The bytes of a truncated answer are not known.
        if row["refused"] is None and row["full_length"] == len(row["input_ids"])
    ]
    answers = [
        turn["content"]
        for _, example in untruncated
        for place, turn in enumerate(example["messages"])
        if turn["role"] == "assistant" and place not in (example.get(UNTRAINED.name) or ())
    ]
    answer_bytes = sum(len(answer.encode()) for answer in answers)
    nats, count = 0.0, 0
    for batch in _batches([row for row, _ in untruncated], len(tokenizer)):
        batch_nats, supervised = _batch_loss(model, batch)
        nats, count = nats + batch_nats, count + supervised
    if not count or not answer_bytes:
        raise PipelineError(
            f"none of {sample.num_rows} sampled training rows has an answer that fits the context of {context} "
            "tokens; expected short enough rows; split long conversations or use a base with a longer context"
        )
    if not math.isfinite(nats):
        raise PipelineError(
            f"the loss of the base on {len(untruncated)} training rows is {nats}; expected a number; its weights are "
            "finite, so that what it computes overflows: download or convert the model again, or take another base"
        )
    return BaseLoss(
        rows=len(untruncated),
        tokens=count,
        nats_per_token=round(nats / count, 4),
        bits_per_byte=round(nats / math.log(2) / answer_bytes, 4),
    )


def _batches(rows: list[dict[str, Any]], vocabulary: int) -> list[list[dict[str, Any]]]:
    """Batches of rows of similar length, with a bounded number of logits."""
    batches: list[list[dict[str, Any]]] = []
    for row in sorted(rows, key=lambda row: -len(row["input_ids"])):
        width = len(batches[-1][0]["input_ids"]) if batches else 0
        if batches and (len(batches[-1]) + 1) * width * vocabulary <= _MAXIMUM_LOGITS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _batch_loss(model: Any, rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Summed negative log-likelihood and number of the supervised tokens.

    Padding is on the right, where a causal model's earlier positions do not attend to it.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tokens = pad_sequence([torch.tensor(row["input_ids"]) for row in rows], batch_first=True)
    labels = pad_sequence([torch.tensor(row["labels"]) for row in rows], batch_first=True, padding_value=IGNORED)
    targets = labels[:, 1:]
    keep = targets != IGNORED
    with torch.inference_mode():
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1][keep].float()
        summed = torch.nn.functional.cross_entropy(logits, targets[keep], reduction="sum")
    return float(summed), int(keep.sum())


def _load(folder: Path) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    try:
        model, report = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise PipelineError(
            f"{folder}: the model does not load ({reason}); config.json and the weights must match; "
            "download the model again"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise PipelineError(
            f"{folder}: its files lack {len(missing)} tensors that config.json requires ({', '.join(missing[:3])}), "
            "which would be random; download the model again"
        )
    if broken := [name for name, weights in model.named_parameters() if not torch.isfinite(weights).all()]:
        raise PipelineError(
            f"{folder}: {', '.join(broken[:3])}{', ...' if len(broken) > 3 else ''} with numbers that are infinite or "
            "not a number; expected finite ones; download or convert the model again"
        )
    return model.eval()


def _is_partial_character(token: int, tokenizer: Any) -> bool:
    name = tokenizer.convert_ids_to_tokens(token)
    if isinstance(name, str) and name.startswith("<0x") and name.endswith(">"):
        return True
    return _REPLACEMENT_CHARACTER in tokenizer.decode([token])


def _share(tokens: list[int], wanted: set[int | None]) -> float:
    return sum(token in wanted for token in tokens) / max(len(tokens), 1)
