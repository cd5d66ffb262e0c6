"""The model card: what the release is, its provenance, its evaluation and its limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.deployment.parity import ParityProof
from tasks.deployment.provenance import BASE, Provenance
from tasks.deployment.release import CARD
from tasks.deployment.reward_parity import TOLERANCE
from tasks.pages.page import is_number, show
from tasks.pages.text import plural, show_score
from tasks.training.objectives.reward_models.reward_objective import RewardObjective
from tasks.training.plan_text import describe_kept, describe_schedule, list_changes

TEMPLATE = Path(__file__).with_name("templates") / "card.md"
FILES_SHOWN = 50
SLICES_SHOWN = 5  # of each property
SPLITS = ("train", "validation", "test")
# The hub accepts licence identifiers such as apache-2.0; any other licence is "other" with its name.
LICENCE_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*\Z")


def write_card(provenance: Provenance, proof: ParityProof, name: str, languages: Sequence[str], release: Path) -> None:
    """Write ``README.md`` with the front matter that model hubs read; no dates, so it is the same every time.

    Args:
        provenance: Records of the earlier stages.
        proof: Parity proof of the release.
        name: Name of the model.
        languages: ISO 639-1 codes.
        release: The release's folder.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    plan, against_base = provenance.plan, provenance.verdict["comparisons"][BASE]
    rewards = isinstance(plan.objective, RewardObjective)
    licence = str(provenance.initial["licence"])
    has_identifier = bool(LICENCE_IDENTIFIER.match(licence))
    extra: dict[str, Any] = {} if has_identifier else {"license_name": licence}
    data = ModelCardData(
        language=list(languages),
        license=licence if has_identifier else "other",
        **extra,
        library_name="transformers" if plan.method.can.merging else "heptune",
        pipeline_tag="text-classification" if rewards else "text-generation",
        tags=["heptune", plan.method.name],
        base_model=provenance.base,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="text-classification" if rewards else "text-generation",
                dataset_type="held-out",
                dataset_name="held-out split",
                dataset_split="test",
                metric_type=metric,
                metric_name=provenance.report.get("titles", {}).get(metric),
                metric_value=round(float(result["mean_a"]), 6),
                metric_args=describe_interval(provenance.report, metric),
            )
            for metric, result in sorted(against_base.items())
        ],
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=name,
        origin=f"`{provenance.origin}`",
        method=plan.method.describe(),
        merged=plan.method.can.merging,
        documents=plan.objective.rows == "texts",
        rewards=rewards,
        examples=show(plan.examples),
        verdict=provenance.verdict["verdict"],
        reasons=provenance.verdict["reasons"],
        items=show(provenance.verdict["items"]),
        opponent="the champion" if provenance.verdict["opponent"] == "champion" else "its base",
        intents=describe_intents(provenance.verdict),
        evaluation=as_table(*evaluation_rows(provenance.verdict)),
        scores=as_table(*score_rows(provenance.report)) if provenance.report else "",
        slices=as_table(*slice_rows(provenance.report)) if provenance.report.get("slices") else "",
        blocks=provenance.report.get("blocks", []),
        sources=as_table(
            ["source", "kind", "location", "shape", "rows", "weight"],
            [
                [s[key] for key in ("title", "kind", "place", "shape", "rows", "weight")]
                for s in provenance.prepared["sources"]
            ],
        ),
        splits=as_table(
            ["split", "rows"],
            [[name, provenance.prepared["counts"][name]] for name in SPLITS if name in provenance.prepared["counts"]],
        ),
        files=list(_hashes(provenance.prepared)),
        training=as_table(["property", "value"], training_rows(provenance)),
        parity=describe_reward_parity(proof) if rewards else describe_parity(proof),
        context=show(provenance.initial["context"]),
        licence=f"That of the base model: {licence}." if has_identifier else f"That of the base model ({licence}).",
    )
    card.save(release / CARD)


