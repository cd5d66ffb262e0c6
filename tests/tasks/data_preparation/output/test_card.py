"""The data card: its figures agree with the rows, it is the same twice, and it shows no personal data."""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.rows.rows import ROWS, Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.gate.gate import Verdict, check_quality
from tasks.data_preparation.output.card.card import write_card
from tasks.data_preparation.output.card.heuristics import measure_quality
from tasks.data_preparation.output.card.languages import detect_languages
from tasks.data_preparation.output.card.markdown import escape, name_size, write_body, write_front
from tasks.data_preparation.output.card.params import Card
from tasks.data_preparation.output.card.sample import CardSample, draw_rows, find_interval
from tasks.data_preparation.output.card.topics import find_topics
from tasks.data_preparation.output.sizes import measure_sizes, show_percentiles
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.split import split_examples
from tasks.pages.page import Page
from tasks.sample_shop.sample import generate_sample

COUNT, SEED = 800, 11
WORDS = [a + b for a in ("ka", "lo", "mi", "tu", "ve", "zy") for b in ("ra", "sol", "ten", "wick", "dun")]


def prepare(settings: DataPreparation, root: Path) -> tuple[Rows, Verdict]:
    rows = clean_rows(read_sources(settings.sources, settings.on_bad_row, root), settings.cleaning)
    rows = split_examples(remove_duplicates(rows, settings.duplicates), settings.split, settings.duplicates)
    return rows, check_quality(rows, settings.gate, settings.duplicates, settings.split, root / "data_docs")


def write(settings: DataPreparation, rows: Rows, verdict: Verdict, folder: Path) -> tuple[dict[str, Any], str, str]:
    card, page = folder / "card.md", folder / "card.html"
    figures = write_card(rows, verdict, settings.card, settings.sources, settings.cleaning, card, page)
    return figures, card.read_text(), page.read_text()


@cache
def shop() -> tuple[DataPreparation, Rows, Verdict]:
    import tempfile

    settings = DataPreparation(sources=(Sample(rows=COUNT, seed=SEED, title="shop"),), card=Card(sample_rows=400))
    with tempfile.TemporaryDirectory() as folder:
        return settings, *prepare(settings, Path(folder))


def chat(*rows: tuple[str, str], label: str | None = None) -> pa.Table:
    """Rows of prompt and answer, or of an answer alone."""
    return pa.table(
        {
            "source": ["x"] * len(rows),
            "file": [""] * len(rows),
            "row": list(range(1, len(rows) + 1)),
            "label": pa.array([label] * len(rows), pa.string()),
            "messages": [
                [
                    *([{"role": "user", "content": prompt}] if prompt else []),
                    {"role": "assistant", "content": answer},
                ]
                for prompt, answer in rows
            ],
        },
        schema=ROWS,
    )


def add_ids(table: pa.Table) -> pa.Table:
    return table.append_column("id", pa.array([f"{7 * row % 1000:016x}" for row in range(table.num_rows)]))


