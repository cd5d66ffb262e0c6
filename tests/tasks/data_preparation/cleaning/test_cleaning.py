"""Each cleaning step repairs what it should and leaves the rest as it was; drops carry their reason."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.corpus.personal_data.identifiers import is_card, is_iban, passes_luhn, replace_personal
from tasks.corpus.personal_data.pii import Pii
from tasks.corpus.text.labels import LabelReader, normalise_label
from tasks.data_preparation.cleaning.clean import Cleaner, clean_rows
from tasks.data_preparation.cleaning.steps.html import Html, remove_html
from tasks.data_preparation.cleaning.steps.labels import Labels
from tasks.data_preparation.cleaning.steps.length import Length
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.cleaning.steps.unicode import Unicode, make_repair
from tasks.data_preparation.cleaning.steps.whitespace import Whitespace, normalize_spaces
from tests.conversations import Turns, make, pair, texts


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cafÃ© â€“ sÃ£o", "café – são"),
        ("e\u0301", "é"),
        ("“curly” ﬁ Ｆｕｌｌ 👩‍👩‍👧 naïve", "“curly” ﬁ Ｆｕｌｌ 👩‍👩‍👧 naïve"),
        ("line\r\nend\ttab\x00", "line\r\nend\ttab\x00"),
        ("a &amp; b", "a &amp; b"),
        ("日本語 العربية हिन्दी", "日本語 العربية हिन्दी"),
    ],
)
def test_unicode_repair(before: str, after: str) -> None:
    assert make_repair()(before) == after


def test_lost_characters_drop_the_row() -> None:
    rows = clean_rows(make(pair("caf\ufffd?", "yes"), pair("ok?", "yes")), [Unicode()])
    assert texts(rows) == [["ok?", "yes"]]
    assert rows.steps[-1].reasons == {"lost characters (U+FFFD)": 1}
    kept = clean_rows(make(pair("caf\ufffd?", "yes")), [Unicode(drop_lost=False)])
    assert kept.table.num_rows == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<p>Fish &amp; chips<br>today</p>", "Fish & chips\ntoday"),
        ('<div class="m"><span>Hi</span></div>', "Hi"),
        ("<b>bold</b> and <a href='x'>link</a>", "bold and link"),
        ("x<script>track();</script>y<!-- note -->", "xy"),
        ("a&nbsp;b &#233; &eacute; &#x41;", "a\xa0b é é A"),
        ("half a tag</p>", "half a tag"),
    ],
)
def test_html_goes(before: str, after: str) -> None:
    assert remove_html(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d: 5<6",
        "x <y> z and List<int> and Map<String, List<T>>",
        "if a<b>c then a <b and c> d",
        "so a<p and p>b",
        "48/2 = <<48/2=24>>24",
        "AT&T; R&D; a && b; f(&x); Q&A",
        "1 <2> 3 <= 4 >= 2 <- x -> y <email> <phone>",
        "```html\n<p>keep &amp; this</p>\n```",
        "use `<br>` and `&nbsp;` here",
        "```\n<div>unclosed fence",
    ],
)
def test_what_only_looks_like_html_stays(text: str) -> None:
    assert remove_html(text) == text


def test_code_stays_while_the_rest_is_cleaned() -> None:
    assert remove_html("<p>Use `<br>`</p>") == "Use `<br>`"


@given(st.text(alphabet=string.ascii_letters + string.digits + " .,<>=+-*/()\n", max_size=60))
def test_html_step_never_touches_text_without_a_known_tag(text: str) -> None:
    # Known names need a letter right behind the bracket.
    spaced = text.replace("<", "< ")
    assert remove_html(spaced) == spaced


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  Where   is it?  ", "Where is it?"),
        ("a\u00a0b\u2009c", "a b c"),
        ("a  \nb\n\n\n\nc", "a\nb\n\nc"),
        ("def f():\n    x  = 1\n    return  x", "def f():\n    x  = 1\n    return  x"),
        ("```\na   b\n```  c   d", "```\na   b\n``` c d"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
    ],
)
def test_whitespace(before: str, after: str) -> None:
    assert normalize_spaces(before) == after


@given(st.text(alphabet="ab \t\n\r\u00a0`", max_size=40))
def test_tidying_twice_is_tidying_once(text: str) -> None:
    once = normalize_spaces(text)
    assert normalize_spaces(once) == once


# IBAN examples of the SWIFT registry; card numbers that issuers publish for tests.
IBANS = ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NO9386011117947"]
CARDS = ["4111 1111 1111 1111", "5555555555554444", "3782-822463-10005", "6011111111111117", "3530111333300000"]
PHONES = [
    "+44 20 7946 0958",
    "+1 202-555-0143",
    "(202) 555-0143",
    "202-555-0143",
    "+49 (0)30 123456",
    "07700 900123",
    "0044 20 7946 0958",
    "+4915112345678",
]


@pytest.mark.parametrize("value", IBANS)
def test_ibans(value: str) -> None:
    assert is_iban(value)
    assert replace_personal(f"to {value} please") == "to <iban> please"
    assert replace_personal(f"({value}).") == "(<iban>)."
    wrong = value[:-1] + str((int(value[-1]) + 1) % 10)
    assert not is_iban(wrong)
    assert "<iban>" not in replace_personal(wrong)


@pytest.mark.parametrize("value", CARDS)
def test_cards(value: str) -> None:
    assert is_card(value)
    assert replace_personal(f"card {value}.") == "card <card>."
    wrong = value[:-1] + str((int(value[-1]) + 1) % 10)
    assert not is_card(wrong)
    assert "<card>" not in replace_personal(wrong)


def test_luhn_against_its_textbook_example() -> None:
    # 7992739871 with check digit 3, from the description of the algorithm.
    assert [digit for digit in "0123456789" if passes_luhn("7992739871" + digit)] == ["3"]


@pytest.mark.parametrize("value", PHONES)
def test_phones(value: str) -> None:
    assert replace_personal(f"Call {value}, please") == "Call <phone>, please"
    assert replace_personal(f"It is {value}.") == "It is <phone>."


def test_a_bare_number_is_a_phone_only_after_a_word_that_says_so() -> None:
    assert replace_personal("my phone number is 5551234567") == "my phone number is <phone>"
    assert replace_personal("order 5551234567") == "order 5551234567"


@pytest.mark.parametrize("value", ["a@b.co", "first.last+tag@mail.example.org", "x_1@sub-domain.example.com"])
def test_e_mails(value: str) -> None:
    assert replace_personal(f"Write to {value}.") == "Write to <email>."


@pytest.mark.parametrize(
    "text",
    [
        "order 113542617735902 and 00123842 and 00004587345",
        "on 2023-08-07 at 10:30, 12/11/2024, 1999-2003",
        "48/2 = 24, 3.14159265, 1,000,000.00, 2^10 - 1 = 1023",
        "version 1.2.3.4567, ISBN 978-3-16-148410-0",
        "@home and user@localhost and a @ b.com",
        "1234 5678 9012 3456",
        "the ratio 100 200 300 and 7 000 000 people",
        "def f(x): return x @ y",
    ],
)
def test_what_is_not_personal_stays(text: str) -> None:
    assert replace_personal(text) == text


def test_placeholders_survive_all_steps() -> None:
    steps: list[Cleaner] = [Pii(), Html(), Unicode(), Whitespace(), Pii()]
    rows = clean_rows(make(pair("me: a@b.co, +44 20 7946 0958", "4111 1111 1111 1111 DE89370400440532013000")), steps)
    assert texts(rows) == [["me: <email>, <phone>", "<card> <iban>"]]


def test_personal_data_reaches_neither_report_nor_quarantine() -> None:
    rows = make(pair("ann@example.org?", ""), pair("bob@example.org?", "yes"))
    out = clean_rows(rows, [Missing(), Pii()])
    assert out.dropped.num_rows == 1
    assert "example.org" not in str(out.dropped.to_pylist())
    assert "<email>" in str(out.dropped.to_pylist())
    assert "example.org" not in str(out.steps)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([("user", "a")], "no answer"),
        ([("assistant", "a")], None),
        ([("assistant", "...")], "empty text"),
        ([("system", "a"), ("assistant", "a"), ("user", "b")], "no prompt before the first answer"),
        (pair("", "a"), "empty prompt"),
        (pair("?!", "a"), "empty prompt"),
        (pair("a", " \n"), "empty answer"),
        (pair("a", "..."), "empty answer"),
        (pair("a", "–"), "empty answer"),
        ([*pair("a", "b"), ("user", ""), ("assistant", "c")], "empty prompt"),
        (pair("a", "👍"), None),
        (pair("a", "="), None),
        (pair("a", "0"), None),
        ([("user", "a"), ("assistant", "b"), ("tool", ""), ("assistant", "c")], None),
    ],
)
def test_missing(turns: Turns, reason: str | None) -> None:
    rows = clean_rows(make(turns, pair("ok", "ok")), [Missing()])
    assert rows.steps[-1].reasons == ({reason: 1} if reason else {})


def test_turns_after_the_last_answer_are_cut_off() -> None:
    rows = clean_rows(make([*pair("a", "b"), ("user", "thanks")]), [Missing()])
    assert texts(rows) == [["a", "b"]]
    assert rows.steps[-1].changed == 1


def test_length_counts_characters() -> None:
    step = Length(min_prompt=3, min_answer=2, max_total=10)
    rows = make(
        pair("ab", "long"), pair("abc", "x"), pair("abc", "xy"), pair("abcde", "vwxyz"), pair("abcdef", "vwxyz")
    )
    out = clean_rows(rows, [step])
    assert texts(out) == [["abc", "xy"], ["abcde", "vwxyz"]]
    assert out.steps[-1].reasons == {
        "answer shorter than 2 characters": 1,
        "longer than 10 characters": 1,
        "prompt shorter than 3 characters": 1,
    }


def test_labels_get_one_spelling_and_the_answer_follows() -> None:
    rows = make(
        pair("a", "Cancel-Order"),
        pair("b", "text"),
        pair("c", "x"),
        pair("d", "x"),
        labels=["Cancel-Order", "cancel order", "stop_it", None],
    )
    out = clean_rows(rows, [Labels(aliases={"Stop it": "cancel_order"})])
    assert out.table["label"].to_pylist() == ["cancel_order", "cancel_order", "cancel_order", None]
    assert texts(out)[0] == ["a", "cancel_order"]
    assert texts(out)[1] == ["b", "text"]
    assert out.steps[-1].changed == 3
    assert out.steps[-1].notes == {"labels_merged": 2}


def test_unknown_labels_are_dropped_when_the_set_is_given() -> None:
    rows = make(pair("a", "b"), pair("c", "d"), pair("e", "f"), labels=["Yes", "maybe", None])
    out = clean_rows(rows, [Labels(allowed=("yes",))])
    assert out.table["label"].to_pylist() == ["yes", None]
    assert out.steps[-1].reasons == {"unknown label": 1}


DIFFERENT = [
    ("-1", "0", "1", "+1"), ("C", "C++", "C#"), ("A", "A+", "A-", "A*"), ("<", ">", "<=", "="), ("👍", "👎", "👍🏽"),
    ("1.0", "10", "1"), ("no", "nö"), ("+5%", "-5%", "5%"), ("!", "?", "_"), ("x+y", "x-y", "x y"), ("Maße", "Masse"),
    ("3-4", "34", "3/4"), ("की", "का"), ("order-1", "order 1", "order1"), ("½", "1/2"), ("$", "€"), ("e-mail", "email"),
]  # fmt: skip


@pytest.mark.parametrize("labels", DIFFERENT)
def test_labels_that_differ_in_a_sign_symbol_digit_or_accent_stay_apart(labels: tuple[str, ...]) -> None:
    rows = [pair(f"prompt {number}", label) for number, label in enumerate(labels)]
    out = clean_rows(make(*rows, labels=list(labels)), [Labels()])
    cleaned = out.table["label"].to_pylist()
    assert len(set(cleaned)) == len(labels)
    assert [answer for _, answer in texts(out)] == cleaned
    assert out.steps[-1].notes["labels_merged"] == 0


@pytest.mark.parametrize(
    "labels",
    [("Yes", "YES", " yes "), ("Cancel-Order", "cancel order", "cancel_order"), ("👍", "👍\ufe0f"), ("é", "e\u0301"),
     ("a\u00a0b", "A  B")],
)  # fmt: skip
def test_case_spaces_and_invisible_characters_make_one_label(labels: tuple[str, ...]) -> None:
    out = clean_rows(make(*[pair(f"p{n}", "x") for n in range(len(labels))], labels=list(labels)), [Labels()])
    assert len(set(out.table["label"].to_pylist())) == 1
    (listing,) = out.steps[-1].listings
    assert listing.heading == "Merged labels"


def test_labels_that_may_be_one_are_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    rows = make(pair("a", "x"), pair("b", "x"), pair("c", "x"), labels=["E-Mail", "email", "email"])
    out = clean_rows(rows, [Labels()])
    assert out.table["label"].to_pylist() == ["e-mail", "email", "email"]
    (listing,) = out.steps[-1].listings
    assert listing.rows == (('"email" (2 rows), "e-mail" (1 rows)', 'aliases: {"e-mail": "email"}'),)
    assert "may be one label" in caplog.text
    merged = clean_rows(rows, [Labels(aliases={"e-mail": "email"})])
    assert set(merged.table["label"].to_pylist()) == {"email"}
    assert "Labels that look alike" not in {listing.heading for listing in merged.steps[-1].listings}


def test_answers_keep_the_spelling_that_their_prompts_list() -> None:
    listed = pair("Cancel-Order or Track-Order: where is it?", "Track-Order")
    rows = make(listed, pair("stop it", "Cancel-Order"), labels=["Track-Order", "Cancel-Order"])
    out = clean_rows(rows, [Labels()])
    assert out.table["label"].to_pylist() == ["track_order", "cancel_order"]
    assert [answer for _, answer in texts(out)] == ["Track-Order", "Cancel-Order"]
    assert out.steps[-1].notes["answers_left"] == 2


def test_aliases_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="stop is mapped to cancel and halt"):
        Labels(aliases={"Stop": "cancel", "stop": "halt"})


def test_a_text_that_is_a_label_names_it() -> None:
    read = LabelReader(["C", "C++", "-1", "1", "yes", "👍", "👎", "A", "book_room", ":)"]).read
    named = {"C++": "C++", "c++.": "C++", "**C**": "C", "1.": "1", "-1": "-1", "Yes!": "yes", "👎": "👎", "(a)": "A",
             " Book  Room. ": "book_room", ":)": ":)"}  # fmt: skip
    assert {text: read(text) for text in named} == named
    assert [read(text) for text in ("C#", "+1", "A+", ":(", "", "no", "C or C++")] == [None] * 7
    assert LabelReader(["yes", "Yes"]).read("Yes") == "Yes"
    assert LabelReader(["yes", "Yes"]).read("YES") is None


@given(st.text(max_size=20))
def test_normalising_a_label_twice_is_once(label: str) -> None:
    once = normalise_label(label)
    assert normalise_label(once) == once


def test_rows_are_counted_not_turns_and_an_example_is_kept() -> None:
    rows = clean_rows(make(pair("<p>a</p>", "<p>b</p>"), pair("c", "d")), [Html()])
    step = rows.steps[-1]
    assert (step.rows_in, step.rows_out, step.changed) == (2, 2, 1)
    assert step.examples[0] == ("<p>a</p>", "a")


def test_nothing_left_is_one_clear_error() -> None:
    with pytest.raises(PipelineError, match=r"step missing dropped the last of 1 rows \(empty answer\)"):
        clean_rows(make(pair("a", "")), [Missing()])


def test_cleaning_clean_text_changes_nothing() -> None:
    rng = random.Random(3)
    words = ["where", "is", "my", "order", "could", "you", "send", "the", "invoice", "again", "thanks"]
    plain = [pair(" ".join(rng.choices(words, k=8)) + "?", " ".join(rng.choices(words, k=9)) + ".") for _ in range(50)]
    steps: list[Cleaner] = [Unicode(), Html(), Pii(), Whitespace(), Missing(), Length(), Labels()]
    rows = clean_rows(make(*plain), steps)
    assert texts(rows) == [[text for _, text in turns] for turns in plain]
    assert all(step.changed == 0 for step in rows.steps)
