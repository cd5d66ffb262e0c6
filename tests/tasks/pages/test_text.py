"""Any text of a client or of the data can be shown: in plots, and on pages."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest

from tasks.data_preparation.output.card.markdown import write_body
from tasks.data_preparation.output.plots import plot_class_balance, plot_labels, plot_topics
from tasks.monitoring.plots import draw_words
from tasks.pages.page import Page, svg
from tasks.pages.text import as_sentence, plot_text, printable

ROOT = Path(__file__).parents[3]
HOSTILE = [
    "$\\frac{x$", "$$$", "\\$ {", "<script>alert(1)</script>", "a\0b\x1b[31m", "x" * 100_000, "%s %d {x}", "two\nlines",
    "\u202eabc", "\U0001f600\U0001f937", "", "&amp;", "_hidden", "日本語", "مرحبا", "| a | b |",
]  # fmt: skip

# Method of an Axes or a Figure to the position of its text.
TEXT_OF = {
    "set_title": 0, "set_xlabel": 0, "set_ylabel": 0, "suptitle": 0, "supxlabel": 0, "supylabel": 0, "text": 2,
    "annotate": 0, "figtext": 2, "set_xticks": 1, "set_yticks": 1, "set_xticklabels": 0, "set_yticklabels": 0,
    "bar_label": 1, "set_label": 0, "set_text": 0,
}  # fmt: skip
KEYWORDS = {"label", "labels", "title", "tick_label"}


def list_texts(call: ast.Call) -> list[ast.expr]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    place = TEXT_OF.get(name)
    texts = [call.args[place]] if place is not None and len(call.args) > place else []
    return texts + [keyword.value for keyword in call.keywords if keyword.arg in KEYWORDS]


def is_plain(text: ast.expr) -> bool:
    """Whether a text is written here, or made by `plot_text` as a whole or in its parts."""
    if isinstance(text, ast.Constant):
        return True
    if isinstance(text, ast.Call):
        return isinstance(text.func, ast.Name) and text.func.id == "plot_text"
    if isinstance(text, ast.ListComp):
        return is_plain(text.elt)
    if isinstance(text, ast.List):
        return all(map(is_plain, text.elts))
    if isinstance(text, ast.JoinedStr):
        parts = [part.value for part in text.values if isinstance(part, ast.FormattedValue)]
        return all(is_plain(part) or (isinstance(part, ast.Attribute) and part.attr == "items") for part in parts)
    return False


def plotting_modules() -> list[Path]:
    found = [path for folder in ("tasks", "flows") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "matplotlib" in path.read_text(encoding="utf-8") and path.parent.name != "pages"]


def find_raw_texts(source: str) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [ast.unparse(text) for call in calls for text in list_texts(call) if not is_plain(text)]


@pytest.mark.parametrize("path", plotting_modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_of_a_plot_goes_through_plot_text(path: Path) -> None:
    assert find_raw_texts(path.read_text(encoding="utf-8")) == []


def test_a_raw_text_would_be_found() -> None:
    assert len(plotting_modules()) >= 7
    source = "axes.set_title(name)\naxes.set_yticks(places, [n for n in names])\naxes.plot(x, label=f'{n}')\n"
    assert find_raw_texts(source) == ["name", "[n for n in names]", "f'{n}'"]


@pytest.mark.filterwarnings("error")
def test_no_text_stops_a_plot_or_becomes_markup() -> None:
    ones = [1] * len(HOSTILE)
    figures = [
        plot_labels(HOSTILE, ones),
        plot_class_balance(HOSTILE, {"train": ones, "test": ones}),
        plot_topics(HOSTILE, ones),
        draw_words([(text, 0.1, 0.2) for text in HOSTILE]),
    ]
    for figure in figures:
        drawn = svg(figure)
        assert "<script>" not in drawn
        assert "\0" not in drawn
        assert len(drawn) < 100_000
    # What looks like a formula is shown as it was written.
    assert ">$\\frac{x$<" in drawn


def test_no_text_becomes_markup_on_a_page_or_a_card() -> None:
    page = Page("$\\frac{x$", "a\0b")
    page.table("<b>", ["label"], [[text] for text in HOSTILE])
    page.listing(HOSTILE)
    page.conversation([(text, text) for text in HOSTILE])
    shown = page.render()
    for mark in ("<script>", "\0", "\x1b", "\u202e"):
        assert mark not in shown
    card = write_body(page)
    assert not [line for line in card.splitlines() if "<script>" in line.replace("\\<", "") and line[:4] != "    "]
    assert "\\$\\\\frac" in card


def test_texts_are_cut_escaped_and_named_when_empty() -> None:
    assert plot_text("a $ b") == "a \\$ b"
    assert plot_text(" \n\t ") == "(empty)"
    assert plot_text("abcdef", 4) == "abc…"
    assert plot_text("two\nlines") == "two lines"
    assert printable("keeps\n\tthese é 😀") == "keeps\n\tthese é 😀"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert printable("\ud800") == "\ufffd"


def test_a_name_of_params_keeps_its_small_letter_at_the_beginning_of_a_sentence() -> None:
    assert as_sentence("loss went from 0 to 0") == "Loss went from 0 to 0."
    assert as_sentence("over_refusal, refused: none") == "over_refusal, refused: none."
    assert as_sentence("batch_size: 3 is small") == "batch_size: 3 is small."
