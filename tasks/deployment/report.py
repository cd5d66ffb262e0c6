"""The page and the figures of deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.manifest import write_json
from tasks.deployment.card import describe_reward_parity, evaluation_rows, training_rows
from tasks.deployment.merge import READ_BY, Exported
from tasks.deployment.parity import ParityProof
from tasks.deployment.provenance import Provenance
from tasks.pages.page import PALETTE, Page, plot_style, show
from tasks.pages.text import as_sentence
from tasks.training.objectives.reward_models.reward_objective import RewardObjective

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIFFERENCES_SHOWN = 5


def write_report(
    manifest: Mapping[str, Any],
    provenance: Provenance,
    exported: Exported,
    proof: ParityProof,
    page_path: Path,
    metrics_path: Path,
) -> dict[str, float | int]:
    """Write ``index.html`` and ``metrics.json``.

    Args:
        manifest: Manifest of the release.
        provenance: Records of the earlier stages.
        exported: The exported model.
        proof: Parity proof of the release.
        page_path: The page to write.
        metrics_path: File of the figures.

    Returns:
        The figures.
    """
    promoted = manifest["verdict"] == "promote"
    figures: dict[str, float | int] = {
        **proof.figures,
        "promote": int(promoted),
        "parameters": exported.parameters,
        "model_bytes": exported.bytes,
        "release_bytes": sum(entry["bytes"] for entry in manifest["files"].values()),
    }
    write_json(metrics_path, figures)
    rewards = isinstance(provenance.plan.objective, RewardObjective)
    does = "rewards" if rewards else "answers"
    page = Page(
        "Deployment",
        f"{provenance.origin}, fine-tuned and exported as one folder that {does} as the trained model does. "
        + (
            "Evaluation proved it better; heptune register and heptune promote put it into use."
            if promoted
            else "Evaluation did not prove it better, so heptune promote refuses it."
        ),
        verdict=manifest["verdict"],
        tone="good" if promoted else "warn",
        stage="deployment",
    )
    page.cards(
        {
            "release": manifest["release"][:10],
            "parameters": exported.parameters,
            "model": f"{exported.bytes / 1e6:,.1f} MB",
            f"{does} identical": f"{proof.answers_all} of {proof.prompts}",
            f"largest {'reward' if rewards else 'logit'} difference": f"{proof.max_logit_difference:.2g}",
        }
    )
    reasons = provenance.verdict["reasons"]
    if not provenance.plan.method.can.merging:
        page.text(
            f"{provenance.plan.method.describe()} does not merge into the base's weights, so the release holds the "
            "base and beside it what was trained; the gateway opens the two together."
        )
    page.listing([as_sentence(reason) for reason in reasons], "Reasons of the evaluation's verdict")
    page.table(
        "Evaluation",
        *evaluation_rows(provenance.verdict),
        note="Detectable: the smallest true difference that this comparison could detect.",
    )
    if rewards:
        page.text(f"{describe_reward_parity(proof)} {READ_BY[0].upper()}{READ_BY[1:]}.")
    else:
        _show_parity(page, proof, provenance.plan.method.can.merging)
    page.table("Training", ["property", "value"], [[name, show(value)] for name, value in training_rows(provenance)])
    page.table(
        "Files",
        ["file", "bytes", "SHA-256"],
        [[name, entry["bytes"], entry["sha256"]] for name, entry in sorted(manifest["files"].items())],
        note=f"The release hash {manifest['release']} is the SHA-256 of this listing.",
    )
    page.write(page_path)
    return figures


def _show_parity(page: Page, proof: ParityProof, merged: bool) -> None:
    exported = "merged and exported" if merged else "exported"
    page.table(
        "Parity with the trained model",
        ["model", "identical answers", "identical prompts", "of"],
        [
            [exported, proof.answers_merged, proof.prompts_merged, proof.prompts],
            ["served by the gateway's engine", proof.answers_served, proof.prompts_served, proof.prompts],
            ["all three", proof.answers_all, min(proof.prompts_merged, proof.prompts_served), proof.prompts],
        ],
        note=f"Compared token for token; greedy answers of {proof.answer_tokens:,} tokens in total, at most "
        f"{proof.max_new_tokens} each. All prompts and at least {proof.minimum_match:.0%} of the answers must be "
        f"identical. Prompts skipped as too long: {proof.left_out}.",
    )
    if proof.max_logit_difference > 0:
        page.figure(
            _plot_logits(proof),
            "Largest logit difference per prompt",
            "Trained against exported model, over the vocabulary and all positions of the answer. Rounding causes "
            "differences of about 0.00001 in fp32 and 0.1 in a bf16 export.",
        )
    else:
        page.text("The logits of the trained and the exported model are bitwise equal.")
    for difference in proof.differences[:DIFFERENCES_SHOWN]:
        page.conversation(
            [("trained", difference.trained), (exported, difference.merged), ("served", difference.served)],
            f"Different answers from token {difference.token} on, item {difference.item}",
        )


def _plot_logits(proof: ParityProof) -> Figure:
    import matplotlib
    from matplotlib.figure import Figure

    # Zero has no position on a logarithmic axis; it is drawn at the bottom.
    bottom = min((d for d in proof.logit_differences if d > 0), default=1e-8) / 10
    with matplotlib.rc_context(plot_style()):
        figure = Figure()
        axes = figure.subplots()
        heights = [max(d, bottom) for d in sorted(proof.logit_differences)]
        axes.plot(range(1, len(heights) + 1), heights, "o", color=PALETTE[0], markersize=5)
        axes.set_yscale("log")
        # The same axis for every release, so that rounding and damage look different.
        axes.set_ylim(min(1e-7, heights[0] / 2), max(10.0, heights[-1] * 2))
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("prompt, sorted by difference")
        axes.set_ylabel("largest absolute difference")
    return figure
