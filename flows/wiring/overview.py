"""``reports/index.html``: what was decided about which release, what failed last, and every stage's report; and
``reports/runs.js``, from which the pages of the stages fill in the run that wrote them.

Neither is an out of DVC: what varies between runs that do the same work stands here and in the records of the runs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.wiring import artifacts
from flows.wiring.runs.records import (
    RUNS,
    RunRecord,
    describe_run,
    name_run,
    read_records,
    record_of_page,
    show_time,
)
from flows.wiring.runs.releases import CHAMPION_NOTE, name_release, read_champion
from tasks.contracts.manifest import find_json
from tasks.pages.stages import STAGE_TITLES

SUBTITLES = {
    "data_preparation": "sources to splits, behind a quality gate",
    "model_initialisation": "the base model, pinned and described",
    "training_setup": "the resolved plan, before any training",
    "fine_tuning": "loss curves, checkpoints, weights",
    "evaluation": "base, champion and candidate on the same held-out items",
    "deployment": "merged, exported, parity proven",
    "monitoring": "traffic against the frozen baseline",
}
# Commands that write a page of their own. It is no out of a stage, so its file tells when it was made.
COMMANDS = {
    "annotation": "Annotation",
    "synthesis": "Synthesis",
    "sampling": "Sampling",
    "search": "Search",
    "comparison": "Comparison",
}
FIGURES_SHOWN = 4
# The most important figures with their names; a stage that has none of them shows its first ones.
MAIN_FIGURES = {
    "data_preparation": {
        "rows_read": "rows read", "rows_train": "training rows", "rows_test": "test rows", "labels": "labels",
    },
    "model_initialisation": {
        "parameters": "parameters", "context": "context, tokens", "base_bits_per_byte": "bits per byte, untuned",
        "tokens_per_word": "tokens per word",
    },
    "training_setup": {
        "steps": "steps", "tokens": "tokens per epoch", "trainable_parameters": "trainable parameters",
        "predicted_memory_bytes": "predicted memory",
    },
    "fine_tuning": {
        "steps": "steps", "train_loss": "training loss", "validation_loss": "validation loss",
        "trained_parameters": "trained parameters",
    },
    "evaluation": {
        "items": "held-out items", "candidate.intent_accuracy": "intent accuracy, candidate",
        "candidate.exact_match": "exact match, candidate", "candidate.loss": "loss, candidate",
    },
    "deployment": {
        "parity_answers_identical": "answers as trained", "parity_prompts": "of prompts", "model_bytes": "model size",
        "parameters": "parameters",
    },
    "monitoring": {"alerts": "alerts", "window_rows": "requests in the window", "baseline_rows": "baseline rows"},
}  # fmt: skip
SCRIPT = """\
function showRun(place, links) {
  const run = RUNS[place.dataset.stage];
  place.replaceChildren(...(run || []).flatMap(([name, value]) => {
    const span = document.createElement("span"), bold = document.createElement("b");
    bold.textContent = value;
    span.append(name + " ", bold);
    return [span, " "];
  }));
  if (!run) place.textContent = "The run that wrote this page is not known in this checkout.";
  for (const link of links) link.hidden = !PAGES.includes(link.dataset.stage);
}
"""


def write_overview(root: Path = Path()) -> Path:
    """Write the page from the existing reports, and the script beside it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from tasks.pages.text import printable

    written = {name: record_of_page(name, root) for name in STAGE_TITLES}
    failed = {name: find_failed(root, name, written[name]) for name in STAGE_TITLES}
    # Reasons quote what clients and data wrote.
    environment = Environment(
        loader=PackageLoader("flows.wiring"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    text = environment.get_template("overview.html").render(
        stages=[describe(root, name, failed[name], written[name]) for name in STAGE_TITLES],
        failure=describe_failure(failed),
        champion=describe_champion(root),
        evaluation=describe_evaluation(root),
        monitoring=describe_monitoring(root),
        others=[(f"{name}/index.html", title) for name, title in COMMANDS.items() if has_page(root, name)],
    )
    replace_file(root / artifacts.RUN_FACTS, render_facts(root, written))
    path = root / artifacts.INDEX
    replace_file(path, text)
    return path


def replace_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def has_page(root: Path, name: str) -> bool:
    return (root / artifacts.report(name)).is_file()


def is_current(root: Path = Path()) -> bool:
    """Whether the page is newer than everything that it shows."""
    page = root / artifacts.INDEX
    if not page.is_file() or not (root / artifacts.RUN_FACTS).is_file():
        return False
    shown = [artifacts.EVALUATION_VERDICT, artifacts.DRIFT_VERDICT, artifacts.CHAMPION, artifacts.CARD_PAGE]
    shown += [path for name in STAGE_TITLES for path in (artifacts.report(name), artifacts.metrics(name), RUNS / name)]
    shown += [artifacts.RELEASES / CHAMPION_NOTE, *(artifacts.report(name) for name in COMMANDS)]
    written = page.stat().st_mtime_ns
    return all(path.stat().st_mtime_ns <= written for path in (root / path for path in shown) if path.exists())


def describe(root: Path, name: str, failed: RunRecord | None, written: RunRecord | None) -> dict[str, Any]:
    """A stage's row: its page, its main figures, which run wrote it, and the last attempt where that failed."""
    from tasks.pages.page import show

    page = root / artifacts.report(name)
    figures = find_json(root / artifacts.metrics(name))
    names = {key: title for key, title in MAIN_FIGURES[name].items() if key in figures}
    names = names or {key: re.sub(r"[_.]", " ", key) for key in list(figures)[:FIGURES_SHOWN]}
    card = root / artifacts.CARD_PAGE if name == "data_preparation" else None
    return {
        "title": STAGE_TITLES[name],
        "subtitle": SUBTITLES[name],
        "card": f"{name}/{card.name}" if card and card.is_file() else None,
        "href": f"{name}/index.html" if page.is_file() else None,
        "figures": [
            (title, show_bytes(figures[key]) if "bytes" in key.split("_") else show(figures[key]))
            for key, title in names.items()
        ],
        "made": ", ".join(f"{key} {value}" for key, value in describe_run(written, {})) if written else "",
        "failed": describe_attempt(failed) if failed else "",
    }


def find_failed(root: Path, name: str, written: RunRecord | None) -> RunRecord | None:
    """The last attempt at a stage where that failed, and is not mended.

    DVC removes what a stage wrote before it tries again. Where the page of a finished run and its figures are there all
    the same, DVC has put them back since.
    """
    newest = next(read_records(name, root), None)
    if newest is None or newest.state not in ("FAILED", "KILLED"):
        return None
    return None if written and (root / artifacts.metrics(name)).is_file() else newest


def describe_attempt(record: RunRecord) -> str:
    """When and why an attempt ended before its work was done."""
    verb = "failed" if record.state == "FAILED" else "was stopped"
    reason = f": {record.message}" if record.message and record.state == "FAILED" else ""
    return f"{verb} {show_time(record.ended or record.began)}{reason}"


def describe_failure(found: Mapping[str, RunRecord | None]) -> dict[str, str] | None:
    """The stage whose last attempt failed, the most recent one where there are several; None when all went well."""
    failed = [record for record in found.values() if record]
    if not failed:
        return None
    last = max(failed, key=lambda record: record.began)
    return {
        "title": f"{STAGE_TITLES[last.stage]} {'failed' if last.state == 'FAILED' else 'was stopped'}",
        "reason": last.message or "its process ended without a reason",
        "about": f"{show_time(last.ended or last.began)}, run “{name_run(last)}”; what stands below it is older",
    }


def describe_champion(root: Path) -> dict[str, str] | None:
    """Who is champion, since when, and how good it was found."""
    from tasks.pages.text import show_score

    known = read_champion(root / artifacts.RELEASES)
    if known is None:
        return None
    manifest = find_json(root / artifacts.RELEASES / known.release / "manifest.json")
    titles = {key: "ROUGE-L" if key == "rouge_l" else key.replace("_", " ") for key in manifest.get("metrics", {})}
    figures = ", ".join(f"{title} {show_score(manifest['metrics'][key])}" for key, title in titles.items())
    return {
        "title": f"Champion: version {known.version}",
        "reason": figures or "its figures are not in this checkout",
        "about": f"release {known.release[:12]}, since {show_time(known.since)}",
    }


def describe_evaluation(root: Path) -> dict[str, str] | None:
    """The verdict on the candidate, with who was compared."""
    verdict = find_json(root / artifacts.EVALUATION_VERDICT)
    if not verdict:
        return None
    releases = root / artifacts.RELEASES
    release = find_release(root, verdict)
    candidate = name_release(releases, release) if release else "no release yet"
    opponent = "the base, as there was no champion"
    if verdict.get("champion"):
        opponent = f"the champion of that time, {name_release(releases, str(verdict['champion']))}"
    return {
        "title": f"Evaluation: {verdict['verdict']}",
        "reason": first_sentence(verdict),
        "about": f"candidate ({candidate}) against {opponent}",
        "kind": str(verdict["verdict"]),
    }


def first_sentence(verdict: Mapping[str, Any]) -> str:
    """The decisive reason of a verdict."""
    return "".join(f"{reason[:1].upper()}{reason[1:]}." for reason in verdict["reasons"][:1])


def find_release(root: Path, verdict: Mapping[str, Any]) -> str:
    """The release that was made on a verdict, or empty while there is none."""
    release = find_json(root / artifacts.RELEASE / "manifest.json")
    same = find_json(root / artifacts.RELEASE / "verdict.json") == verdict
    return str(release.get("release", "")) if same else ""


def describe_monitoring(root: Path) -> dict[str, str] | None:
    """The verdict on the traffic, with which traffic it is about."""
    verdict = find_json(root / artifacts.DRIFT_VERDICT)
    if not verdict:
        return None
    period, releases = verdict.get("period"), verdict.get("releases") or []
    about = ""
    if period:
        times = " to ".join(dict.fromkeys(show_time(time) for time in period))
        answered = " and ".join(name_release(root / artifacts.RELEASES, name) for name in releases) or "nothing"
        about = f"{verdict['rows']:,} requests received {times}, answered by {answered}"
    return {
        "title": f"Monitoring: {verdict['verdict'].replace('_', ' ')}",
        "reason": first_sentence(verdict),
        "about": about,
        "kind": str(verdict["verdict"]),
    }


def list_facts(root: Path, record: RunRecord, deployed: RunRecord | None = None) -> list[tuple[str, str]]:
    """What the header of a page says of the run that wrote it, and of what the page is about.

    Args:
        root: The checkout.
        record: Record of the run.
        deployed: Record of the deployment whose release is in the checkout. The stages before it belong to that release
            when they ended before it began, since deployment is made from what is up to date.
    """
    about = dict(record.about)
    if deployed and record.stage != "monitoring" and (record.ended or record.began) <= deployed.began:
        about.setdefault("release", deployed.about.get("release", ""))
    return describe_run(record, about, root)


def render_facts(root: Path, written: Mapping[str, RunRecord | None]) -> str:
    """The script that fills in the headers of the pages."""
    facts = {name: list_facts(root, record, written["deployment"]) for name, record in written.items() if record}
    for name in COMMANDS:
        if has_page(root, name):
            facts[name] = [("made", show_time((root / artifacts.report(name)).stat().st_mtime))]
    pages = [name for name in STAGE_TITLES if has_page(root, name)]
    return f"const RUNS = {json.dumps(facts)};\nconst PAGES = {json.dumps(pages)};\n{SCRIPT}"


def show_bytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
