"""Whether the pieces of a base fit one another and what comes later: tokenizer, embeddings, batched serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError, raise_all
from tasks.language_models.batching import find_context, why_not_batched
from tasks.language_models.folder.model_folder import open_on_meta
from tasks.language_models.templates.chat import own_template


def check_fit(folder: Path, tokenizer: Any, stored: int) -> None:
    """Refuse a base that would fail in a later stage.

    Args:
        folder: The base model's folder.
        tokenizer: Its tokenizer, with the chat template in use.
        stored: Numbers in its weights' files.

    Raises:
        PipelineError: The configuration describes more weights than the files hold, the tokenizer gives ids that the
            embeddings lack, or the gateway could not serve the model.
    """
    model = open_on_meta(folder)
    problems = [
        _missing_weights(model, stored, folder),
        _missing_embeddings(model, tokenizer, folder),
        _not_served(model, folder),
    ]
    try:
        find_context(model.config, tokenizer)
    except PipelineError as error:
        problems.append(str(error))
    raise_all([problem for problem in problems if problem], str(folder))


def _missing_weights(model: Any, stored: int, folder: Path) -> str:
    described = sum(parameter.numel() for parameter in model.parameters())
    if described <= stored:
        return ""
    return (
        f"config.json describes {described:,} weights, but the files of {folder} hold {stored:,}; the others would be "
        "random; download the model again"
    )


def _missing_embeddings(model: Any, tokenizer: Any, folder: Path) -> str:
    """The problem of ids without a row in the embeddings.

    A special token that neither the template nor the tokenizer uses is never an input, since in a content it is text;
    published text models carry such tokens of their editions with images.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    template = own_template(tokenizer)
    unused = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special
        and token.content not in template
        and token.content not in map(str, tokenizer.special_tokens_map.values())
    }
    beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows and token not in unused)
    if not beyond:
        return ""
    return (
        f"the tokenizer has {len(tokenizer):,} tokens and {len(beyond):,} of them ({beyond[0][1]!r} is the first, id "
        f"{beyond[0][0]:,}) have no row in the embeddings of {rows:,}; expected a row for every id; take the tokenizer "
        f"that belongs to {folder}, or resize_token_embeddings and train the new rows"
    )


def _not_served(model: Any, folder: Path) -> str:
    reason = why_not_batched(model)
    if not reason:
        return ""
    return (
        f"{model.config.model_type} could be trained but not released: the gateway decodes requests together with one "
        f"key-value cache ({reason}); set another model_initialisation.source"
    )
