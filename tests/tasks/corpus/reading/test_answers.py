"""Rows with several answers teach the preferred one, and keep the others, cleaned, beside the splits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.contracts.manifest import read_manifest
from tasks.contracts.records import ANSWER_SETS, EXAMPLES, QUARANTINE, AnswerSet, content_id
from tasks.contracts.tables import read_table
from tasks.corpus.reading.answers import count_equal, exclude_rejected, make_answer_set, write_answers
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.shapes.shape import RowError
from tasks.corpus.reading.shapes.stepwise import STEPWISE
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.rows.rows import Rows
from tasks.corpus.rows.texts import Cleaned
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.cleaning.steps.length import Length
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.gate.params import Gate
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.output.report import write_metrics, write_report
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import split_examples
from tasks.language_models.encoding import IGNORED, encode_examples

SYLLABLES = [a + b for a in ("ka", "lo", "mi", "tu", "ve") for b in ("ra", "sol", "ten", "wick", "dun")]


def say(number: int) -> str:
    return " ".join(SYLLABLES[(place * number + number // 25) % 25] for place in range(1, 9))


def prepare(rows: list[dict[str, Any]], root: Path, **params: Any) -> Rows:
    (root / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    settings = DataPreparation(
        sources=(Jsonl(path="x.jsonl", title="x", **params),), gate=Gate(min_rows=5), split=Split(test=0.2)
    )
    done = clean_rows(read_sources(settings.sources, "quarantine", root), settings.cleaning)
    done = exclude_rejected(
        split_examples(remove_duplicates(done, settings.duplicates), settings.split, settings.duplicates)
    )
    write_quarantine(done, root / "prepared/quarantine.parquet")
    verdict = check_quality(done, settings.gate, settings.duplicates, settings.split, root / "report/data_docs")
    write_report(done, verdict, root / "report/index.html")
    write_splits(done, verdict, 0, root / "prepared")
    write_metrics(done, verdict, root / "report/metrics.json")
    return done


def read_answers(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(root / "prepared/answers.parquet", ANSWER_SETS).to_pylist()
    for row in rows:
        AnswerSet(**row)
    return rows


def read_splits(root: Path) -> list[dict[str, Any]]:
    names = ("train", "validation", "test")
    tables = [
        read_table(root / f"prepared/{n}.parquet", EXAMPLES).append_column("split", pa.array([n] * count, pa.string()))
        for n in names
        for count in [read_table(root / f"prepared/{n}.parquet", EXAMPLES).num_rows]
    ]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows


def test_preferences_teach_the_chosen_answer_and_keep_the_rejected_one(tmp_path: Path) -> None:
    rows = [{"prompt": say(i), "chosen": f"Yes, {say(i + 1)}.", "rejected": f"No, {say(i + 2)}."} for i in range(60)]
    done = prepare(rows, tmp_path)
    splits = {row["id"]: row for row in read_splits(tmp_path)}
    answers = {row["id"]: row for row in read_answers(tmp_path)}
    assert len(splits) == done.table.num_rows > 40
    assert answers.keys() == splits.keys()
    for name, row in answers.items():
        number = row["row"] - 1
        assert row["prompt"] == [{"role": "user", "content": say(number)}]
        assert [(a["turns"][0]["content"], a["score"]) for a in row["answers"]] == [
            (f"Yes, {say(number + 1)}.", 1.0),
            (f"No, {say(number + 2)}.", 0.0),
        ]
        assert splits[name]["messages"] == row["prompt"] + row["answers"][0]["turns"]
        assert (splits[name]["split"], splits[name]["cluster"]) == (row["split"], row["cluster"])
    assert read_manifest(tmp_path / "prepared", verify=True)["counts"]["answers"] == len(answers)
    figures = json.loads((tmp_path / "report/metrics.json").read_text())
    assert figures["rows_with_answers"] == len(answers)
    assert figures["shape_confidence_x"] == 1.0
    page = (tmp_path / "report/index.html").read_text()
    assert "Rows with several or rated answers" in page
    assert "The splits contain the preferred answer of each row" in page


def test_what_compares_nothing_is_counted_and_other_prompts_are_refused(tmp_path: Path) -> None:
    def dialogue(*texts: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]

    rows = [
        {"chosen": dialogue(say(i), "Yes.", say(i + 9), f"So {say(i + 1)}."),
         "rejected": dialogue(say(i), "Yes.", say(i + 9), f"No {say(i + 2)}.")}
        for i in range(60)
    ]  # fmt: skip
    for same in (4, 5):
        rows[same]["rejected"] = rows[same]["chosen"]
    rows[6]["rejected"][2]["content"] = "Something else?"
    done = prepare(rows, tmp_path)
    assert {5, 6, 7}.isdisjoint(row["row"] for row in read_answers(tmp_path))
    assert all(len(row["prompt"]) == 3 for row in read_answers(tmp_path))
    assert dict(count_equal(done.table)) == {"x": 2}
    page = (tmp_path / "report/index.html").read_text()
    shown = re.search(r"both answers the same.*?</table>", page, re.DOTALL)
    assert shown is not None
    assert re.findall(r"<td[^>]*>\s*([^<]*?)\s*</td>", shown.group())[-1] == "2"
    dropped = read_table(tmp_path / "prepared/quarantine.parquet", QUARANTINE).to_pylist()
    told = "chosen and rejected answer different prompts, which part at turn 3"
    assert [row["row"] for row in dropped if told in row["reason"]] == [7]


def test_an_answer_marked_bad_is_in_no_split(tmp_path: Path) -> None:
    rows = [{"prompt": say(i), "completion": f"So {say(i + 1)}.", "label": i % 3 != 0} for i in range(60)]
    done = prepare(rows, tmp_path)
    learned = {row["row"] for row in read_splits(tmp_path)}
    scores = {row["row"]: row["answers"][0]["score"] for row in read_answers(tmp_path)}
    bad = {row for row, score in scores.items() if score == 0.0}
    assert bad == {row for row in scores if (row - 1) % 3 == 0}
    assert len(bad) > 10
    assert learned == scores.keys() - bad
    dropped = read_table(tmp_path / "prepared/quarantine.parquet", QUARANTINE).to_pylist()
    reasons = {row["row"] for row in dropped if row["reason"] == "answer marked bad; in answers.parquet only"}
    assert reasons == bad
    assert done.steps[-1].name == "preferences"
    figures = json.loads((tmp_path / "report/metrics.json").read_text())
    assert figures["dropped_preferences"] == len(bad)
    assert figures["rows_kept"] + figures["rows_dropped"] == 60


def test_other_answers_go_through_the_same_cleaning(tmp_path: Path) -> None:
    canary = "zoe.canary@example.org"
    rows = [{"prompt": say(i), "chosen": f"Yes, {say(i + 1)}.", "rejected": f"No  {say(i + 2)}."} for i in range(60)]
    rows[4]["rejected"] = f"Write   to <b>{canary}</b>"
    rows[5]["rejected"] = "..."
    rows[6]["rejected"] = "caf\ufffd"
    prepare(rows, tmp_path)
    answers = {row["row"]: row["answers"] for row in read_answers(tmp_path)}
    assert answers[5][1]["turns"][0]["content"] == "Write to <email>"
    # Nothing is left to compare theirs with.
    assert answers.keys().isdisjoint({6, 7})
    assert answers[8][1]["turns"][0]["content"].startswith("No ")
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "x.jsonl":
            content = str(read_any(path)) if path.suffix == ".parquet" else path.read_text()
            assert canary not in content


def read_any(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_a_step_sees_the_other_answer_behind_its_prompt() -> None:
    class Seen(Missing):
        def clean(self, table: pa.Table) -> Cleaned:
            seen.append([[turn["content"] for turn in row] for row in table["messages"].to_pylist()])
            return super().clean(table)

    seen: list[list[list[str]]] = []
    clean_rows(read_pair(), [Seen()])
    assert seen == [[["p?", "a"]], [["p?", "b"], ["p?", "c"]]]


def test_a_step_that_drops_the_row_for_an_answer_drops_that_answer() -> None:
    done = clean_rows(read_pair(answers=["a", "b" * 30, "c"]), [Length(max_total=20)])
    assert done.table.num_rows == 1
    assert done.steps[-1].notes["other_answers_dropped"] == 1
    assert [other["turns"][0]["content"] for other in done.table["answers"][0].as_py()["others"]] == ["c"]


def read_pair(answers: list[str] | None = None) -> Rows:
    class Held(Jsonl):
        def read(self, root: Path) -> pa.Table:
            return pa.Table.from_pylist([{"prompt": "p?", "answers": answers or ["a", "b", "c"], "scores": [3, 2, 1]}])

    return read_sources([Held(path="x")], "quarantine", Path())


def test_sources_with_and_without_several_answers_go_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "q", "answer": "a"}))
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": "p", "chosen": "c", "rejected": "r"}))
    for names in ("ab", "ba"):
        rows = read_sources([Jsonl(path=f"{n}.jsonl", title=n) for n in names], "quarantine", tmp_path)
        values = dict(zip(rows.table["source"].to_pylist(), rows.table["answers"].to_pylist(), strict=True))
        assert values["a"] is None
        assert values["b"]["others"] == [{"turns": [{"role": "assistant", "content": "r"}], "score": 0.0}]


def test_a_repeated_conversation_keeps_what_it_was_compared_with(tmp_path: Path) -> None:
    rows = [{"prompt": say(i), "chosen": f"Yes, {say(i + 1)}.", "rejected": f"No, {say(i + 2)}."} for i in range(60)]
    rows += [rows[0] | {"rejected": "Never."}, rows[0] | {"rejected": "Hardly."}, rows[0]]
    prepare(rows, tmp_path)
    answers = {row["row"]: row["answers"] for row in read_answers(tmp_path)}
    assert [answer["turns"][0]["content"] for answer in answers[1]] == [
        f"Yes, {say(1)}.",
        f"No, {say(2)}.",
        "Never.",
        "Hardly.",
    ]
    assert answers.keys().isdisjoint({61, 62, 63})


def test_the_same_text_is_no_other_answer_and_no_mark(tmp_path: Path) -> None:
    rows = [{"prompt": say(i), "chosen": f"Yes, {say(i + 1)}.", "rejected": f"Yes, {say(i + 1)}."} for i in range(60)]
    done = prepare(rows, tmp_path)
    assert read_answers(tmp_path) == []
    assert done.table.num_rows == 60


def test_a_comparison_that_cleaning_leaves_with_one_answer_is_no_mark_of_it() -> None:
    """Else one whose worse answer was dropped would count as marked good."""
    done = clean_rows(read_pair(answers=["a", "b" * 30, "c" * 30]), [Length(max_total=20)])
    assert done.table["answers"].to_pylist() == [None]
    assert done.steps[-1].notes == {"other_answers_dropped": 2, "comparisons_dropped": 1}
    (answer_set,) = list_answer_sets([{"prompt": "p?", "completion": "fine", "label": True}])
    assert [one["score"] for one in answer_set["answers"]] == [1.0]


def list_answer_sets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answer sets of rows of one source, all in one split."""

    class Held(Jsonl):
        def read(self, root: Path) -> pa.Table:
            return pa.Table.from_pylist(rows)

    table = read_sources([Held(path="x")], "quarantine", Path()).table
    for name in ("id", "cluster", "split"):
        table = table.append_column(name, pa.array([f"{name}{n}" for n in range(table.num_rows)], pa.string()))
    return [found for row in table.to_pylist() if (found := make_answer_set(row)) is not None]


