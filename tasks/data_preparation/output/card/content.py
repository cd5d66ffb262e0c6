"""The content of the data card, section by section, for both of its forms."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.personal_data.pii import Pii
from tasks.corpus.reading.answers import COLUMN as ANSWERS
from tasks.corpus.reading.answers import count_answers
from tasks.corpus.rows.rows import Rows, column_messages, find_plain
from tasks.corpus.text.languages import MAX_CHARACTERS, MIN_LETTERS
from tasks.data_preparation.gate.gate import Verdict
from tasks.data_preparation.output.card.heuristics import measure_quality
from tasks.data_preparation.output.card.languages import Languages
from tasks.data_preparation.output.card.sample import CardSample
from tasks.data_preparation.output.card.topics import Topics
from tasks.data_preparation.output.plots import plot_class_balance, plot_topics
from tasks.data_preparation.output.sections import add_lengths, add_splits, add_waterfall, count_labels, start_page
from tasks.data_preparation.output.sizes import BYTES_PER_TOKEN, PERCENTILES, Sizes, count_values, show_percentiles
from tasks.data_preparation.splitting.methods.assignment import SPLITS
from tasks.data_preparation.trainset.augmentation.augment import AUGMENTATION
from tasks.pages.page import Page

if TYPE_CHECKING:
    from tasks.data_preparation.output.card.params import Card

NOT_STATED = "not stated"
SHOWN_REASONS = 20
SHOWN_LABELS = 20
SHOWN_EXAMPLES = 3
MAX_EXAMPLE_CHARACTERS = 1_200
# A language with a smaller share of the sample is more likely an error of the detector than a language of the data.
MIN_LANGUAGE_SHARE = 0.02
# Fewer test rows of a label make its scores uncertain.
MIN_TEST_ROWS = 10

SHAPE_NAMES = {
    "messages": "dialogues",
    "sharegpt": "dialogues",
    "alpaca": "instructions with answers",
    "prompt_completion": "prompts with completions",
    "question_answer": "questions with answers",
    "text_label": "labelled texts",
    "plain_text": "plain texts",
    "preference": "prompts with a chosen and a rejected answer",
    "preference_implicit": "dialogues with a chosen and a rejected ending",
    "kto": "prompts with an answer rated good or bad",
    "ranked": "prompts with ranked answers",
    "stepwise": "prompts with answers whose steps are marked",
    "squad": "questions about a passage",
    "multiple_choice": "questions with choices",
    AUGMENTATION: "augmented variants",
}
SIMILARITY_KINDS = {
    "exact": "identical conversations",
    "near": "near duplicates by Jaccard similarity",
    "semantic": "same meaning by embeddings",
    "across splits": "similar rows in different splits",
    "alike": "similar rows in one split",
    "contamination": "contains a benchmark item",
    "augmented": "augmented variants of another row",
}


class Licensed(Protocol):
    """The fields of a source that the card uses."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def license(self) -> str: ...
    @property
    def license_url(self) -> str: ...
    @property
    def origin(self) -> str: ...


@dataclass(frozen=True)
class Subject:
    """The data that the card describes.

    Attributes:
        rows: The rows at the end of the stage.
        verdict: Verdict of the gate.
        settings: Settings of the card.
        sources: Title to source, for the sources with remaining rows.
        pii: The step that removed personal data, if there was one.
        sample: The sample, without personal data that the patterns find.
        sizes: Sizes of all rows.
        shapes: Shape to number of rows.
        languages: Languages of the sample; None where lingua is not installed.
        topics: Topics of the sample; None where it is too small.
    """

    rows: Rows
    verdict: Verdict
    settings: Card
    sources: dict[str, Licensed]
    pii: Pii | None
    sample: CardSample
    sizes: Sizes
    shapes: dict[str, int]
    languages: Languages | None
    topics: Topics | None


def list_languages(subject: Subject) -> list[str]:
    """The languages the owner states, otherwise the detected ones with enough rows."""
    if subject.settings.languages:
        return list(subject.settings.languages)
    found = subject.languages
    if found is None:
        return []
    return [
        code
        for code, count in found.counts.items()
        if code != "unclear" and count >= MIN_LANGUAGE_SHARE * found.classified
    ]


