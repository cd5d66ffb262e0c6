"""Answers marked as not to be learned, from a JSON Lines file to the tokens trained and the items asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest, seal
from tasks.contracts.records import EXAMPLES, UNTRAINED, Example, content_id
from tasks.contracts.tables import read_examples
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.cleaning.steps.c4 import C4
from tasks.data_preparation.cleaning.steps.echo import Echo
from tasks.data_preparation.cleaning.steps.language import Language
from tasks.data_preparation.cleaning.steps.quality import Quality
from tasks.data_preparation.cleaning.steps.refusals import Refusals
from tasks.data_preparation.cleaning.steps.repetition import Repetition
from tasks.data_preparation.cleaning.steps.template import Template
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.gate.params import Gate
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.output.sizes import measure_sizes
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import drop_exact_duplicates, remove_duplicates
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import split_examples
from tasks.data_preparation.trainset.augmentation.augment import augment_train
from tasks.data_preparation.trainset.augmentation.characters import Characters
from tasks.data_preparation.trainset.augmentation.params import Augmentation
from tasks.data_preparation.trainset.balancing.balance import balance_train
from tasks.data_preparation.trainset.balancing.oversample import Oversample
from tasks.data_preparation.trainset.balancing.params import Balancing
from tasks.evaluation.items import select_items
from tasks.language_models.encoding import IGNORED, encode_examples

SYLLABLES = [a + b for a in ("ka", "lo", "mi", "tu", "ve") for b in ("ra", "sol", "ten", "wick", "dun")]
SPLITS = ("train", "validation", "test")
ROWS = 120


def say(number: int) -> str:
    return " ".join(SYLLABLES[(place * number + number // 25) % 25] for place in range(1, 9))


def turn(role: str, content: str, **mark: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **mark}


def make_row(number: int, **mark: Any) -> dict[str, Any]:
    """Two questions with an answer each, the first of them marked, and a turn that no answer follows."""
    return {
        "messages": [
            turn("user", f"First {say(number)}?"),
            turn("assistant", f"Draft {say(number + 1)}.", **mark),
            turn("user", f"Second {say(number + 2)}?"),
            turn("assistant", f"Final {say(number + 3)}."),
            turn("user", "Thanks."),
        ],
        "label": "rare" if number % 5 == 0 else "usual",
    }


def read(rows: list[dict[str, Any]], root: Path) -> Rows:
    root.mkdir(parents=True, exist_ok=True)
    (root / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return read_sources([Jsonl(path="x.jsonl", title="x", label="label")], "quarantine", root)


def prepare(rows: list[dict[str, Any]], root: Path) -> Rows:
    """Stage 1 with augmentation and balancing."""
    settings = DataPreparation(gate=Gate(min_rows=5), split=Split(test=0.2))
    done = clean_rows(read(rows, root), settings.cleaning)
    done = split_examples(remove_duplicates(done, settings.duplicates), settings.split, settings.duplicates)
    done = augment_train(done, Augmentation(methods=(Characters(share=0.5),), keep_labels=False), settings.duplicates)
    done = balance_train(done, Balancing(method=Oversample()), 0, root / "prepared/balance")
    write_quarantine(done, root / "prepared/quarantine.parquet")
    verdict = check_quality(done, settings.gate, settings.duplicates, settings.split, root / "data_docs")
    write_splits(done, verdict, 0, root / "prepared")
    return done


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every third row has its first answer marked."""
    root = tmp_path_factory.mktemp("marked")
    prepare([make_row(n, **({"weight": 0} if n % 3 == 0 else {})) for n in range(ROWS)], root)
    return root / "prepared"


def is_marked(row: dict[str, Any]) -> bool:
    """Whether the source marks the row, by the text of its first answer, which no step changes."""
    answer = row["messages"][1]["content"]
    return any(answer == f"Draft {say(number + 1)}." for number in range(0, ROWS, 3))


def test_marks_reach_the_splits_through_every_step(prepared: Path) -> None:
    tables = {name: read_examples(prepared / f"{name}.parquet") for name in SPLITS}
    rows = [row for table in tables.values() for row in table.to_pylist()]
    assert {is_marked(row) for row in rows} == {True, False}
    assert any(row["source"] == "augmented by characters" and is_marked(row) for row in rows)
    assert len(rows) > len({row["id"] for row in rows}), "balancing repeats rows"
    for row in rows:
        places = [1] if is_marked(row) else None
        assert row["untrained"] == places
        assert [t["role"] for t in row["messages"]] == ["user", "assistant", "user", "assistant"]
        assert Example(**row).id == row["id"] == content_id(row["messages"], places)
    assert all(table.schema.equals(EXAMPLES.append(UNTRAINED)) for table in tables.values())
    read_manifest(prepared, verify=True)


