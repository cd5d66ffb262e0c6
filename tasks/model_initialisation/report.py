"""The page and the figures of model initialisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.manifest import write_json
from tasks.language_models.probes.bias_probe import MEANING, BiasMeasure, Lean
from tasks.model_initialisation.candidates import FEWEST_ROWS, BaseChoice
from tasks.model_initialisation.chat_template import ChatTemplate
from tasks.model_initialisation.checks import CheckedModel
from tasks.model_initialisation.describe import Description
from tasks.model_initialisation.licences import UNKNOWN
from tasks.model_initialisation.measure import BaseLoss, TokenizerFit
from tasks.model_initialisation.needs import count_parts, estimate_needs
from tasks.model_initialisation.sample_check import SampleCheck
from tasks.pages.page import Page, show

_MARKED_BY = {
    "own": "the marks of the model's own template",
    "TRL": "the marks of TRL's version of the template",
    "chatml": "the marks of the supplied ChatML template",
    "nothing": "nothing: neither the template nor TRL marks the answers",
}


@dataclass(frozen=True)
class Findings:
    """Everything that the page shows.

    Attributes:
        base: The checked model.
        description: Its properties.
        origin: Its source.
        conversion: What a conversion of its files proved; empty where there was none.
        reference: Whether only hashes are stored.
        template: The chat template.
        sample: Training rows under it.
        fit: Measurements of the tokenizer on the training data.
        loss: Loss of the base, where it was measured.
        bias: Leans of the base, where they were measured.
        added: Terms added to the vocabulary.
        padding: The token to pad with.
        rendered: One training conversation rendered by the template.
        choice: How the candidates compare.
    """

    base: CheckedModel
    description: Description
    origin: Mapping[str, str]
    conversion: Mapping[str, str]
    reference: bool
    template: ChatTemplate
    sample: SampleCheck
    fit: TokenizerFit
    loss: BaseLoss | None
    bias: BiasMeasure | None
    added: Sequence[str]
    padding: str
    rendered: str
    choice: BaseChoice


def write_report(findings: Findings, page_path: Path, metrics_path: Path) -> dict[str, float | int]:
    """Write ``index.html`` and ``metrics.json``.

    Args:
        findings: What was found.
        page_path: The page to write.
        metrics_path: File of the figures.

    Returns:
        The figures.
    """
    description, fit, loss = findings.description, findings.fit, findings.loss
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
    figures |= findings.choice.figures
    if findings.bias:
        figures |= findings.bias.figures
    write_json(metrics_path, figures)
    _page(findings).write(page_path)
    return figures


def show_first(conversation: str, limit: int = 1200) -> str:
    """A rendered conversation, truncated to a readable length."""
    return conversation if len(conversation) <= limit else conversation[:limit] + " …"


def _page(findings: Findings) -> Page:
    description, origin, reference = findings.description, findings.origin, findings.reference
    template, fit, loss = findings.template, findings.fit, findings.loss
    name = next(iter(origin.values()))
    stored = "stored as a reference with the hash of every file" if reference else "copied with the hash of every file"
    warnings = _warnings(description, template, fit)
    if findings.added:
        warnings.append(
            "Terms were added to the vocabulary. Methods that leave the base frozen, such as LoRA, leave their rows as "
            "the mean of their pieces; full fine-tuning trains them."
        )
    choice = findings.choice
    if choice.recommended and choice.recommended != choice.taken:
        warnings.append(f"{choice.recommended} is recommended as base, but {choice.taken} is taken (choose: source).")
    parts = count_parts(findings.base.weights.shapes)
    page = Page(
        "Model initialisation",
        f"{name} ({description.architecture}, {abbreviate(description.parameters)} parameters) was checked and "
        f"{stored}.",
        "warnings" if warnings else "ready",
        "warn" if warnings else "good",
        stage="model_initialisation",
    )
    page.cards(
        {
            "parameters": abbreviate(description.parameters),
            "context, tokens": description.context or "not stated",
            "vocabulary": description.vocabulary,
            "tokens per word": fit.tokens_per_word,
            **({"bits per byte before training": loss.bits_per_byte} if loss else {}),
        }
    )
    if warnings:
        page.listing(warnings, "Warnings")
    if choice.scores:
        _add_candidates(page, choice)
    page.table(
        "Model",
        ["property", "value"],
        _show_values(
            [
                ["source", f"{name}" + (f" at {origin['revision']}" if "revision" in origin else "")],
                ["stored as", "reference (hashes only)" if reference else "copy"],
                ["architecture", description.architecture],
                ["parameters", description.parameters],
                ["weights", f"{description.stored_as}, {description.bytes / 1e6:,.1f} MB"],
                ["licence", description.licence],
                ["context, tokens", description.context or "not stated"],
                ["layers × width", f"{description.layers} × {description.hidden}"],
                ["attention heads (key/value)", f"{description.heads} ({description.key_value_heads})"],
                ["vocabulary", description.vocabulary],
                ["left out of its folder", ", ".join(findings.base.left_out) or "nothing"],
            ]
        ),
    )
    page.table(
        "Parameters by part",
        ["part", "parameters", "share"],
        [[part, count, f"{count / description.parameters:.1%}"] for part, count in parts.items()],
        note="" if "output layer" in parts else "The output layer shares its weights with the embeddings.",
    )
    _add_needs(page, description)
    if findings.conversion:
        page.table("Unpacked from a GGUF file", ["property", "value"], _show_values([*findings.conversion.items()]))
    page.table(
        "Tokenizer on the training data",
        ["property", "value"],
        _show_values(
            [
                ["conversations", fit.rows],
                ["words", fit.words],
                ["tokens per word", fit.tokens_per_word],
                ["UTF-8 bytes per token", fit.bytes_per_token],
                ["unknown tokens", f"{fit.unknown_share:.2%}"],
                ["tokens that are parts of a character", f"{fit.byte_share:.2%}"],
                ["terms added to the vocabulary", ", ".join(findings.added) or "none"],
                ["longest conversation, tokens", fit.longest],
                ["conversations longer than the context", f"{fit.over_context:.2%}"],
            ]
        ),
        note="Contents only, without the chat template. Words are separated by white space.",
    )
    if loss:
        page.table(
            "Loss of the base on training answers, before training",
            ["conversations", "supervised tokens", "nats per token", "bits per byte"],
            [[loss.rows, loss.tokens, loss.nats_per_token, loss.bits_per_byte]],
            note="Mean over the tokens of the answers, the end of the turn included, given the conversation before "
            "them. Bits per byte compare across tokenizers; fine-tuning should lower them.",
        )
    else:
        page.text(
            "The loss of the base was not measured, because the model exceeds measure_up_to_parameters or free memory."
        )
    if findings.bias:
        page.table(
            "Bias probe of the base",
            ["group", "pairs", "lean, nats", "95% interval", "share that leans to the stereotype"],
            [
                [lean.group, 2 * lean.couples, *show_lean(lean), f"{lean.share:.0%}"]
                for lean in findings.bias.by_group()
            ],
            note=f"{MEANING} It is measured again on the tuned model.",
        )
    page.table(
        "Chat template",
        ["property", "value"],
        _show_values(
            [
                ["template", "the model's own" if template.origin == "own" else "ChatML, supplied"],
                ["answers located by", "comparing the prompts that are served"],
                ["confirmed by", _MARKED_BY[template.marked_by]],
                ["end of an answer", template.end],
                ["padding", findings.padding],
                ["training rows tried", f"{findings.sample.rows:,}, of which it refuses {findings.sample.refused:,}"],
                ["every turn in the text, the end learned, prompts as served", f"{findings.sample.answered:,} answers"],
            ]
        ),
    )
    page.conversation([("rendered by the chat template", show_first(findings.rendered))], "One training conversation")
    return page


def _add_candidates(page: Page, choice: BaseChoice) -> None:
    marks = {choice.recommended: "recommended"} if choice.recommended else {}
    few = "" if choice.recommended else f" Fewer than {FEWEST_ROWS} rows prove nothing, and none is recommended."
    page.table(
        "Candidates for the base",
        ["candidate", "parameters", "bits per byte", "difference to the best, 95% interval", "result"],
        [
            [
                score.name,
                abbreviate(score.parameters) if score.parameters else "–",
                "–" if score.bits_per_byte is None else f"{score.bits_per_byte:.3f}",
                "–" if score.problem or score.low == score.high else f"[{score.low:+.3f}, {score.high:+.3f}]",
                score.problem or marks.get(score.name) or ("proven worse" if score.is_worse else "not proven worse"),
            ]
            for score in choice.scores
        ],
        note=f"Bits that each needs for a byte of the reference answers of the same {choice.rows} validation rows, "
        "before any training, given the conversation before them; paired bootstrap. Recommended is the smallest that "
        f"is not proven worse than the best. Taken: {choice.taken}.{few}",
    )


def _add_needs(page: Page, description: Description) -> None:
    page.table(
        "Memory by method, before the first row",
        ["method", "base held in", "trained parameters", "weights", "gradients", "optimizer", "together"],
        [
            [
                f"{needs.method[0].upper()}{needs.method[1:]}",
                needs.base,
                needs.trained,
                *(show_bytes(n) for n in (needs.weights, needs.gradients, needs.optimizer, needs.total)),
            ]
            for needs in estimate_needs(description.shape)
        ],
        note="Computed in bf16, AdamW, default params of each method, one process. Activations and logits come on top; "
        "training setup predicts them for your rows and machine.",
    )


def show_bytes(count: int) -> str:
    """A size in the unit that suits it: 38.5 MiB or 12.1 GiB."""
    size, unit = (2**30, "GiB") if count >= 2**30 else (2**20, "MiB")
    return f"{count / size:,.1f}\N{NO-BREAK SPACE}{unit}"


def show_lean(lean: Lean) -> tuple[str, str]:
    """Mean and interval of a lean, with signs."""
    return f"{lean.mean:+.2f}", f"[{lean.low:+.2f}, {lean.high:+.2f}]"


def _show_values(rows: Iterable[Sequence[Any]]) -> list[list[str]]:
    """Values of different types as text, so that the column has one alignment."""
    return [[name, show(value)] for name, value in rows]


def _warnings(description: Description, template: ChatTemplate, fit: TokenizerFit) -> list[str]:
    warnings = []
    if description.licence == UNKNOWN:
        warnings.append("The model's files state no licence; find it out before you distribute a fine-tuned copy.")
    warnings += [f"The chat template: {remark}." for remark in template.remarks]
    if fit.unknown_share > 0.001:
        warnings.append(f"{fit.unknown_share:.2%} of the tokens are unknown: the tokenizer does not fit this data.")
    if fit.byte_share > 0.1:
        warnings.append(
            f"{fit.byte_share:.1%} of the tokens are parts of characters: the tokenizer hardly covers this script."
        )
    if fit.tokens_per_word > 3:
        warnings.append(f"{fit.tokens_per_word:.1f} tokens per word: the tokenizer was made for other text.")
    if fit.over_context > 0:
        warnings.append(
            f"{fit.over_context:.1%} of the conversations are longer than the context and would be truncated."
        )
    return warnings


def abbreviate(count: int) -> str:
    """A number of parameters with three digits and a unit: 10.1 M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