def compose(subject: Subject) -> Page:
    """The complete card as a page."""
    rows, verdict = subject.rows, subject.verdict
    words = sum(int(values.sum()) for values in subject.sizes.words.values())
    kinds = [f"{SHAPE_NAMES.get(shape, shape)} ({count:,})" for shape, count in subject.shapes.items()]
    page = start_page(
        subject.settings.title,
        f"Data card: {rows.table.num_rows:,} examples for fine-tuning: {', '.join(kinds)}.",
        verdict,
    )
    languages, labels = list_languages(subject), len(count_labels(rows.table))
    page.cards(
        {
            "examples": rows.table.num_rows,
            "words": words,
            "source" if len(subject.sources) == 1 else "sources": len(subject.sources),
            "languages": ", ".join(languages[:4]) + (" …" if len(languages) > 4 else "") or NOT_STATED,
            **({"labels": labels} if labels else {}),
            **({"topics": len(subject.topics.topics)} if subject.topics else {}),
        }
    )
    _add_description(page, subject)
    _add_sources(page, subject)
    add_splits(page, rows, subject.sizes)
    _add_balance(page, rows.table)
    add_lengths(page, subject.sizes)
    _add_lengths(page, subject)
    _add_languages(page, subject)
    _add_topics(page, subject)
    _add_quality(page, subject)
    _add_personal(page, subject)
    _add_duplicates(page, subject)
    _add_contamination(page, subject)
    _add_quarantine(page, subject)
    _add_examples(page, subject)
    _add_limits(page, subject)
    page.link("index.html", "How the data were prepared, step by step")
    page.link("data_docs/index.html", "Checks of the quality gate and their findings")
    return page


