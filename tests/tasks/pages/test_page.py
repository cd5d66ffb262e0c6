"""The frame of a page: where it leads, what it says of the run that wrote it, and how numbers stand in a table."""

from __future__ import annotations

import re

import pytest

from tasks.pages.page import Page, count_steps, fill_run
from tasks.pages.stages import STAGE_TITLES, list_neighbours
from tasks.pages.text import plural


def links(page: Page) -> list[str]:
    return re.findall(r'href="([^"]*)"', page.render())


def test_a_page_leads_to_the_overview_and_to_its_neighbours() -> None:
    assert links(Page("Evaluation", "", stage="evaluation")) == [
        "../index.html", "../fine_tuning/index.html", "../deployment/index.html",
    ]  # fmt: skip
    assert links(Page("Data docs", "", stage="data_preparation", inside="data_docs")) == [
        "../../index.html", "../../data_preparation/index.html", "../../model_initialisation/index.html",
    ]  # fmt: skip
    assert links(Page("Evidently report", "", stage="monitoring"))[-1] == "../monitoring/index.html"
    assert links(Page("Synthesis: sums", "", stage="synthesis")) == ["../index.html"]
    assert links(Page("A page of no stage", "")) == []
    assert list_neighbours("annotation") == (None, None)
    assert [list_neighbours(name)[1] for name in STAGE_TITLES] == [*list(STAGE_TITLES)[1:], None]


def test_the_run_is_filled_in_where_the_page_is_shown_and_never_in_its_bytes() -> None:
    page = Page("Evaluation", "Better.", "promote", stage="evaluation").render()
    assert page == Page("Evaluation", "Better.", "promote", stage="evaluation").render()
    assert 'src="../runs.js"' in page
    copy = fill_run(page, [("made", "2026-11-29 10:30 UTC"), ("run", "<b>by hand</b>")])
    assert "<span>made <b>2026-11-29 10:30 UTC</b></span>" in copy
    assert "&lt;b&gt;by hand" in copy
    assert "<script" not in copy
    assert fill_run("<p>drawn elsewhere</p>", [("made", "today")]) == "<p>drawn elsewhere</p>"


def test_numbers_stand_right_also_as_text() -> None:
    page = Page("", "")
    page.table(
        "", ["difference", "interval", "share", "n"], [["+0.250", "[0, 1]", "12%", 3], ["–", "–", "5.0% (1%", 4]]
    )
    assert [number for _, number in page.blocks[0]["rows"][0]] == [True, False, True, True]


def test_commands_are_shown_as_code_and_long_names_may_break() -> None:
    page = Page("", "")
    page.table("", ["method.rank", "learning_rate"], [["`a`", 1]], "`heptune search --apply` writes <them>.")
    html = page.render()
    assert "<code>heptune search --apply</code> writes &lt;them&gt;." in html
    assert "learning_<wbr>rate</th>" in html
    assert "<td>`a`</td>" in html, "a cell is data"


def test_a_number_and_its_interval_stay_on_one_line() -> None:
    page = Page("", "")
    page.table("", ["behind the first"], [["0.024 ± 0.218"]])
    assert "0.024\u00a0±\u00a00.218" in page.render()


@pytest.mark.parametrize(
    ("count", "words", "shown"),
    [
        (1, ("row",), "1 row"),
        (0, ("row",), "0 rows"),
        (2500, ("row",), "2,500 rows"),
        (2, ("process", "processes"), "2 processes"),
    ],
)
def test_nouns_agree_with_their_number(count: int, words: tuple[str, ...], shown: str) -> None:
    assert plural(count, *words) == shown


def test_steps_are_counted_without_halves() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.plot([0, 1, 2, 3], [1, 2, 3, 4])
    count_steps(axes)
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
