"""Answers side by side: what differs is marked, and a reader finds the ones that matter, with scripts and without."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pages.examples import ShownChange
from tasks.pages.page import Page
from tasks.pages.word_diff import MAXIMUM_TOKENS, diff_words
from tests.browser import open_browser

FIND = """
(() => {
  const form = document.querySelector(".filter"), values = %s;
  [...form.querySelectorAll("input, select")].forEach((one, place) => { one.value = values[place]; });
  form.dispatchEvent(new Event("input"));
  const seen = [...document.querySelectorAll("article")].filter((one) => one.getClientRects().length);
  return form.querySelector("output").textContent + ", " + seen.length;
})()
"""
WORDS = st.lists(st.sampled_from(["the", "parcel", " ", "\n", "left", "today", ".", "您", "的", "é"]), max_size=30)


@settings(deadline=None, max_examples=200)
@given(WORDS.map("".join), WORDS.map("".join))
def test_the_parts_are_the_texts_and_what_is_not_marked_is_in_both(before: str, after: str) -> None:
    old, new = diff_words(before, after)
    assert "".join(text for _, text in old) == before
    assert "".join(text for _, text in new) == after
    kept = ["".join("".join(text for changed, text in parts if not changed).split()) for parts in (old, new)]
    assert kept[0] == kept[1]
    assert (before == after) == (not any(changed for changed, _ in (*old, *new)))


def test_words_are_marked_not_letters_and_each_character_where_there_are_no_spaces() -> None:
    assert diff_words("It left today.", "It leaves today.")[1] == [(False, "It "), (True, "leaves"), (False, " today.")]
    assert diff_words("您的订单已发货", "您的包裹已发货")[0] == [(False, "您的"), (True, "订单"), (False, "已发货")]
    assert diff_words("I have sent it", "I lost it")[0] == [(False, "I "), (True, "have sent"), (False, " it")]
    long = "a " * MAXIMUM_TOKENS
    assert diff_words(long, long + "b") == ([(True, long)], [(True, long + "b")])


def make_page(path: Path) -> Path:
    changes = [
        ShownChange(
            "better" if number % 3 else "worse",
            "wrong → right",
            [("user", f"Where is order {number}?")],
            ("champion · wrong", f"I know <b>nothing</b> of {number}."),
            ("candidate · right", f"Order {number} left on {'Monday' if number % 2 else 'Friday'}."),
            [("reference", "It left.")],
            {"source": "shop\n& co" if number < 4 else "mail"},
        )
        for number in range(10)
    ]
    page = Page("Evaluation", "", stage="evaluation")
    page.contents()
    page.heading("Answers that changed")
    page.changes(changes)
    page.heading("Answers that changed")
    page.write(path)
    return path


def test_without_scripts_all_are_listed_and_the_filter_is_not(tmp_path: Path) -> None:
    html = make_page(tmp_path / "index.html").read_text()
    assert html.count("<article") == 10
    assert '<form class="filter" hidden' in html
    assert "&lt;b&gt;nothing&lt;/b&gt;" in html.replace("<del>", "").replace("</del>", "")
    assert '<a href="#answers-that-changed-1">' in html
    assert 'id="answers-that-changed-2"' in html


def test_the_filter_finds_words_directions_and_slices(tmp_path: Path) -> None:
    page = make_page(tmp_path / "evaluation/index.html")
    (tmp_path / "runs.js").write_text("")
    with open_browser() as tab:
        tab.visit(page.as_uri())

        def find(search: str = "", change: str = "", group: str = "") -> str:
            return str(tab.evaluate(FIND % [search, change, group]))

        assert find() == "10 of 10 shown, 10"
        assert find("monday ORDER") == "5 of 10 shown, 5"
        assert find("", "worse") == "4 of 10 shown, 4"
        assert find("friday", "better", "source: shop & co") == "1 of 10 shown, 1"
        assert find("nobody said this") == "0 of 10 shown, 0"
        assert not tab.errors