def find_row(card: str, start: str) -> list[str]:
    line = next(line for line in card.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_card_is_the_same_twice_and_agrees_with_the_rows(tmp_path: Path) -> None:
    settings, rows, verdict = shop()
    figures, card, page = write(settings, rows, verdict, tmp_path / "a")
    assert write(settings, rows, verdict, tmp_path / "b") == (figures, card, page)
    counts = dict.fromkeys(("train", "validation", "test"), 0)
    for split in rows.table["split"].to_pylist():
        counts[split] += 1
    for split, count in counts.items():
        assert find_row(card, split)[1] == f"{count:,}"
    assert find_row(card, "examples")[1] == f"{rows.table.num_rows:,}"
    assert find_row(card, "shop")[3] == "Apache-2.0"
    pii = next(step for step in rows.steps if step.name == "pii")
    for kind, found, in_rows in pii.listings[0].rows:
        assert find_row(card, str(kind)) == [kind, str(found), str(in_rows)]
    dropped = next(step for step in rows.steps if step.name == "near duplicates")
    assert find_row(card, "near")[2] == str(sum(dropped.reasons.values()))
    assert figures["sample_rows"] == 400
    assert figures["topics"] >= 3
    for section in ("Sizes", "Sources and licences", "Splits", "Lengths", "Languages", "Topics", "Quality"):
        assert f"\n## {section}\n" in card
        assert f"<h2>{section}</h2>" in page
    assert page.count("<script") == 2  # those of the header
    assert 'src="http' not in page


def test_the_front_matter_is_what_hubs_read(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    settings, rows, verdict = shop()
    _, card, _ = write(settings, rows, verdict, tmp_path)
    data = DatasetCard(card).data
    assert data.license == "apache-2.0"
    assert data.size_categories == "n<1K"
    assert data.task_categories == ["text-generation"]
    assert [file["path"] for file in data.configs[0]["data_files"]] == [
        "train.parquet",
        "validation.parquet",
        "test.parquet",
    ]


def test_licences_are_named_as_stated() -> None:
    from huggingface_hub import DatasetCardData

    front = write_front("a: b", ["MIT", "Our own terms", ""], ["en"], ["text-generation"], 12_345, {"train": "t"})
    import yaml

    data = DatasetCardData(**yaml.safe_load(front.strip().strip("-")))
    assert data.license == ["mit", "other", "unknown"]
    assert data.license_name == "Our own terms"
    assert data.pretty_name == "a: b"
    assert data.size_categories == "10K<n<100K"
    assert [name_size(n) for n in (999, 1_000, 999_999, 10**7, 10**9)] == [
        "n<1K",
        "1K<n<10K",
        "100K<n<1M",
        "10M<n<100M",
        "n>1B",
    ]


def make_source(root: Path, texts: list[str], **params: Any) -> DataPreparation:
    rows = [{"question": f"{text}?", "answer": f"{text[::-1]}."} for text in texts]
    (root / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = Jsonl(path="x.jsonl", title="mine", **params)
    return DataPreparation.model_validate({"sources": [source], "gate": {"min_rows": 10}, "cleaning": [Missing()]})


def say(number: int) -> str:
    return " ".join(WORDS[(place * number + number // 30) % 30] for place in range(1, 8))


def test_what_is_not_stated_or_not_done_is_said_and_warned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = make_source(tmp_path, [f"{say(i)} ann{i}@example.org" for i in range(120)])
    rows, verdict = prepare(settings, tmp_path)
    with caplog.at_level(logging.WARNING):
        figures, card, page = write(settings, rows, verdict, tmp_path)
    assert figures["sources_without_licence"] == 1
    assert "the source mine has no licence" in caplog.text
    assert "license: unknown" in card
    assert find_row(card, "mine")[3] == "not stated"
    assert "No licence is stated for mine" in card
    assert "The data were not searched for personal data." in card
    assert "names no benchmarks" in card
    # The rows themselves hold it, since nobody asked for it to be taken out.
    assert "@example.org" in str(rows.table["messages"].to_pylist())
    assert "@example.org" not in card + page


def test_what_is_stated_is_shown(tmp_path: Path) -> None:
    where = "https://example.org/licence"
    settings = make_source(
        tmp_path, [say(i) for i in range(120)], license="CC-BY-4.0", license_url=where, origin="our wiki"
    )
    settings = settings.model_copy(
        update={"card": Card(title="Wiki", summary="For tests.", limits=("Old.",), languages=("de",))}
    )
    rows, verdict = prepare(settings, tmp_path)
    figures, card, page = write(settings, rows, verdict, tmp_path)
    assert figures["sources_without_licence"] == 0
    assert find_row(card, "mine")[1:4] == ["our wiki", "questions with answers", "CC-BY-4.0"]
    assert f"[Licence of mine]({where})" in card
    assert f'href="{where}"' in page
    assert "language:\n- de\n" in card
    assert "\n# Wiki\n" in card
    assert "\nFor tests.\n" in card
    assert "\n* Old.\n" in card
    with pytest.raises(ValidationError, match="license_url"):
        Jsonl(path="x", license_url="javascript:alert(1)")


def test_planted_personal_data_is_not_on_the_card(tmp_path: Path) -> None:
    settings, rows, verdict = shop()
    _, card, page = write(settings, rows, verdict, tmp_path)
    known = generate_sample(COUNT, SEED).truth
    planted = [known.detail[row].partition(":")[2] for row in known.dirt["pii"]]
    assert len(planted) == 20
    assert [value for value in planted if value in card + page] == []


def test_repeated_training_rows_are_said(tmp_path: Path) -> None:
    settings = make_source(tmp_path, [say(i) for i in range(120)], weight=2.0)
    rows, verdict = prepare(settings, tmp_path)
    train = rows.table["split"].to_pylist().count("train")
    assert f"train.parquet contains {2 * train:,} rows" in write(settings, rows, verdict, tmp_path)[1]


def test_sizes_are_those_of_the_texts() -> None:
    sizes = measure_sizes(chat(("one two", "drei vier fünf"), ("", "  six  ")))
    assert sizes.turns.tolist() == [2, 1]
    assert sizes.words["user"].tolist() == [2, 0]
    assert sizes.words["assistant"].tolist() == [3, 1]
    assert sizes.characters["assistant"].tolist() == [14, 7]
    assert sizes.bytes.tolist() == [7 + 15, 7]
    assert show_percentiles(np.arange(1, 101)) == [5, 25, 50, 75, 95, 99, 100]
    assert show_percentiles(np.array([], dtype=np.int64)) == [0] * 7


def test_the_sample_is_chosen_by_content() -> None:
    table = add_ids(chat(*((say(i), "yes") for i in range(300))))
    drawn = draw_rows(table, 50)
    assert drawn.table.num_rows == 50
    assert max(drawn.table["id"].to_pylist()) == sorted(table["id"].to_pylist())[49]
    backwards = draw_rows(table.take(pa.array(range(299, -1, -1))), 50)
    assert set(backwards.table["id"].to_pylist()) == set(drawn.table["id"].to_pylist())
    assert drawn.show_share(5) == "10.0% (4.3% to 21.4%)"
    assert draw_rows(table, 300).show_share(30) == "10.0%"
    low, high = find_interval(10, 100)
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)
    assert find_interval(0, 20)[0] == 0.0


def test_planted_topics_are_found() -> None:
    about = {
        "garden": ["rose", "tulip", "soil", "seed", "spade", "hedge", "lawn", "compost"],
        "kitchen": ["oven", "pan", "flour", "butter", "recipe", "whisk", "spoon", "dough"],
        "travel": ["train", "ticket", "hotel", "luggage", "airport", "border", "visa", "flight"],
    }
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for i in range(300):
        name = list(about)[i % 3]
        texts.append(" ".join(rng.choice(about[name], 5, replace=False)) + f" the {i}")
        labels.append(name)
    topics = find_topics(texts, labels)
    assert topics is not None
    assert len(topics.topics) == 3
    for topic in topics.topics:
        assert topic.label is not None
        assert topic.label_share == 1.0
        assert set(topic.terms) <= set(about[topic.label])
        assert len(topic.examples) == 2
    assert sum(topic.size for topic in topics.topics) == 300
    assert find_topics(texts, labels) == topics


def test_too_few_texts_have_no_topics() -> None:
    assert find_topics([], []) is None
    assert find_topics(["the same text"] * 100, [None] * 100) is None
    assert find_topics(["", "123", "!?"] * 50, [None] * 150) is None


def test_languages_are_told() -> None:
    pytest.importorskip("lingua", reason="needs the extra language")
    german = "Ich möchte wissen, wann meine Bestellung endlich ankommt und wer sie bringt."
    english = "I would like to know when my order will finally arrive and who brings it."
    table = add_ids(chat(*([(german, "ja")] * 30), *([(english, "yes")] * 60), *([("Hm", "ok")] * 10)))
    found = detect_languages(CardSample(table, table.num_rows))
    assert found is not None
    assert found.counts == {"en": 60, "de": 30}
    assert (found.classified, found.short) == (90, 10)


def test_quality_is_measured_and_nothing_dropped() -> None:
    loop = "please try again " * 30
    table = chat(
        ("Where is my order now", "It is on its way."),
        ("Where is my order now", "where is my order NOW?"),
        ("Say it", loop),
        ("Tell me a secret", "I'm sorry, but as an AI language model I cannot help with that."),
        ("", "Too short for a document."),
        ("How do I greet", "Hello {{Name}}, write it so."),
    )
    flagged, rows = measure_quality(table)
    found = {(each.family, each.rule): each.count for each in flagged}
    assert found[("Answers", "answer repeats the question")] == 1
    assert found[("Answers", "answer refuses")] == 1
    assert found[("Prose (Gopher)", "fewer than 50 words")] == 1
    assert found[("Web text (C4)", "curly bracket")] == 1
    assert sum(count for (family, _), count in found.items() if family == "Repetition (Gopher)") == 1
    assert rows == 5


def test_markdown_shows_texts_as_they_are() -> None:
    page = Page("A | B", "1 < 2 and *no* _emphasis_, snake_case [x](y)")
    page.table("T", ["name", "n"], [["a|b\nc", 1], ["<b>", 22]], note="Done.")
    page.table("Empty", ["name"], [])
    page.conversation([("user", "# no heading\n\n<script>")], "Example")
    page.listing(["one", "two"], "L")
    page.link("x.html", "there")
    assert write_body(page).splitlines() == [
        "# A \\| B",
        "",
        "1 \\< 2 and \\*no\\* \\_emphasis\\_, snake_case \\[x](y)",
        "",
        "## T",
        "",
        "| name | n |",
        "| --- | ---: |",
        "| a\\|b c | 1 |",
        "| \\<b> | 22 |",
        "",
        "Done.",
        "",
        "## Empty",
        "",
        "None.",
        "",
        "## Example",
        "",
        "    user: # no heading",
        "",
        "    <script>",
        "",
        "## L",
        "",
        "* one",
        "* two",
        "",
        "[there](x.html)",
    ]
    assert escape("a\n  b") == "a b"
