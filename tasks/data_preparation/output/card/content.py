"""What the card says, section by section, once for both of its forms."""

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
from tasks.data_preparation.gate.gate import Verdict
from tasks.data_preparation.output.card.heuristics import measure_quality
from tasks.data_preparation.output.card.languages import CHARACTERS, SHORTEST, Languages
from tasks.data_preparation.output.card.sample import Drawn
from tasks.data_preparation.output.card.topics import Topics
from tasks.data_preparation.output.plots import plot_class_balance, plot_topics
from tasks.data_preparation.output.sections import add_lengths, add_splits, add_waterfall, count_labels, start_page
from tasks.data_preparation.output.sizes import BYTES_PER_TOKEN, PERCENTILES, Sizes, count_values, show_percentiles
from tasks.data_preparation.splitting.split import SPLITS
from tasks.data_preparation.trainset.augmentation.augment import AUGMENTATION
from tasks.pages.page import Page

if TYPE_CHECKING:
    from tasks.data_preparation.output.card.params import Card

NOT_STATED = "not stated"
SHOWN_REASONS = 20
SHOWN_LABELS = 20
SHOWN_EXAMPLES = 3
LONGEST_EXAMPLE = 1_200
# A language of fewer rows of the sample is likelier a mistake of the detector than one of the data's.
RARE_LANGUAGE = 0.02
FEW_TESTS = 10

KINDS = {
    "messages": "dialogues",
    "sharegpt": "dialogues",
    "alpaca": "instructions with answers",
    "prompt_completion": "prompts with completions",
    "question_answer": "questions with answers",
    "text_label": "texts with a label",
    "plain_text": "plain texts",
    "preference": "prompts with a better and a worse answer",
    "preference_implicit": "dialogues with a better and a worse ending",
    "kto": "prompts with an answer marked good or bad",
    "ranked": "prompts with ranked answers",
    "squad": "questions about a passage",
    "multiple_choice": "questions with choices",
    AUGMENTATION: "variants of them",
}
TWINS = {
    "exact": "the same text",
    "near": "nearly the same text",
    "semantic": "the same meaning",
    "across splits": "alike, in different splits",
    "alike": "alike, in one split",
    "contamination": "holds an item of a benchmark",
    "augmented": "made from another row",
}


class Licensed(Protocol):
    """What the card asks of a source."""

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
    """What the card is about.

    Attributes:
        rows: At the end of the stage.
        verdict: Of the gate.
        settings: Of the card.
        sources: Title to source, of those that gave rows.
        pii: The step that took personal data out, if one did.
        drawn: The sample; its texts hold no personal data that the patterns find.
        sizes: Of all rows.
        shapes: Shape to rows.
        languages: Of the sample; None where lingua is missing.
        topics: Of the sample; None where it is too small.
    """

    rows: Rows
    verdict: Verdict
    settings: Card
    sources: dict[str, Licensed]
    pii: Pii | None
    drawn: Drawn
    sizes: Sizes
    shapes: dict[str, int]
    languages: Languages | None
    topics: Topics | None


def list_languages(subject: Subject) -> list[str]:
    """The languages as stated, else those of more than a few rows."""
    if subject.settings.languages:
        return list(subject.settings.languages)
    found = subject.languages
    if found is None:
        return []
    return [code for code, count in found.counts.items() if code != "unclear" and count >= RARE_LANGUAGE * found.judged]