def test_marks_of_steps_are_kept_beside_the_answer_that_they_are_parts_of() -> None:
    rows = [
        {"prompt": "9 - 2 * 3?", "completions": ["2 * 3 = 6.\n\nso far", "9 - 6 = 4."], "labels": [True, False]},
        {"prompt": "1 + 1?", "completions": ["2."], "labels": [True]},
    ]
    wrong, right = list_answer_sets(rows)
    assert wrong["answers"][0]["turns"][0]["content"] == "2 * 3 = 6.\nso far\n\n9 - 6 = 4."
    assert (wrong["steps"], wrong["answers"][0]["score"]) == ([True, False], 0.0)
    assert (right["steps"], right["answers"][0]["score"]) == ([True], 1.0)
    for marks, reason in (([True], "2 steps and 1 marks"), ([1, 2], "neither true nor false")):
        row = {"prompt": "1?", "completions": ["a", "b"], "labels": marks}
        with pytest.raises(RowError, match=reason):
            STEPWISE.convert(row, {"prompt": "prompt", "steps": "completions", "marks": "labels"})


def test_without_such_rows_the_file_is_there_and_empty(tmp_path: Path) -> None:
    prepare([{"question": say(i), "answer": f"Yes, {say(i + 1)}."} for i in range(60)], tmp_path)
    assert read_answers(tmp_path) == []
    assert "several or marked answers" not in (tmp_path / "report/index.html").read_text()


