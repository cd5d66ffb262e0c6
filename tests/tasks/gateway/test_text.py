"""Streamed pieces join to exactly the decoded answer, and stop texts cut it where they first occur."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.gateway.batching.text import AnswerText, overlap


def decode(tokens: list[int]) -> str:
    """A byte-level tokenizer of one byte per token, the hardest case for split characters."""
    return bytes(tokens).decode("utf-8", "replace")


def pieces(text: AnswerText, tokens: list[int]) -> list[str]:
    found = []
    for token in tokens:
        found.append(text.push(token))
        if text.stopped:
            return found
    return [*found, text.finish()]


@given(st.text(max_size=40))
def test_pieces_join_to_the_text_and_no_piece_is_half_a_character(text: str) -> None:
    found = pieces(AnswerText(decode), list(text.encode()))
    assert "".join(found) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in found)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_bytes_that_are_no_text_join_to_what_decoding_at_once_gives(tokens: list[int]) -> None:
    assert "".join(pieces(AnswerText(decode), tokens)) == decode(tokens)


@given(
    st.text(alphabet="ab\u00e9", max_size=30),
    st.lists(st.text(alphabet="ab\u00e9", min_size=1, max_size=4), max_size=3),
)
def test_the_answer_ends_before_the_stop_text_that_is_complete_first(text: str, stops: list[str]) -> None:
    answer = AnswerText(decode, stops)
    joined = "".join(pieces(answer, list(text.encode())))
    # Oracle: the shortest beginning that holds a stop text, cut before the earliest one in it.
    holding = next((text[:n] for n in range(len(text) + 1) if any(stop in text[:n] for stop in stops)), None)
    expected = text if holding is None else holding[: min(holding.find(s) for s in stops if s in holding)]
    assert joined == expected
    assert answer.stopped == (holding is not None)


def test_what_may_become_a_stop_text_is_held_back() -> None:
    answer = AnswerText(decode, ["END"])
    assert [answer.push(ord(c)) for c in "aENx"] == ["a", "", "", "ENx"]
    assert overlap("aEN", "END") == 2
    assert overlap("END", "END") == 0