def test_marked_answers_carry_no_loss_and_the_last_learned_answer_is_asked_for(
    prepared: Path, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    train = read_examples(prepared / "train.parquet")
    for row, encoded in zip(train.to_pylist(), encode_examples(train, tokenizer, 10_000).to_pylist(), strict=True):
        learned = tokenizer.decode([label for label in encoded["labels"] if label != IGNORED])
        assert ("Draft" in learned) is not is_marked(row)
        assert "Final" in learned
        assert "Draft" in tokenizer.decode(encoded["input_ids"])
    initial = tmp_path / "initial"
    shutil.copytree(tiny_model, initial)
    facts = {"reference": None, "tokenizer_class": "TokenizersBackend"}
    seal(initial, [path for path in initial.iterdir() if path.is_file()], facts)
    items = select_items(prepared / "test.parquet", 100, initial, None).items
    assert items
    for item in items:
        assert item.reference.startswith("Final")
        assert item.prompt[1]["content"].startswith("Draft")


def test_a_set_without_marks_has_the_same_bytes_as_ever(tmp_path: Path) -> None:
    files = [f"{name}.parquet" for name in SPLITS]
    prepare([make_row(n) for n in range(ROWS)], tmp_path / "plain")
    prepare([make_row(n, weight=1) for n in range(ROWS)], tmp_path / "all learned")
    none_learned = {"messages": [turn("user", "Why?"), turn("assistant", "No.", weight=0)], "label": "usual"}
    dropped = prepare([*(make_row(n) for n in range(ROWS)), none_learned], tmp_path / "none learned").dropped
    assert "no answer is to be learned" in " ".join(dropped["reason"].to_pylist())
    for name in files:
        plain = tmp_path / "plain/prepared" / name
        assert pq.read_schema(plain).names == EXAMPLES.names
        for other in ("all learned", "none learned"):
            assert plain.read_bytes() == (tmp_path / other / "prepared" / name).read_bytes()
    manifests = [read_manifest(tmp_path / name / "prepared") for name in ("plain", "all learned", "none learned")]
    assert len({manifest["data"] for manifest in manifests}) == 1


def test_the_hash_of_the_data_covers_the_marks(tmp_path: Path) -> None:
    data = []
    for name, mark in (("plain", {}), ("marked", {"weight": 0})):
        prepare([make_row(n, **(mark if n == 7 else {})) for n in range(ROWS)], tmp_path / name)
        data.append(read_manifest(tmp_path / name / "prepared")["data"])
    assert data[0] != data[1]


def test_conversations_that_differ_in_their_marks_are_different_rows(tmp_path: Path) -> None:
    rows = [make_row(1), make_row(1, weight=0), make_row(1, train=False), make_row(1), make_row(2)]
    read_rows = read(rows, tmp_path)
    exact = drop_exact_duplicates(read_rows)
    assert exact.table["row"].to_pylist() == [1, 2, 5]
    assert exact.table["untrained"].to_pylist() == [None, [1], None]
    assert exact.table["id"].to_pylist()[0] == content_id(rows[0]["messages"])
    # Their texts are the same, so the search for near duplicates keeps the first of them.
    assert remove_duplicates(read_rows, Duplicates()).table["row"].to_pylist() == [1, 5]
    assert remove_duplicates(read_rows, Duplicates(keep="all")).table["row"].to_pylist() == [1, 2, 5]


REFUSAL = "I'm sorry, but as an AI language model I cannot help with that."
JUDGED: list[tuple[Any, str]] = [
    (Refusals(), REFUSAL),
    (Echo(), "Where is my parcel today?"),
    (Repetition(), "again and " * 200),
    (Quality(of="answers", min_words=1, min_stop_words=0), "### " * 100),
    (C4(min_sentences=1, min_line_words=1), "Lorem ipsum dolor sit amet."),
    (
        Language(languages=("en",), among=("en", "de"), of="answers"),
        "Leider ist Ihr Paket nicht da. " * 19,
    ),
]


@pytest.mark.parametrize(("step", "text"), JUDGED, ids=lambda value: getattr(value, "name", ""))
def test_an_answer_without_loss_drops_no_row_and_a_learned_one_does(step: Any, text: str, tmp_path: Path) -> None:
    good = "The parcel will come tomorrow. It has left our depot. Please wait at home for the van of our driver."
    asked = turn("user", "Where is my parcel today?")
    turns = [[asked, turn("assistant", text, **mark), asked, turn("assistant", good)] for mark in ({}, {"weight": 0})]
    done = clean_rows(read([{"messages": each, "label": "a"} for each in turns], tmp_path), [step])
    assert done.table["row"].to_pylist() == [2]
    assert done.table["messages"].to_pylist() == [[turn(each["role"], each["content"]) for each in turns[1]]]
    assert done.table["untrained"].to_pylist() == [[1]]


def test_figures_count_learned_answers_only(tmp_path: Path) -> None:
    rows = read([make_row(1), make_row(1, weight=0)], tmp_path)
    sizes = measure_sizes(rows.table)
    assert sizes.words["assistant"].tolist() == [18, 9]
    assert sizes.characters["assistant"][0] == sizes.characters["assistant"][1] + sizes.characters["context"][1]


def test_repairs_for_a_template_keep_the_marks_at_their_answers(tmp_path: Path) -> None:
    strict = (
        "{% for m in messages %}{% if m.role == 'system' or (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('no') }}{% endif %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    (tmp_path / "strict.jinja").write_text(strict)
    turns = [turn("system", "Brief."), turn("user", "A?"), turn("user", "B?"), turn("assistant", "1")]
    turns += [turn("user", "C?"), turn("system", "Now."), turn("assistant", "2", weight=0), turn("user", "D?")]
    rows = read([{"messages": [*turns, turn("assistant", "3")], "label": "a"}], tmp_path)
    assert rows.table["untrained"].to_pylist() == [[6]]
    step = Template(model=str(tmp_path / "strict.jinja"), repair=("merge", "fold"))
    table = clean_rows(rows, [step]).table
    (messages,), (places,) = table["messages"].to_pylist(), table["untrained"].to_pylist()
    assert [each["content"] for each in messages] == ["Brief.\n\nA?\n\nB?", "1", "C?\n\nNow.", "2", "D?", "3"]
    assert places == [3]


def test_a_reader_refuses_other_columns(tmp_path: Path) -> None:
    row = {"id": "a", "messages": [], "source": "s", "row": 1, "label": None, "cluster": "a", "other": 1}
    pq.write_table(pa.Table.from_pylist([row], EXAMPLES.append(pa.field("other", pa.int64()))), tmp_path / "a.parquet")
    with pytest.raises(PipelineError, match="other"):
        read_examples(tmp_path / "a.parquet")