@pytest.mark.parametrize("near", [True, False])
def test_plain_text_reaches_the_splits(tmp_path: Path, near: bool) -> None:
    rows = [{"text": f"{say(i)}. {say(i + 1)}."} for i in range(60)] + [
        {"text": "..."},
        {"text": say(3) + ". " + say(4) + "."},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    duplicates = Duplicates(near=near)
    done = clean_rows(read_sources([Jsonl(path="x.jsonl", title="x")], "quarantine", tmp_path), [Missing(), Length()])
    done = split_examples(remove_duplicates(done, duplicates), Split(test=0.2), duplicates)
    verdict = check_quality(done, Gate(min_rows=5), duplicates, Split(test=0.2), tmp_path / "docs")
    assert verdict.failed == ()
    assert {tuple(turn["role"] for turn in m) for m in done.table["messages"].to_pylist()} == {("assistant",)}
    assert len(set(done.table["split"].to_pylist())) == 3
    reasons = {(row["row"], row["reason"]) for row in done.dropped.to_pylist()}
    assert {(61, "empty text"), (62, "same conversation again")} <= reasons


def test_answers_are_written_in_the_order_of_their_ids(tmp_path: Path) -> None:
    rows = [{"prompt": say(i), "chosen": f"Yes, {say(i + 1)}.", "rejected": "No."} for i in range(60)]
    done = prepare(rows, tmp_path)
    ids = [row["id"] for row in read_answers(tmp_path)]
    assert ids == sorted(ids)
    assert write_answers(done, tmp_path / "again.parquet") == len(ids)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "prepared/answers.parquet").read_bytes()
    row = read_answers(tmp_path)[0]
    assert row["id"] == content_id(row["prompt"] + row["answers"][0]["turns"])


def test_all_of_a_plain_text_is_learned(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    row = {"id": "a", "messages": [{"role": "assistant", "content": say(3)}], "source": "s", "row": 1, "cluster": "a"}
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    encoded = encode_examples(pa.Table.from_pylist([row], schema=EXAMPLES), tokenizer, 512).to_pylist()[0]
    learned = tokenizer.decode([token for token in encoded["labels"] if token != IGNORED], skip_special_tokens=True)
    assert learned.strip() == say(3)