def compose(subject: Subject) -> Page:
    """The whole card."""
    rows, verdict = subject.rows, subject.verdict
    words = sum(int(values.sum()) for values in subject.sizes.words.values())
    kinds = [f"{KINDS.get(shape, shape)} ({count:,})" for shape, count in subject.shapes.items()]
    page = start_page(
        subject.settings.title,
        f"Data card: {rows.table.num_rows:,} examples for fine-tuning, made from {', '.join(kinds)}.",
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
    _add_what(page, subject)
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
    page.link("index.html", "How the data was prepared, step by step")
    page.link("data_docs/index.html", "What the quality gate expects, and what it found")
    return page


def _add_what(page: Page, subject: Subject) -> None:
    sizes, table = subject.sizes, subject.rows.table
    page.heading("What it is")
    page.text(
        subject.settings.summary
        or "The owner has not described this data; data_preparation.card.summary is the place to say what it is for."
    )
    several = sum(count_answers(table).values())
    plain = int(find_plain(column_messages(table)).sum())
    users = int((sizes.characters["user"] > 0).sum())
    characters = sum(int(values.sum()) for values in sizes.characters.values())
    size = int(sizes.bytes.sum())
    learned = int(sizes.words["assistant"].sum())
    values: list[tuple[str, int]] = [
        ("examples", table.num_rows),
        ("with a prompt", users),
        ("of more than one exchange", int((sizes.asked > 1).sum())),
        ("with a system text", int((sizes.characters["system"] > 0).sum())),
        ("plain text without a prompt", plain),
        ("with several or marked answers", several),
        ("turns", int(sizes.turns.sum())),
        ("words", sum(int(count.sum()) for count in sizes.words.values())),
        ("words that are learned (answers)", learned),
        ("characters", characters),
        ("bytes of text (UTF-8)", size),
        ("tokens, roughly", size // BYTES_PER_TOKEN),
    ]
    page.table(
        "Sizes",
        ["", "number"],
        [[name, value] for name, value in values if value],
        note="Words are what stands between spaces, and in scripts without spaces the characters. Tokens are estimated "
        f"at {BYTES_PER_TOKEN} bytes each; the training plan counts them with the model's own tokenizer.",
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
                KINDS.get((origin.shape or "").split(" ")[0], origin.shape or "–"),
                (source.license or NOT_STATED) if source else "that of its rows",
                origin.rows,
                used[origin.title],
                f"{used[origin.title] / subject.rows.table.num_rows:.1%}",
            ]
        )
    page.table(
        "Sources and licences",
        ["source", "origin", "kind of rows", "licence", "rows read", "examples", "share"],
        shown,
        note="data/prepared/manifest.json holds the SHA-256 of every file that was read.",
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
    few = [label for label in labels if by_split["test"].get(label, 0) < FEW_TESTS]
    caption = f"The {len(shown)} most frequent of {len(labels):,} labels. " if len(shown) < len(labels) else ""
    caption += (
        f"{len(few):,} of {len(labels):,} labels have fewer than {FEW_TESTS} test rows: their scores are uncertain."
        if few
        else f"Every label has {FEW_TESTS} test rows or more."
    )
    page.figure(
        plot_class_balance(shown, {name: [by_split[name].get(label, 0) for label in shown] for name in SPLITS}),
        "Balance of the labels",
        caption,
    )


def _add_lengths(page: Page, subject: Subject) -> None:
    sizes = subject.sizes
    table = subject.rows.table
    of_split = {name: np.asarray(pc.equal(table["split"], name)) for name in SPLITS}
    names = [f"{percentile}%" if percentile < 100 else "longest" for percentile in PERCENTILES]
    lines = []
    for what, values in (("prompt", sizes.characters["user"]), ("answer", sizes.characters["assistant"])):
        if not values.any():
            continue
        for split in SPLITS:
            lines.append([what, split, *show_percentiles(values[of_split[split]])])
    lines += [["turns", split, *show_percentiles(sizes.turns[of_split[split]])] for split in SPLITS]
    page.table(
        "Lengths per split",
        ["of", "split", *names],
        lines,
        note="Characters of all prompts, and of all answers, of an example; and its number of turns. 95%: so many of "
        "the examples are at most that long.",
    )


def _add_languages(page: Page, subject: Subject) -> None:
    found = subject.languages
    if found is None:
        page.heading("Languages")
        stated = ", ".join(subject.settings.languages)
        page.text(
            (f"As stated by the owner: {stated}. " if stated else "")
            + "Not measured: lingua is not installed (pip install 'heptune[language]')."
        )
        return
    usual = {code: count for code, count in found.counts.items() if count >= RARE_LANGUAGE * found.judged}
    rare = {code: count for code, count in found.counts.items() if code not in usual}
    shown = [[code, count, found.drawn.show_share(count, found.judged)] for code, count in usual.items()]
    if rare:
        count = sum(rare.values())
        named = ", ".join(list(rare)[:6]) + (", …" if len(rare) > 6 else "")
        shown.append([f"others ({named})", count, found.drawn.show_share(count, found.judged)])
    short = f" Not judged: {found.short:,} with fewer than {SHORTEST} letters." if found.short else ""
    page.table(
        "Languages",
        ["language", "rows", "share"],
        shown,
        note=f"{found.drawn.name()} Told by lingua from the first {CHARACTERS} characters of prompt and answer.{short} "
        f"Languages of fewer than {RARE_LANGUAGE:.0%} of the rows may be mistakes of the detector.",
    )


def _add_topics(page: Page, subject: Subject) -> None:
    topics, drawn = subject.topics, subject.drawn
    if topics is None:
        page.heading("Topics")
        page.text("Not clustered: there are too few different texts.")
        return
    names = [", ".join(topic.terms[:3]) or "no common word" for topic in topics.topics]
    page.figure(
        plot_topics(names, [topic.size for topic in topics.topics]),
        "Topics",
        f"{len(topics.topics)} clusters of prompts by k-means on {subject.settings.embedder.title}; their number has "
        f"the best mean silhouette of those tried, {topics.silhouette:.2f} (1: far apart, 0: they run into one "
        "another). "
        f"{drawn.name()}",
    )
    labelled = any(topic.label for topic in topics.topics)
    page.table(
        "Topics in detail",
        ["telling terms", "rows", "share", *(["most frequent label"] if labelled else []), "two typical rows"],
        [
            [
                ", ".join(topic.terms) or "–",
                topic.size,
                f"{topic.size / drawn.table.num_rows:.1%}",
                *([f"{topic.label} ({topic.label_share:.0%})" if topic.label else "–"] if labelled else []),
                " ¶ ".join(topic.examples),
            ]
            for topic in topics.topics
        ],
    )


def _add_quality(page: Page, subject: Subject) -> None:
    drawn = subject.drawn
    flagged, any_rule = measure_quality(drawn.table)
    page.table(
        "Quality",
        ["rule", "would flag", "rows", "share"],
        [
            *([each.family, each.rule, each.count, drawn.show_share(each.count)] for each in flagged[:SHOWN_REASONS]),
            ["any of them", "", any_rule, drawn.show_share(any_rule)],
        ],
        note=f"{drawn.name()} Published rules, made for English, used to measure: no row was dropped for them here. "
        "A share is a reason to look, no verdict: lists, code and numbers break them too.",
    )


def _add_personal(page: Page, subject: Subject) -> None:
    step = next((step for step in subject.rows.steps if step.name == "pii"), None)
    if subject.pii is None or step is None:
        page.heading("Personal data")
        page.text(
            "Not looked for: the cleaning has no step pii. In this card's own examples it was replaced by its kind."
        )
        return
    became = {
        "redact": "replaced by its kind",
        "replace": "replaced by made-up values",
        "hash": "replaced by keyed hashes",
        "drop": "dropped with its row",
    }[subject.pii.mode]
    for listing in step.listings:
        page.table(
            "Personal data found",
            listing.columns,
            listing.rows,
            note=f"By {subject.pii.finder.name}; {became} before anything was written. {listing.note}".strip(),
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
            for kind, meaning in TWINS.items()
            if kind != "contamination" and counts[kind, True] + counts[kind, False]
        ],
        note="Rows kept although they are like another one stand in the same split as it.",
    )
    page.link("clusters/index.html", "Which row is like which")


def _add_contamination(page: Page, subject: Subject) -> None:
    step = next((step for step in subject.rows.steps if step.name == "contamination"), None)
    if step is None or not step.listings:
        page.heading("Contamination by benchmarks")
        page.text("Not looked for: data_preparation.contamination names no benchmark.")
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
        "Set aside, by step and reason",
        ["step", "reason", "rows", "share of the rows read"],
        [[*each, f"{each[2] / read:.2%}"] for each in sorted(reasons, key=lambda each: -each[2])[:SHOWN_REASONS]],
        note="Every one of them is in data/prepared/quarantine.parquet with its source and row."
        + (f" {rest:,} rarer reasons are not shown." if rest > 0 else ""),
    )


