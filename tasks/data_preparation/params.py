"""Section ``data_preparation`` of ``params.yaml``; the unions are the registries of sources and cleaning steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.corpus.engines import AnyEngine
from tasks.corpus.engines.local import LocalEngine
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.personal_data.pii import Pii
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.hugging_face import HuggingFace
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.reading.sources.sql import Sql
from tasks.corpus.reading.sources.text import Text
from tasks.corpus.reading.sources.weak import Weak
from tasks.corpus.reading.sources.web import Web
from tasks.data_preparation.cleaning.steps.c4 import C4
from tasks.data_preparation.cleaning.steps.chunk import Chunk
from tasks.data_preparation.cleaning.steps.controls import Controls
from tasks.data_preparation.cleaning.steps.echo import Echo
from tasks.data_preparation.cleaning.steps.html import Html
from tasks.data_preparation.cleaning.steps.labels import Labels
from tasks.data_preparation.cleaning.steps.language import Language
from tasks.data_preparation.cleaning.steps.length import Length
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.cleaning.steps.quality import Quality
from tasks.data_preparation.cleaning.steps.refusals import Refusals
from tasks.data_preparation.cleaning.steps.repetition import Repetition
from tasks.data_preparation.cleaning.steps.template import Template
from tasks.data_preparation.cleaning.steps.tokens import Tokens
from tasks.data_preparation.cleaning.steps.toxicity import Toxicity
from tasks.data_preparation.cleaning.steps.unicode import Unicode
from tasks.data_preparation.cleaning.steps.whitespace import Whitespace
from tasks.data_preparation.gate.params import Gate
from tasks.data_preparation.output.card.params import Card
from tasks.data_preparation.screening.params import Contamination, Duplicates, Triggers
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.trainset.augmentation.params import Augmentation
from tasks.data_preparation.trainset.balancing.params import Balancing
from tasks.data_preparation.trainset.pruning.params import Pruning

AnySource = Annotated[
    Sample | Jsonl | Csv | Parquet | HuggingFace | Text | Sql | Web | Weak, Field(discriminator="name")
]
AnyCleaner = Annotated[
    Unicode
    | Controls
    | Html
    | Whitespace
    | Pii
    | Chunk
    | Missing
    | Length
    | Tokens
    | Repetition
    | Quality
    | C4
    | Language
    | Toxicity
    | Echo
    | Refusals
    | Template
    | Labels,
    Field(discriminator="name"),
]

FEEDBACK = "data/raw/feedback/*.jsonl"


class DataPreparation(Section):
    """How the splits train, validation and test are made from the sources."""

    sources: tuple[AnySource, ...] = Field(
        default=(Sample(title="sample"), Jsonl(path=FEEDBACK, title="feedback", optional=True)),
        min_length=1,
        description="where rows come from; of two duplicates the row of the earlier source is kept",
    )
    on_bad_row: Literal["quarantine", "stop"] = Field(
        default="quarantine", description="what happens to a row that cannot be read"
    )
    cleaning: tuple[AnyCleaner, ...] = Field(
        default=(Unicode(), Controls(), Html(), Whitespace(), Pii(), Missing(), Length(), Labels()),
        description="cleaning steps, in order",
    )
    duplicates: Duplicates = Duplicates()
    noise: Noise | None = Field(default=None, description="detection of label noise, after the duplicates; null: off")
    contamination: Contamination = Contamination()
    triggers: Triggers | None = Field(default=Triggers(), description="detection of trigger phrases; null: off")
    split: Split = Split()
    pruning: Pruning = Pruning()
    augmentation: Augmentation = Augmentation()
    balancing: Balancing = Balancing()
    gate: Gate = Gate()
    card: Card = Card()
    engine: AnyEngine = Field(default=LocalEngine(), description="where the steps on single rows run")

    @model_validator(mode="after")
    def _titles_differ(self) -> DataPreparation:
        titles = [source.title or source.name for source in self.sources]
        repeated = sorted({title for title in titles if titles.count(title) > 1})
        if repeated:
            raise ValueError(f"several sources are called {', '.join(repeated)}; give each a title of its own")
        return self

    @model_validator(mode="after")
    def _personal_data_is_visible_to_pii(self) -> DataPreparation:
        names = [step.name for step in self.cleaning]
        after_pii = names[len(names) - names[::-1].index("pii") :] if "pii" in names else []
        late = [name for name in after_pii if name in ("unicode", "controls", "html", "whitespace")]
        if late:
            raise ValueError(
                f"cleaning has {', '.join(late)} after pii, which may reveal personal data; move pii after them"
            )
        return self

    @model_validator(mode="after")
    def _chunks_whole_texts(self) -> DataPreparation:
        names = [step.name for step in self.cleaning]
        if "chunk" not in names:
            return self
        place = names.index("chunk")
        whole = ("unicode", "controls", "html", "whitespace", "pii", "chunk")
        late = [name for name in names[place + 1 :] if name in whole]
        early = [name for name in names[:place] if name in ("length", "tokens")]
        if late:
            raise ValueError(f"cleaning has {', '.join(late)} after chunk, but needs whole texts; move chunk after it")
        if early:
            raise ValueError(
                f"cleaning has {', '.join(early)} before chunk, which would drop long texts; move chunk before it"
            )
        return self

    @model_validator(mode="after")
    def _drops_the_missing(self) -> DataPreparation:
        if not any(isinstance(step, Missing) for step in self.cleaning):
            raise ValueError("cleaning must include the step missing: rows without an answer cannot be trained on")
        return self
