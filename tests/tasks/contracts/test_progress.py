"""Long work says once a minute how far it is, and writes no bar where there is no terminal."""

from __future__ import annotations

import logging

import pytest

from tasks.contracts import progress
from tasks.contracts.progress import say_time, track


def test_a_line_a_minute_and_no_bar_in_a_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 30.0, 61.0, 90.0, 122.0])
    monkeypatch.setattr("tasks.contracts.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        assert list(track([1, 2, 3, 4], "answering")) == [1, 2, 3, 4]
    assert [record.message for record in caplog.records] == ["answering: 2 of 4, about 61 s left"]
    assert all(record.shown_as_bar for record in caplog.records)  # type: ignore[attr-defined]
    assert capsys.readouterr() == ("", "")


def test_a_single_piece_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "progress", None)
    assert list(track(["one"], "hashing")) == ["one"]
    assert list(track([], "hashing")) == []


@pytest.mark.parametrize(("seconds", "words"), [(12.4, "12 s"), (300, "5 min"), (9000, "2.5 h")])
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert say_time(seconds) == words