def _add_description(page: Page, subject: Subject) -> None:
    sizes, table = subject.sizes, subject.rows.table
    page.heading("Description")
    page.text(
        subject.settings.summary or "The owner has not described this data set; set data_preparation.card.summary."
    )
    multiple_answers = sum(count_answers(table).values())
    plain = int(find_plain(column_messages(table)).sum())
    users = int((sizes.characters["user"] > 0).sum())
    characters = sum(int(values.sum()) for values in sizes.characters.values())
    size = int(sizes.bytes.sum())
    supervised = int(sizes.words["assistant"].sum())
    values: list[tuple[str, int]] = [
        ("examples", table.num_rows),
        ("with a prompt", users),
        ("with several prompts", int((sizes.user_turns > 1).sum())),
        ("with a system prompt", int((sizes.characters["system"] > 0).sum())),
        ("plain text without a prompt", plain),
        ("with several or rated answers", multiple_answers),
        ("turns", int(sizes.turns.sum())),
        ("words", sum(int(count.sum()) for count in sizes.words.values())),
        ("words in answers (supervised)", supervised),
        ("characters", characters),
        ("bytes of text (UTF-8)", size),
        ("tokens (estimate)", size // BYTES_PER_TOKEN),
    ]
    page.table(
        "Sizes",
        ["quantity", "number"],
        [[name, value] for name, value in values if value],
        note="Words are separated by spaces; in scripts without spaces, each character is a word. Tokens are estimated "
        f"at {BYTES_PER_TOKEN} bytes each; the training plan counts them with the tokenizer of the model.",
    )


def _add_sources(page: Page, subject: Subject) -> None:
    used = count_values(subject.rows.table["source"])
    shown: list[list[Any]] = []
    for origin in subject.rows.origins:
        if not used[origin.title]:
            continue
        source = subject.sources.get(origin.title)
        shown.append(
            [
                origin.title,
                source.origin if source and source.origin else f"{origin.kind}: {origin.place}",
                "as the original rows"
                if origin.kind == AUGMENTATION
                else SHAPE_NAMES.get((origin.shape or "").split(" ")[0], origin.shape or "–"),
                (source.license or NOT_STATED) if source else "as the original rows",
                origin.rows,
                used[origin.title],
                f"{used[origin.title] / subject.rows.table.num_rows:.1%}",
            ]
        )
    page.table(
        "Sources and licences",
        ["source", "origin", "shape of the rows", "licence", "rows read", "examples", "share"],
        shown,
        note="data/prepared/manifest.json contains the SHA-256 of every file that was read.",
    )
    for title, source in subject.sources.items():
        if source.license_url:
            page.link(source.license_url, f"Licence of {title}")


def _add_balance(page: Page, table: pa.Table) -> None:
    labels = count_labels(table)
    if not labels:
        return
    shown = list(labels)[:SHOWN_LABELS]
    by_split = {name: count_labels(table.filter(pc.equal(table["split"], name))) for name in SPLITS}
    uncertain = [label for label in labels if by_split["test"].get(label, 0) < MIN_TEST_ROWS]
    caption = (
        f"The plot shows the {len(shown)} most frequent of {len(labels):,} labels. " if len(shown) < len(labels) else ""
    )
    caption += (
        f"{len(uncertain):,} of the {len(labels):,} labels have fewer than {MIN_TEST_ROWS} test rows, so their scores "
        "are uncertain."
        if uncertain
        else f"Every label has at least {MIN_TEST_ROWS} test rows."
    )
    page.figure(
        plot_class_balance(shown, {name: [by_split[name].get(label, 0) for label in shown] for name in SPLITS}),
        "Class balance",
        caption,
    )


def _add_lengths(page: Page, subject: Subject) -> None:
    sizes = subject.sizes
    table = subject.rows.table
    of_split = {name: np.asarray(pc.equal(table["split"], name)) for name in SPLITS}
    names = [f"p{percentile}" if percentile < 100 else "maximum" for percentile in PERCENTILES]
    lines = []
    for side, values in (("prompt", sizes.characters["user"]), ("answer", sizes.characters["assistant"])):
        if not values.any():
            continue
        for split in SPLITS:
            lines.append([side, split, *show_percentiles(values[of_split[split]])])
    lines += [["conversation", split, *show_percentiles(sizes.turns[of_split[split]])] for split in SPLITS]
    page.table(
        "Lengths per split",
        ["length of", "split", *names],
        lines,
        note="Prompts and answers in characters, conversations in turns; p95 is the 95th percentile.",
    )


def _add_languages(page: Page, subject: Subject) -> None:
    found = subject.languages
    if found is None:
        page.heading("Languages")
        stated = ", ".join(subject.settings.languages)
        page.text(
            (f"Stated by the owner: {stated}. " if stated else "")
            + "Not detected: lingua is not installed (pip install 'heptune[language]')."
        )
        return
    frequent = {code: count for code, count in found.counts.items() if count >= MIN_LANGUAGE_SHARE * found.classified}
    rare = {code: count for code, count in found.counts.items() if code not in frequent}
    shown = [[code, count, found.sample.show_share(count, found.classified)] for code, count in frequent.items()]
    if rare:
        count = sum(rare.values())
        named = ", ".join(list(rare)[:6]) + (", …" if len(rare) > 6 else "")
        shown.append([f"others ({named})", count, found.sample.show_share(count, found.classified)])
    short = f" {found.short:,} texts with fewer than {MIN_LETTERS} letters were not classified." if found.short else ""
    page.table(
        "Languages",
        ["language", "rows", "share"],
        shown,
        note=f"{found.sample.describe()} Detected by lingua from the first {MAX_CHARACTERS} characters of each "
        f"example.{short} Languages with less than {MIN_LANGUAGE_SHARE:.0%} of the rows may be errors of the detector.",
    )


def _add_topics(page: Page, subject: Subject) -> None:
    topics, sample = subject.topics, subject.sample
    if topics is None:
        page.heading("Topics")
        page.text("Not computed: there are too few different texts.")
        return
    names = [", ".join(topic.terms[:3]) or "no common terms" for topic in topics.topics]
    page.figure(
        plot_topics(names, [topic.size for topic in topics.topics]),
        "Topics",
        f"{len(topics.topics)} clusters of prompts by k-means on {subject.settings.embedder.title}. Their number "
        f"maximizes the mean silhouette, {topics.silhouette:.2f} (1: well separated, 0: overlapping). "
        f"{sample.describe()}",
    )
    labelled = any(topic.label for topic in topics.topics)
    page.table(
        "Topics in detail",
        ["terms", "rows", "share", *(["most frequent label"] if labelled else []), "examples near the centre"],
        [
            [
                ", ".join(topic.terms) or "–",
                topic.size,
                f"{topic.size / sample.table.num_rows:.1%}",
                *([f"{topic.label} ({topic.label_share:.0%})" if topic.label else "–"] if labelled else []),
                " ¶ ".join(topic.examples),
            ]
            for topic in topics.topics
        ],
    )


def _add_quality(page: Page, subject: Subject) -> None:
    sample = subject.sample
    flagged, any_rule = measure_quality(sample.table)
    page.table(
        "Quality",
        ["source of the rule", "reason", "rows", "share"],
        [
            *([each.family, each.rule, each.count, sample.show_share(each.count)] for each in flagged[:SHOWN_REASONS]),
            ["any rule", "", any_rule, sample.show_share(any_rule)],
        ],
        note=f"{sample.describe()} These are published rules for English text, used as a measurement only: no row was "
        "dropped by them. A high share is a reason to inspect the rows; lists, code and numbers are flagged too.",
    )


def _add_personal(page: Page, subject: Subject) -> None:
    step = next((step for step in subject.rows.steps if step.name == "pii"), None)
    if subject.pii is None or step is None:
        page.heading("Personal data")
        page.text(
            "Not searched for, as the cleaning has no step pii. In the examples of this card personal data was "
            "replaced by its kind."
        )
        return
    replacement = {
        "redact": "replaced by its kind",
        "replace": "replaced by synthetic values",
        "hash": "replaced by keyed hashes",
        "drop": "dropped with its row",
    }[subject.pii.mode]
    for listing in step.listings:
        page.table(
            "Personal data found",
            listing.columns,
            listing.rows,
            note=f"By {subject.pii.finder.name}; {replacement} before any output was written. {listing.note}".strip(),
        )


def _add_duplicates(page: Page, subject: Subject) -> None:
    counts: Counter[tuple[str, bool]] = Counter(
        zip(*(subject.rows.twins[name].to_pylist() for name in ("kind", "dropped")), strict=True)
    )
    page.table(
        "Duplicates and leakage",
        ["kind", "meaning", "rows dropped", "rows kept"],
        [
            [kind, meaning, counts[kind, True], counts[kind, False]]
            for kind, meaning in SIMILARITY_KINDS.items()
            if kind != "contamination" and counts[kind, True] + counts[kind, False]
        ],
        note="Similar rows that are kept are in the same split.",
    )
    page.link("clusters/index.html", "Clusters of duplicate and similar rows")


def _add_contamination(page: Page, subject: Subject) -> None:
    step = next((step for step in subject.rows.steps if step.name == "contamination"), None)
    if step is None or not step.listings:
        page.heading("Benchmark contamination")
        page.text("Not checked, as data_preparation.contamination names no benchmarks.")
        return
    for listing in step.listings:
        page.table(listing.heading, listing.columns, listing.rows, listing.note)


def _add_quarantine(page: Page, subject: Subject) -> None:
    rows = subject.rows
    read = rows.steps[0].rows_in
    add_waterfall(page, rows)
    reasons = [(step.name, reason, count) for step in rows.steps for reason, count in step.reasons.items()]
    rest = len(reasons) - SHOWN_REASONS
    page.table(
        "Dropped rows, by step and reason",
        ["step", "reason", "rows", "share of the rows read"],
        [[*each, f"{each[2] / read:.2%}"] for each in sorted(reasons, key=lambda each: -each[2])[:SHOWN_REASONS]],
        note="Every dropped row is in data/prepared/quarantine.parquet with its source and row number."
        + (f" {rest:,} rarer reasons are omitted." if rest > 0 else ""),
    )


def _add_examples(page: Page, subject: Subject) -> None:
    table = subject.sample.table.filter(pc.equal(subject.sample.table["split"], "train"))
    rows = table.take(pc.sort_indices(table["id"])).to_pylist()
    chosen: dict[Any, dict[str, Any]] = {}
    # Examples of different sources and labels are preferred.
    for key in (lambda row: row["source"], lambda row: (row["source"], row["label"]), lambda row: row["id"]):
        known = {key(row) for row in chosen.values()}
        for row in rows:
            if len(chosen) < SHOWN_EXAMPLES and key(row) not in known:
                known.add(key(row))
                chosen[row["id"]] = row
    for number, row in enumerate(chosen.values(), start=1):
        turns = [(turn["role"], _truncate(turn["content"])) for turn in row["messages"]]
        others = (row.get(ANSWERS) or {}).get("others") or []
        turns += [
            (f"{turn['role']}, another answer", _truncate(turn["content"]))
            for turn in (others or [{}])[0].get("turns", [])
        ]
        label = f", label {row['label']}" if row["label"] else ""
        page.conversation(turns, f"Example {number}: {row['source']}, row {row['row']}{label}")


def _add_limits(page: Page, subject: Subject) -> None:
    missing = [title for title, source in subject.sources.items() if not source.license]
    limits = list(subject.settings.limits)
    if missing:
        limits.append(f"No licence is stated for {', '.join(missing)}; clarify it before sharing the data.")
    if subject.pii is None:
        limits.append("The data were not searched for personal data.")
    elif subject.pii.finder.name == "patterns":
        limits.append(
            "Names, places and national ids were not removed, as the patterns find numbers and addresses only."
        )
    if subject.languages is None and not subject.settings.languages:
        limits.append("The languages are unknown.")
    if not any(step.name == "contamination" and step.listings for step in subject.rows.steps):
        limits.append("The data were not checked for items of public benchmarks.")
    if "toxicity" not in {step.name for step in subject.rows.steps}:
        limits.append("The data were not checked for toxic content.")
    if not subject.sample.complete:
        limits.append("Languages, topics and quality are estimates from a sample.")
    if subject.verdict.approved and subject.verdict.approval:
        approval = subject.verdict.approval
        limits.append(f"Critical checks of the gate failed and were approved by {approval.name}: {approval.reason}")
    limits += [
        f"Warning of the quality gate, {r.check.name}: {r.finding}; expected: {r.check.meaning}."
        for r in subject.verdict.warned
    ]
    page.listing(limits, "Known limits")


def _truncate(text: str) -> str:
    return text[:MAX_EXAMPLE_CHARACTERS] + ("…" if len(text) > MAX_EXAMPLE_CHARACTERS else "")