def evaluation_rows(verdict: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the evaluation table, against the opponent of the verdict."""
    opponent = verdict["opponent"]
    columns = ["metric", "result", "this model", opponent, "difference", "interval", "detectable"]
    rows = [
        [
            "ROUGE-L" if metric == "rouge_l" else metric.replace("_", " "),
            _name_result(r),
            show_score(r["mean_a"]),
            show_score(r["mean_b"]),
            show_score(r["difference"]),
            f"{show_score(r['low'])} to {show_score(r['high'])}",
            show_score(r["detectable"]),
        ]
        for metric, r in sorted(verdict["comparisons"][f"candidate_vs_{opponent}"].items())
    ]
    return columns, rows


def describe_interval(report: Mapping[str, Any], metric: str) -> dict[str, Any] | None:
    """Interval of the model's score as the front matter has it; None where it is not known.

    Args:
        report: Evaluation's report.
        metric: Name of the metric.
    """
    one = report.get("scores", {}).get("candidate", {}).get(metric)
    if not one or one["low"] is None or one["high"] is None:
        return None
    return {
        "confidence": report["confidence"],
        "low": round(float(one["low"]), 6),
        "high": round(float(one["high"]), 6),
        "items": one["items"],
    }


def score_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of every score of this model and of its base, with their intervals."""
    models = {"candidate": "this model", "base": "base", "champion": "champion"}
    shown = [model for model in models if model in report["scores"]]
    columns = ["metric", *(models[model] for model in shown), "items"]
    rows = [
        [
            report["titles"][metric],
            *(_show_score(report["scores"][model][metric]) for model in shown),
            report["scores"]["candidate"][metric]["items"],
        ]
        for metric in report["titles"]
    ]
    return columns, rows


def _show_score(one: Mapping[str, Any]) -> str:
    value, low, high = (float("nan") if one[key] is None else one[key] for key in ("value", "low", "high"))
    return f"{show_score(value)} ({show_score(low)} to {show_score(high)})"


def slice_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the slices that are large enough, the weakest of each property."""
    columns = ["slice", "this model", "interval", "difference", "items"]
    rows: list[list[Any]] = []
    for name in dict.fromkeys(one["by"] for one in report["slices"]):
        known = [one for one in report["slices"] if one["by"] == name and not one["too_small"]]
        rows += [
            [
                f"{name}: {one['group']}",
                show_score(one["scores"]["candidate"]),
                f"{show_score(one['candidate_low'])} to {show_score(one['candidate_high'])}",
                show_score(one["difference"]),
                one["items"],
            ]
            for one in known[:SLICES_SHOWN]
        ]
    return columns, rows


def _name_result(comparison: Mapping[str, Any]) -> str:
    """Whether this model is better or worse than the other: the interval of the difference excludes zero."""
    if comparison["low"] <= 0 <= comparison["high"]:
        return "undecided"
    return "better" if (comparison["low"] > 0) == comparison["higher_is_better"] else "worse"


def describe_intents(verdict: Mapping[str, Any]) -> str:
    """What intent accuracy measures, and how many answers had no intent; empty where it was not measured."""
    abstained, ceiling = verdict["intent_abstained"], verdict["intent_ceiling"]
    if not abstained:
        return ""
    right = "" if ceiling is None else f", which is right on {ceiling:.1%} of the reference answers"
    counts = ", ".join(f"{name} {count:,}" for name, count in abstained.items())
    return (
        "Intent accuracy is the share of labelled conversations whose answer names their label, or is assigned to it "
        f"by a classifier of words fitted on the training answers{right}. Answers unlike those of any label count as "
        f"wrong ({counts}). It does not measure whether what an answer says is true."
    )


def training_rows(provenance: Provenance) -> list[list[Any]]:
    """Names and values of the plan that matter to a reader, and the final losses of fine-tuning."""
    plan = provenance.plan
    processes = plural(plan.world_size, "process", "processes")
    steps = provenance.tuned.get("steps", plan.steps)
    kept = provenance.tuned.get("kept_step", steps)
    rows: list[list[Any]] = [
        ["base", provenance.origin],
        ["architecture", provenance.initial["architecture"]],
        ["parameters of the base", provenance.initial["parameters"]],
        ["method", plan.method.describe()],
        ["trained parameters", plan.trainable_parameters],
        ["steps", steps],
        ["weights", f"{describe_kept(plan)}{f': step {kept:,}' if kept < steps else ''}"],
        ["objective", plan.objective.describe()],
        *([["loss", plan.loss.describe()]] if plan.objective.can.token_loss else []),
        ["epochs", f"{plan.epochs_of(steps):.3g}"],
        ["conversations per epoch", plan.examples],
        ["tokens per epoch", plan.tokens],
        ["supervised tokens per epoch", plan.supervised_tokens],
        ["optimizer", plan.optimizer.describe()],
        [
            "learning rate",
            f"{plan.learning_rate:g}, {describe_schedule(plan)}",
        ],
        *map(list, list_changes(plan)),
        [
            "batch",
            f"{plan.batch_size} rows × {plan.accumulation_steps} accumulated × {processes}",
        ],
        ["maximum row length, tokens", plan.max_tokens],
        ["packing", plan.packing],
        ["precision", plan.precision],
        ["seed", plan.seed],
    ]
    unit = f", {plan.objective.loss_in}"
    for key, name in (
        ("final_loss", f"training loss of the last logged steps{unit if plan.objective.loss_tells else ''}"),
        ("final_validation_loss", f"validation loss after training{unit}"),
    ):
        loss = provenance.tuned[key]
        rows.append([name, "not measured" if loss is None else float(loss)])
    return rows


def describe_parity(proof: ParityProof) -> str:
    """The proof in two sentences."""
    return (
        f"{show(proof.prompts)} held-out prompts were answered by the trained model, by this folder and by the "
        f"gateway's engine: all prompts and {proof.answers_all} answers are identical token for token. The largest "
        f"difference of a logit is {proof.max_logit_difference:.3g}."
    )


def describe_reward_parity(proof: ParityProof) -> str:
    """The same of a reward model."""
    return (
        f"{show(proof.prompts)} held-out conversations were rewarded by the trained model, not merged, by this folder "
        f"and by training's reward `model` over it, from the texts: {proof.answers_all} rewards are the same within "
        f"{TOLERANCE:g}. The largest difference is {proof.max_logit_difference:.3g}."
    )


def as_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers aligned right."""
    if not rows:
        return "None."
    number = [is_number(cell) for cell in rows[0]]
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if right else "---" for right in number) + "|",
        *("| " + " | ".join(show(c).replace("|", "\\|").replace("\n", " ") for c in row) + " |" for row in rows),
    ]
    return "\n".join(lines)


def _hashes(prepared: Mapping[str, Any]) -> Iterator[str]:
    """Hashes of the source files and of the splits made from them."""
    names = [(f"{s['title']}: {name}", digest) for s in prepared["sources"] for name, digest in s["files"].items()]
    for name, digest in names[:FILES_SHOWN]:
        yield f"{name} `{digest}`"
    if len(names) > FILES_SHOWN:
        yield f"and {len(names) - FILES_SHOWN} more in the manifest of the prepared data"
    for name, entry in sorted(prepared["files"].items()):
        yield f"prepared: {name} `{entry['sha256']}`"
