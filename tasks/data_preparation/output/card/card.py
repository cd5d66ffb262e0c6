"""The data card: a description of the prepared data for their users.

The same content in two forms: ``card.md``, which data set hubs read as the ``README.md`` of a data set, and
``card.html``. Sizes are counted over all rows; language, topics and quality are measured on a sample, which the card
states.

Example:
    ``card: {title: Help desk 2026, summary: "Requests to our help desk, for an assistant that answers them."}``
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow.compute as pc

from tasks.contracts.manifest import write_bytes
from tasks.corpus.personal_data.pii import Pii
from tasks.corpus.rows.rows import Rows, read_prompts
from tasks.data_preparation.gate.gate import Verdict
from tasks.data_preparation.output.card.content import Licensed, Subject, compose, list_languages
from tasks.data_preparation.output.card.languages import detect_languages
from tasks.data_preparation.output.card.markdown import write_body, write_front
from tasks.data_preparation.output.card.params import Card
from tasks.data_preparation.output.card.sample import CardSample, count_shapes, draw_rows
from tasks.data_preparation.output.card.topics import find_topics
from tasks.data_preparation.output.sizes import measure_sizes
from tasks.data_preparation.splitting.methods.assignment import SPLITS

log = logging.getLogger(__name__)

# Shape of the rows to the task name of the hub; text generation applies to all.
TASKS = {
    "text_label": "text-classification",
    "question_answer": "question-answering",
    "squad": "question-answering",
    "multiple_choice": "multiple-choice",
}


class Named(Protocol):
    """A cleaning step."""

    @property
    def name(self) -> str: ...


def write_card(
    rows: Rows,
    verdict: Verdict,
    settings: Card,
    sources: Sequence[Licensed],
    cleaning: Sequence[Named],
    card: Path,
    page: Path,
) -> dict[str, int | float]:
    """Write the card in both forms, also when the gate failed, which it then states.

    Args:
        rows: Split rows.
        verdict: Verdict of the gate.
        settings: Title and description by the owner, and the size of the sample.
        sources: The sources in params, for their licences.
        cleaning: The cleaning steps in params.
        card: The Markdown file.
        page: The HTML file; the other pages of the stage are beside it.

    Returns:
        Figures: rows in the sample, topics and their silhouette, languages, sources without a licence.
    """
    subject = _measure(rows, verdict, settings, sources, cleaning)
    content = compose(subject)
    content.write(page)
    licenses = [source.license for source in subject.sources.values()]
    front = write_front(
        settings.title,
        licenses,
        list_languages(subject),
        sorted({"text-generation", *(TASKS[shape] for shape in subject.shapes if shape in TASKS)}),
        rows.table.num_rows,
        {split: f"{split}.parquet" for split in SPLITS},
    )
    write_bytes(card, f"{front}\n{write_body(content)}".encode())
    missing = [title for title, source in subject.sources.items() if not source.license]
    if missing:
        named = f"source {missing[0]} has" if len(missing) == 1 else f"sources {', '.join(missing)} have"
        log.warning("card: the %s no licence; set license in data_preparation.sources", named)
    return {
        "sample_rows": subject.sample.table.num_rows,
        "topics": len(subject.topics.topics) if subject.topics else 0,
        "silhouette": subject.topics.silhouette if subject.topics else 0.0,
        "languages": len(list_languages(subject)),
        "sources_without_licence": len(missing),
    }


def _measure(
    rows: Rows, verdict: Verdict, settings: Card, sources: Sequence[Licensed], cleaning: Sequence[Named]
) -> Subject:
    used = set(pc.unique(rows.table["source"]).to_pylist())
    pii = next((step for step in cleaning if isinstance(step, Pii)), None)
    sample = draw_rows(rows.table, settings.sample_rows)
    if pii is None:
        # No step removed personal data from these texts, and the card is published.
        sample = CardSample(Pii().clean(sample.table).table, sample.population)
    texts = read_prompts(sample.table)
    return Subject(
        rows,
        verdict,
        settings,
        {source.title or source.name: source for source in sources if (source.title or source.name) in used},
        pii,
        sample,
        measure_sizes(rows.table),
        count_shapes(rows),
        detect_languages(sample),
        find_topics(texts, sample.table["label"].to_pylist(), settings.embedder),
    )