def _add_examples(page: Page, subject: Subject) -> None:
    table = subject.drawn.table.filter(pc.equal(subject.drawn.table["split"], "train"))
    rows = table.take(pc.sort_indices(table["id"])).to_pylist()
    chosen: dict[Any, dict[str, Any]] = {}
    # Of different sources and labels, as far as there are any.
    for key in (lambda row: row["source"], lambda row: (row["source"], row["label"]), lambda row: row["id"]):
        known = {key(row) for row in chosen.values()}
        for row in rows:
            if len(chosen) < SHOWN_EXAMPLES and key(row) not in known:
                known.add(key(row))
                chosen[row["id"]] = row
    for number, row in enumerate(chosen.values(), start=1):
        turns = [(turn["role"], _cut(turn["content"])) for turn in row["messages"]]
        others = (row.get(ANSWERS) or {}).get("others") or []
        turns += [
            (f"{turn['role']}, another answer", _cut(turn["content"])) for turn in (others or [{}])[0].get("turns", [])
        ]
        label = f", label {row['label']}" if row["label"] else ""
        page.conversation(turns, f"Example {number}: {row['source']}, row {row['row']}{label}")


def _add_limits(page: Page, subject: Subject) -> None:
    missing = [title for title, source in subject.sources.items() if not source.license]
    limits = list(subject.settings.limits)
    if missing:
        limits.append(f"No licence is stated for {', '.join(missing)}: find out before you pass the data on.")
    if subject.pii is None:
        limits.append("Personal data was not looked for.")
    elif subject.pii.finder.name == "patterns":
        limits.append("Names, places and national ids were not looked for: patterns find numbers and addresses only.")
    if subject.languages is None and not subject.settings.languages:
        limits.append("The languages are not known.")
    if not any(step.name == "contamination" and step.listings for step in subject.rows.steps):
        limits.append("Nobody checked whether items of public benchmarks are in it.")
    if "toxicity" not in {step.name for step in subject.rows.steps}:
        limits.append("Toxic content was not looked for.")
    if not subject.drawn.whole:
        limits.append("Languages, topics and quality are estimates from a sample.")
    if subject.verdict.approved and subject.verdict.approval:
        approval = subject.verdict.approval
        limits.append(f"Critical checks of the gate failed; {approval.name} approved them: {approval.reason}")
    limits += [f"The gate warns: {r.check.name}, {r.finding}." for r in subject.verdict.warned]
    page.listing(limits, "Known limits")


def _cut(text: str) -> str:
    return text[:LONGEST_EXAMPLE] + ("…" if len(text) > LONGEST_EXAMPLE else "")
