"""When a retrain may start, what the journal keeps, and how corrections become training rows."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import content_id
from tasks.monitoring.decisions import (
    HOUR,
    Decision,
    append_decision,
    count_streak,
    count_waiting,
    decide,
    read_decisions,
)
from tasks.monitoring.feedback import (
    choose_new,
    collect_corrections,
    read_versions,
    restore_version,
    set_version_aside,
    write_version,
)
from tasks.monitoring.params import Retraining
from tests.tasks.monitoring.requests import make_request, make_table

NOW = 1_800_000_000.0
SETTINGS = Retraining(cool_down_hours=24, minimum_new_rows=20, maximum_per_week=3)


def decision(outcome: str, hours_ago: float, **versions: object) -> Decision:
    return Decision(
        time=NOW - hours_ago * HOUR, retrain="r", trigger="drift", reason="x", decision=outcome, why="y",
        versions=versions,
    )  # fmt: skip


def test_a_quiet_past_and_enough_rows_start() -> None:
    assert decide(SETTINGS, [], "drift", NOW, 20) == (True, "20 corrected rows are waiting")


@pytest.mark.parametrize(
    ("history", "rows", "why"),
    [
        ([decision("promoted", 23.9)], 99, "cooling down after the last retrain until 2027-01-15 08:06 UTC"),
        ([decision("failed", 1)], 99, "cooling down"),
        (
            [decision("started", h) for h in (167, 90, 30)],
            99,
            "3 retrains started in the last seven days; the maximum is 3",
        ),
        ([], 19, "19 corrected rows are waiting; 20 are needed"),
        ([decision("kept", 48, window="abc")], 99, "window abc has already led to a retrain"),
    ],
)
def test_refusals_say_why(history: list[Decision], rows: int, why: str) -> None:
    may, said = decide(SETTINGS, history, "drift", NOW, rows, window="abc")
    assert not may
    assert said.startswith(why)


@pytest.mark.parametrize(
    "history",
    [
        [decision("promoted", 24.1)],
        [decision("started", 1)],
        [decision("refused", 0.1)],
        [decision("started", h) for h in (168.1, 90, 30)],
        [decision("failed", 48, window="abc")],
    ],
)
def test_what_does_not_stand_in_the_way(history: list[Decision]) -> None:
    """A cool-down that is over, a retrain that was cut off, a refusal, an old start, a window whose retrain failed."""
    assert decide(SETTINGS, history, "schedule", NOW, 20, window="abc")[0]


def test_a_person_always_may() -> None:
    history = [decision("promoted", 0.1)]
    assert decide(SETTINGS, history, "hand", NOW, 3) == (True, "requested by hand")
    assert decide(SETTINGS, history, "hand", NOW, 0) == (True, "requested by hand, without any new corrected row")
    allowed, why = decide(SETTINGS, history, "hand", NOW, 0, changed=False)
    assert not allowed
    assert "no corrected row is waiting, and data, params and code are those of the last run" in why
    assert why.endswith("or run all the same with `heptune retrain --force`")


def test_rows_wait_until_a_retrain_has_finished_with_them() -> None:
    versions = {"one": ["a", "b"], "two": ["c"]}
    assert count_waiting([], versions, 5) == 8
    assert count_waiting([decision("failed", 1, feedback=["one", "two"])], versions, 0) == 3
    assert count_waiting([decision("kept", 1, feedback=["one"])], versions, 0) == 1


def test_journal_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "state" / "decisions.jsonl"
    assert read_decisions(path) == []
    append_decision(path, decision("started", 2))
    with path.open("ab") as stream:
        stream.write(b'{"time": 18')
    assert [d.decision for d in read_decisions(path)] == ["started"]
    append_decision(path, decision("kept", 1, feedback=["one"]))
    assert [d.decision for d in read_decisions(path)] == ["started", "kept"]
    assert read_decisions(path)[1].versions == {"feedback": ["one"]}
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(PipelineError, match=r"decisions\.jsonl:1: not a decision"):
        read_decisions(path)


def test_streak_counts_each_window_once(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    looks = [("a", True), ("a", True), ("b", True), ("c", False), ("d", True)]
    assert [count_streak(path, *look) for look in looks] == [1, 1, 2, 0, 1]


def scrub(text: str) -> str:
    return text.replace("ann@example.org", "<email>")


def corrected(prompt: str, correction: str | None, number: int = 0, label: str | None = None) -> dict[str, object]:
    return make_request(prompt, "wrong", number, correction=correction, label=label)


def test_corrections_become_scrubbed_training_rows(tmp_path: Path) -> None:
    log = make_table(
        [
            corrected("mail ann@example.org", "sent to ann@example.org", 1, "send_mail"),
            corrected("fine as it was", None, 2),
            corrected("blank", "  ", 3),
        ]
    )
    rows = collect_corrections(log, scrub).rows
    name = write_version(rows, tmp_path)
    line = orjson.loads((tmp_path / f"{name}.jsonl").read_bytes())
    assert line == {
        "messages": [
            {"role": "user", "content": "mail <email>"},
            {"role": "assistant", "content": "sent to <email>"},
        ],
        "label": "send_mail",
    }
    assert read_versions(tmp_path) == {name: [content_id(line["messages"])]}


def test_answers_before_the_corrected_one_are_only_context(tmp_path: Path) -> None:
    logged = corrected("a", "right")
    said = [("user", "before"), ("assistant", "unchecked"), ("user", "a")]
    logged["messages"] = [{"role": role, "content": content} for role, content in said]
    rows = collect_corrections(make_table([logged]), scrub).rows
    turns = orjson.loads((tmp_path / f"{write_version(rows, tmp_path)}.jsonl").read_bytes())["messages"]
    assert [turn.get("weight") for turn in turns] == [None, 0, None, None]
    assert choose_new(rows, read_versions(tmp_path)) == []


def test_the_newest_correction_of_a_prompt_counts_once() -> None:
    log = make_table([corrected("a", "old", 1), corrected("b", "same", 2), corrected("a", "new", 3),
                      corrected("b", "same", 4)])  # fmt: skip
    answers = {row.messages[0][1]: row.messages[-1][1] for row in collect_corrections(log, scrub).rows}
    assert answers == {"a": "new", "b": "same"}
    assert len(collect_corrections(log, scrub).rows) == 2


@given(st.permutations([("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]))
def test_the_same_rows_make_the_same_version(pairs: list[tuple[str, str]]) -> None:
    rows = collect_corrections(make_table([corrected(p, c) for p, c in pairs]), scrub).rows
    usual = collect_corrections(make_table([corrected(p, c) for p, c in sorted(pairs)]), scrub).rows
    assert [row.line() for row in rows] == [row.line() for row in usual]


def test_rows_of_earlier_versions_are_not_repeated(tmp_path: Path) -> None:
    first = collect_corrections(make_table([corrected("a", "1"), corrected("b", "2")]), scrub).rows
    name = write_version(first, tmp_path)
    assert write_version(first, tmp_path) == name
    later = collect_corrections(make_table([corrected("b", "2"), corrected("c", "3")]), scrub).rows
    new = choose_new(later, read_versions(tmp_path))
    assert [row.messages[0][1] for row in new] == ["c"]
    write_version(new, tmp_path)
    assert choose_new([*first, *later], read_versions(tmp_path)) == []
    assert write_version([], tmp_path) == ""
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_used_is_set_aside_with_its_reason() -> None:
    def fail(text: str) -> str:
        if "boom" in text:
            raise RecursionError("too deep")
        return text

    log = make_table(
        [
            corrected("good", "yes", 1),
            corrected("blank", " \n", 2),
            corrected("torn", "yes", 3, label="two\nlines"),
            corrected("nul", "yes", 4, label="\0"),
            corrected("spaces", "yes", 5, label="  "),
            corrected("boom", "yes", 6),
            corrected("  ", "yes", 7),
            corrected("formula", "yes", 8, label="$\\frac{x$"),
            corrected("none", None, 9),
        ]
    )
    found = collect_corrections(log, fail)
    assert sorted(row.request for row in found.rows) == ["r1", "r8"]
    assert {item.request: item.reason for item in found.set_aside} == {
        "r2": "the correction is blank",
        "r3": "the label has a control character or a line break",
        "r4": "the label has a control character or a line break",
        "r5": "the label is blank",
        "r6": "RecursionError while it was read",
        "r7": "the prompt has no text of a user",
    }


def test_one_key_does_not_overrule_the_others() -> None:
    """Of several keys' corrections of a prompt the most frequent counts, then the earliest; of one key's the newest."""
    rows = [
        make_request("a", number=1, correction="right", key="k1"),
        make_request("a", number=2, correction="right", key="k2"),
        make_request("a", number=3, correction="poison", key="k3"),
        make_request("b", number=4, correction="first", key="k1"),
        make_request("b", number=5, correction="second", key="k3"),
        make_request("b", number=6, correction="better", key="k1"),
    ]
    found = collect_corrections(make_table(rows), scrub)
    assert {row.messages[0][1]: row.answer for row in found.rows} == {"a": "right", "b": "better"}
    assert sorted(item.request for item in found.set_aside) == ["r3", "r5"]


def test_a_version_is_private_and_can_be_set_aside(tmp_path: Path) -> None:
    name = write_version(collect_corrections(make_table([corrected("a", "1")]), scrub).rows, tmp_path)
    assert (tmp_path / f"{name}.jsonl").stat().st_mode & 0o777 == 0o600
    aside = set_version_aside(tmp_path, name)
    assert read_versions(tmp_path) == {}
    assert list(read_versions(aside.parent)) == [name]
    restore_version(tmp_path, name)
    assert list(read_versions(tmp_path)) == [name]


def test_an_unreadable_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "abc.jsonl").write_text('{"text": 1}\n')
    with pytest.raises(PipelineError, match=r"abc\.jsonl: not a feedback version"):
        read_versions(tmp_path)
