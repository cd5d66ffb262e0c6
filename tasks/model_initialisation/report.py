"""The page and the figures of model initialisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.contracts.manifest import write_json
from tasks.model_initialisation.chat_template import ChatTemplate
from tasks.model_initialisation.describe import Description
from tasks.model_initialisation.measure import BaseLoss, Fit
from tasks.pages.page import Page, show

_MARKS = {
    "own": "the model's own template marks them",
    "TRL": "TRL's marked edition of the template, used for training rows only",
    "chatml": "the supplied ChatML template marks them",
}


def write_report(
    description: Description,
    origin: dict[str, str],
    reference: bool,
    template: ChatTemplate,
    fit: Fit,
    loss: BaseLoss | None,
    rendered: str,
    page_path: Path,
    metrics_path: Path,
) -> dict[str, float | int]:
    """Write ``index.html`` and ``metrics.json``.

    Args:
        description: Facts of the model.
        origin: Where it came from.
        reference: No copy was made.
        template: Chat template decisions.
        fit: Tokenizer on the training data.
        loss: Loss of the base, where it was measured.
        rendered: One training conversation as the model reads it.
        page_path: The page.
        metrics_path: The figures.

    Returns:
        The figures.
    """
    figures: dict[str, float | int] = {
        "parameters": description.parameters,
        "context": description.context,
        "vocabulary": description.vocabulary,
        "weights_bytes": description.bytes,
        "tokens_per_word": fit.tokens_per_word,
        "bytes_per_token": fit.bytes_per_token,
        "unknown_share": fit.unknown_share,
        "byte_share": fit.byte_share,
        "over_context_share": fit.over_context,
    }
    if loss:
        figures |= {"base_bits_per_byte": loss.bits_per_byte, "base_nats_per_token": loss.nats_per_token}
    write_json(metrics_path, figures)
    _page(description, origin, reference, template, fit, loss, rendered).write(page_path)
    return figures


def show_first(conversation: str, limit: int = 1200) -> str:
    """A rendered conversation, cut to a readable length."""
    return conversation if len(conversation) <= limit else conversation[:limit] + " …"


def _page(
    description: Description,
    origin: dict[str, str],
    reference: bool,
    template: ChatTemplate,
    fit: Fit,
    loss: BaseLoss | None,
    rendered: str,
) -> Page:
    name = origin.get("hub") or origin["folder"]
    kept = "referred to, its files pinned by hash" if reference else "copied, every file pinned by hash"
    warnings = _warnings(description, template, fit)
    page = Page(
        "Model initialisation",
        f"{name} ({description.architecture}, {millions(description.parameters)} parameters) was checked and {kept}.",
        "check the notes" if warnings else "ready",
        "warn" if warnings else "good",
    )
    page.cards(
        {
            "parameters": millions(description.parameters),
            "context, tokens": description.context or "not stated",
            "vocabulary": description.vocabulary,
            "tokens per word": fit.tokens_per_word,
            **({"base, bits per byte": loss.bits_per_byte} if loss else {}),
        }
    )
    if warnings:
        page.listing(warnings, "Notes")
    page.table(
        "The model",
        ["fact", "value"],
        _shown(
            [
                ["source", f"{name}" + (f" at {origin['revision']}" if "revision" in origin else "")],
                ["kept as", "reference (hashes only)" if reference else "copy"],
                ["architecture", description.architecture],
                ["parameters", description.parameters],
                ["stored as", f"{description.stored_as}, {description.bytes / 1e6:,.1f} MB"],
                ["licence", description.licence],
                ["context, tokens", description.context or "not stated"],
                ["layers × width", f"{description.layers} × {description.hidden}"],
                ["attention heads (key/value)", f"{description.heads} ({description.key_value_heads})"],
                ["vocabulary", description.vocabulary],
            ]
        ),
    )
    page.table(
        "Tokenizer on the training data",
        ["fact", "value"],
        _shown(
            [
                ["conversations looked at", fit.rows],
                ["words in them", fit.words],
                ["tokens per word", fit.tokens_per_word],
                ["UTF-8 bytes per token", fit.bytes_per_token],
                ["unknown tokens", f"{fit.unknown_share:.2%}"],
                ["tokens that are pieces of a character", f"{fit.byte_share:.2%}"],
                ["longest conversation, tokens", fit.longest],
                ["conversations longer than the context", f"{fit.over_context:.2%}"],
            ]
        ),
        note="Words are split at white space; contents only, without the chat template.",
    )
    if loss:
        page.table(
            "The untouched base on training answers",
            ["conversations", "supervised tokens", "nats per token", "bits per byte"],
            [[loss.rows, loss.tokens, loss.nats_per_token, loss.bits_per_byte]],
            note="Given the conversation before them, the end of the turn included. Bits per byte compare across "
            "tokenizers; fine-tuning should bring them down.",
        )
    else:
        page.text("The loss of the base was not measured: it is larger than measure_up_to_parameters or free memory.")
    page.table(
        "Chat template",
        ["fact", "value"],
        _shown(
            [
                ["template", "the model's own" if template.origin == "own" else "ChatML, supplied"],
                ["answers marked", _MARKS[template.marked_by]],
                ["end of turn carries loss", template.trains_stop],
            ]
        ),
    )
    page.conversation([("as the model reads it", show_first(rendered))], "One training conversation, rendered")
    return page


def _shown(rows: list[list[Any]]) -> list[list[str]]:
    """Facts of different kinds as texts, so that one column is aligned one way."""
    return [[name, show(value)] for name, value in rows]


def _warnings(description: Description, template: ChatTemplate, fit: Fit) -> list[str]:
    notes = []
    if description.licence == "not stated":
        notes.append("The model's files state no licence; find out before you ship a fine-tuned copy.")
    if not template.trains_stop:
        notes.append("The end of an answer carries no loss, so the tuned model may not learn to stop.")
    if fit.unknown_share > 0.001:
        notes.append(f"{fit.unknown_share:.2%} of the tokens are unknown: the tokenizer does not fit this data.")
    if fit.byte_share > 0.1:
        notes.append(
            f"{fit.byte_share:.1%} of the tokens are pieces of characters: the tokenizer hardly knows this script."
        )
    if fit.tokens_per_word > 3:
        notes.append(f"{fit.tokens_per_word:.1f} tokens per word: the tokenizer was made for other text.")
    if fit.over_context > 0:
        notes.append(f"{fit.over_context:.1%} of the conversations are longer than the context and would be cut.")
    return notes


def millions(count: int) -> str:
    """A number of parameters as people say it."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
