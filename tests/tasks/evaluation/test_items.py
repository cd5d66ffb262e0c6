"""The choice of items is stable, honest about what it leaves out, and never empty."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import seal
from tasks.contracts.records import content_id
from tasks.evaluation.items import ItemSet, select_items
from tests.tiny import example_rows, write_examples


@pytest.fixture(scope="module")
def initial(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("initial")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    seal(
        folder,
        [path for path in folder.iterdir() if path.is_file()],
        {"reference": None, "tokenizer_class": "TokenizersBackend"},
    )
    return folder


def row_of(*turns: tuple[str, str]) -> dict[str, object]:
    messages = [{"role": role, "content": content} for role, content in turns]
    name = content_id(messages)
    return {"id": name, "messages": messages, "source": "x", "row": 1, "label": None, "cluster": name}


def choose(
    path: Path, rows: list[dict[str, object]], count: int, initial: Path, champion: Path | None = None
) -> ItemSet:
    return select_items(write_examples(path / "test.parquet", rows), count, initial, champion)


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path, initial: Path) -> None:
    rows = example_rows(40)
    first = choose(tmp_path, rows, 15, initial)
    assert len(first.items) == 15
    assert first.figures == {"items": 15, "held_out": 40, "too_long": 0, "unanswerable": 0}
    random.Random(0).shuffle(rows)
    assert choose(tmp_path, rows, 15, initial).items == first.items


def test_a_row_that_a_template_refuses_is_no_item_and_counted(tmp_path: Path, initial: Path) -> None:
    refused = row_of(("judge", "Fair."), ("user", "Where?"), ("assistant", "Here."))
    chosen = choose(tmp_path, [*example_rows(5), refused], 10, initial)
    assert (len(chosen.items), chosen.refused) == (5, {"turn 1 (judge): unknown role: judge": 1})
    assert chosen.figures["refused"] == 1
    with pytest.raises(PipelineError, match=r"1 refused by a chat template \(turn 1 \(judge\)"):
        choose(tmp_path, [refused], 10, initial)


def test_new_rows_displace_no_more_than_as_many_old_ones(tmp_path: Path, initial: Path) -> None:
    rows, new = example_rows(40), example_rows(10, seed=5)
    before = {item.id for item in choose(tmp_path, rows, 15, initial).items}
    chosen = {item.id for item in choose(tmp_path, rows + new, 15, initial).items}
    taken = chosen & {str(row["id"]) for row in new}
    assert taken
    assert len(before - chosen) == len(taken)


def test_the_last_answer_is_the_item(tmp_path: Path, initial: Path) -> None:
    row = row_of(("system", "Be kind."), ("user", "A?"), ("assistant", "B."), ("user", "C?"), ("assistant", "D."))
    (item,) = choose(tmp_path, [row], 5, initial).items
    assert [turn["content"] for turn in item.prompt] == ["Be kind.", "A?", "B.", "C?"]
    assert item.reference == "D."


def test_rows_that_no_model_can_answer_are_counted(tmp_path: Path, initial: Path) -> None:
    rows = [
        row_of(("user", "Hello"), ("assistant", "Good day")),
        row_of(("user", "7 " * 200), ("assistant", "Good day")),
        row_of(("assistant", "Good day")),
        row_of(("user", "Hello"), ("assistant", "  ")),
    ]
    assert choose(tmp_path, rows, 9, initial).figures == {
        "items": 1,
        "held_out": 4,
        "too_long": 1,
        "unanswerable": 2,
    }
    with pytest.raises(PipelineError, match=r"nothing to evaluate: 3 rows, 1 longer .* 2 without a prompt"):
        choose(tmp_path, rows[1:], 9, initial)
    with pytest.raises(PipelineError, match="nothing to evaluate: 0 rows"):
        choose(tmp_path, [], 9, initial)


def test_empty_and_repeated_rows_are_no_items(tmp_path: Path, initial: Path, caplog: pytest.LogCaptureFixture) -> None:
    once = row_of(("user", "Hello"), ("assistant", "Good day"))
    rows = [
        once,
        {**once, "source": "y"},
        {**once, "id": "0" * 16, "cluster": "other"},
        row_of(("user", " \n"), ("assistant", "Good day")),
        row_of(("system", "Be kind."), ("user", "Hello"), ("assistant", "Good day")),
    ]
    chosen = choose(tmp_path, rows, 9, initial)
    assert chosen.figures == {"items": 2, "held_out": 5, "too_long": 0, "unanswerable": 1, "duplicates": 2}
    assert "2 held-out rows repeat an item and are left out" in caplog.text


def test_an_item_must_fit_the_champion_too(tmp_path: Path, initial: Path, tiny_model: Path) -> None:
    small = tmp_path / "champion"
    shutil.copytree(tiny_model, small)
    config = small / "config.json"
    config.write_text(config.read_text().replace('"max_position_embeddings": 256', '"max_position_embeddings": 16'))
    rows = [row_of(("user", "7 7 7 7"), ("assistant", "7")), row_of(("user", "7 " * 20), ("assistant", "7"))]
    assert len(choose(tmp_path, rows, 9, initial).items) == 2
    chosen = choose(tmp_path, rows, 9, initial, small)
    assert [item.reference for item in chosen.items] == ["7"]
    assert chosen.too_long == 1
