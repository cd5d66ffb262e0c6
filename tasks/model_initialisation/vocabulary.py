"""Tokens that are added to a base's vocabulary, and a token to pad with.

A term of the trade that is cut into many pieces costs context and time; as a token of its own it is one. Its rows in
the embeddings and in the output layer begin as the mean of the rows of its pieces (mean initialisation; Hewitt 2021,
https://nlp.stanford.edu/~johnhew/vocab-expansion.html, takes the mean of all rows, under which several added tokens
would be the same to a method that leaves the embeddings frozen). Tied weights stay tied. Everything the model did
before, it does still: the copy's logits of the old tokens are compared with the base's.

Where a base has no token to pad with, one that its vocabulary has for that purpose is named. None is taken from
elsewhere: padding is told from text by its place, never by its token, so a base that pads with the end of its answers
learns to end them all the same.

The folder made is kept in Hugging Face's cache of assets (``HF_HOME``), under a hash of all that decides about it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import hash_file
from tasks.language_models.templates.rendering import first_line
from tasks.model_initialisation.checks import CheckedModel, check_folder, open_tokenizer

logger = logging.getLogger(__name__)

# Names of tokens that published vocabularies have for padding.
PADS = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|endofpad|>", "<PAD>")
_ROUNDING = 1e-3
_EDITION = "1"  # a change of what is written takes a new number
_PROBE = "What is 12 + 7? Zwölf plus sieben.\n\tprint(x)  # 您好 👍 1234567"


def settle_vocabulary(
    base: CheckedModel, tokenizer: Any, add: Sequence[str], pad: str | None, keep_files: bool = False
) -> tuple[CheckedModel, Any]:
    """The base with its vocabulary as it will be trained, and the tokenizer; both as they are without anything to do.

    Args:
        base: The checked base.
        tokenizer: Its tokenizer.
        add: ``model_initialisation.vocabulary.add``.
        pad: ``model_initialisation.vocabulary.pad``.
        keep_files: Only hashes of the base's own files are stored, so nothing about it can change.

    Raises:
        PipelineError: A token cannot be added, or the copy does not do what the base did.
    """
    vocabulary = tokenizer.get_vocab()
    present = [token for token in add if token in vocabulary]
    if present:
        logger.info("vocabulary.add: the base has %s already", ", ".join(map(repr, present)))
    new = [token for token in dict.fromkeys(add) if token not in vocabulary]
    named = pad or (None if tokenizer.pad_token is not None else next((t for t in PADS if t in vocabulary), None))
    raise_all(_find_problems(new, named), "vocabulary")
    if keep_files or (not new and named in (None, tokenizer.pad_token)):
        return base, tokenizer
    folder = _extended_folder(base, new, named)
    if not (folder / "config.json").is_file():
        _write(base, tokenizer, new, named, folder)
    return replace(check_folder(folder), fetched=base.source_folder), open_tokenizer(folder)


def describe_padding(tokenizer: Any) -> str:
    """The token to pad with, in words for the page."""
    if tokenizer.pad_token is None:
        return "no token of its own; padding is told by its place and carries no loss"
    if tokenizer.pad_token == tokenizer.eos_token:
        return f"{tokenizer.pad_token}, which also ends a text; padding is told by its place, so the end is learned"
    return str(tokenizer.pad_token)


def _find_problems(new: Sequence[str], pad: str | None) -> list[str]:
    problems = [
        f"vocabulary.add: {token!r} begins or ends with white space or is empty; expected a term without it"
        for token in new
        if token != token.strip() or not token
    ]
    if pad is not None and pad in new:
        problems.append(f"vocabulary.pad: {pad!r} is in vocabulary.add too; a token to pad with is no term; remove it")
    return problems


def _extended_folder(base: CheckedModel, new: Sequence[str], pad: str | None) -> Path:
    from huggingface_hub import cached_assets_path
    from transformers import __version__

    digest = hashlib.sha256(f"{_EDITION} {__version__} {list(new)!r} {pad!r}".encode())
    for path in base.files:
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return Path(cached_assets_path("heptune", namespace="vocabulary", subfolder="extended")) / digest.hexdigest()


def _write(base: CheckedModel, tokenizer: Any, new: Sequence[str], pad: str | None, folder: Path) -> None:
    """Write the extended copy aside, prove it, and move it into place."""
    from transformers import AddedToken

    fresh = {token: tokenizer.encode(token, add_special_tokens=False) for token in new}
    if pad is not None and pad not in tokenizer.get_vocab():
        fresh[pad] = []  # never an input that counts: any row will do, as long as it is always the same
    old = len(tokenizer)
    before = tokenizer.encode(_PROBE, add_special_tokens=False)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in new])
    if pad is not None:
        tokenizer.add_special_tokens({"pad_token": pad})
    if tokenizer.encode(_PROBE, add_special_tokens=False) != before:
        raise PipelineError(
            f"vocabulary.add: with {', '.join(map(repr, new))} ordinary text is cut otherwise; expected rare terms, "
            "not parts of other words; remove the short ones"
        )
    aside = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        tokenizer.save_pretrained(aside)
        _write_model(base, tokenizer, fresh, old, aside)
        for path in base.files:
            if not (aside / path.name).exists() and (path.suffix != ".safetensors" and "index" not in path.name):
                shutil.copyfile(path, aside / path.name)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError as error:
        raise PipelineError(
            f"{folder}: cannot write ({error.strerror or error}); free some space, or set HF_HOME"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    logger.info("%s: tokens added: %s, pad token: %s", base.folder, len(new), tokenizer.pad_token)


def _write_model(
    base: CheckedModel, tokenizer: Any, fresh: Mapping[str, Sequence[int]], old: int, folder: Path
) -> None:
    """Save the model with a row for every token; what it says of the old ones must be what it said.

    Args:
        base: The base.
        tokenizer: With all tokens.
        fresh: New tokens to the ids of their pieces, whose rows they get the mean of; without pieces that of all.
        old: Number of tokens before.
        folder: Where to.
    """
    import torch
    from transformers import GenerationConfig

    model = _load(base.folder)
    probe = torch.tensor([tokenizer.encode(_PROBE, add_special_tokens=False)])
    with torch.inference_mode():
        before = model(probe).logits
    tied = _is_tied(model)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    with torch.no_grad():
        for layer in layers:
            for values in (layer.weight, getattr(layer, "bias", None)):
                if values is None:
                    continue
                for token, ids in fresh.items():
                    rows = values[list(ids)] if ids else values[:old]
                    values[tokenizer.convert_tokens_to_ids(token)] = rows.float().mean(dim=0).to(values.dtype)
    if tokenizer.pad_token_id is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
    # The base's own, which may ask for what its library refuses to save, is copied as it is and settled later.
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    copy = _load(folder)
    with torch.inference_mode():
        after = copy(probe).logits[..., : before.shape[-1]]
    difference = float((before - after).abs().max())
    # A product with more columns is summed in another order.
    if _is_tied(copy) != tied or not difference <= _ROUNDING * float(before.abs().max()):
        raise PipelineError(
            f"{base.folder}: the copy with more tokens is not the same model (tied weights {tied}, then "
            f"{_is_tied(copy)}; logits differ by up to {difference:.3g}); remove model_initialisation.vocabulary"
        )


def _is_tied(model: Any) -> bool:
    return bool(model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr())


def _load(folder: Path) -> Any:
    """The model in the type of its files."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    try:
        return auto.from_pretrained(folder, dtype="auto", use_safetensors=True, trust_remote_code=False).eval()
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise PipelineError(
            f"{folder}: the model does not load ({first_line(error)}); config.json and the weights must match; "
            "download the model again"
        ) from error
