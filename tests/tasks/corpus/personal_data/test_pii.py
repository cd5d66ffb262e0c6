"""Personal data: what finders find, and what stands there afterwards in each mode."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from benchmarks.pii import compare, is_covered, read_marked
from tasks.contracts.errors import PipelineError
from tasks.contracts.records import MESSAGES
from tasks.corpus.personal_data.found import Found, put, read_plainly
from tasks.corpus.personal_data.identifiers import find_plain, is_address, is_card, is_iban, replace_personal
from tasks.corpus.personal_data.patterns import Patterns
from tasks.corpus.personal_data.pii import KEY, Pii
from tasks.corpus.personal_data.presidio import NATIONAL, Country, Presidio, merge
from tasks.corpus.personal_data.surrogates import make_surrogate, replace
from tasks.corpus.personal_data.treatments import Pseudonyms, plain_value
from tasks.corpus.rows.leaves import visit_texts
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.params import DataPreparation
from tests.conversations import make, pair, texts

REAL = Path(os.environ.get("HEPTUNE_REAL_DATA", "/nonexistent"))
SECRET = SecretStr("sixteen characters or more")
ANN, BOB = "ann@example.org", "bob@example.org"


def presidio(**params: Any) -> Presidio:
    pytest.importorskip("presidio_analyzer", reason="the extra pii is not installed")
    return Presidio(**params)


def kinds(text: str, finder: Presidio | Patterns) -> list[tuple[str, str]]:
    return [(text[start:end], kind) for start, end, kind in finder.find([text])[0]]


@pytest.fixture(scope="module")
def spacy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spaCy pipeline that knows a few names and places by heart."""
    spacy = pytest.importorskip("spacy", reason="the extra pii is not installed")
    nlp = spacy.blank("en")
    known = {
        "PERSON": ["Ann Lee", "Ann", "Lee", "Bob Stone"],
        "GPE": ["Lisbon", "Oslo"],
        "ORG": ["Acme"],
    }
    nlp.add_pipe("entity_ruler").add_patterns(
        [{"label": label, "pattern": name} for label, names in known.items() for name in names]
    )
    folder = tmp_path_factory.mktemp("spacy") / "names"
    nlp.to_disk(folder)
    return folder


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("josé@bücher.example wrote", ["josé@bücher.example"]),
        ("o'brien+x@mail.example, a&b@c.example", ["o'brien+x@mail.example", "b@c.example"]),
        ("iban gb42nawi04454264788619.", ["gb42nawi04454264788619"]),
        ("0490 39 07 81 or 03.93.92.16.85", ["0490 39 07 81", "03.93.92.16.85"]),
        ("345-899-3560x4587, (202) 555-0143 ext. 12", ["345-899-3560x4587", "(202) 555-0143 ext. 12"]),
        ("Office,07700 063 966", ["07700 063 966"]),
        ("on 01.02.2023 or 01-02-2023, at 08.30 and 1,000,000", []),
        ("039bde62454578187633082e4569b4b", []),
        ("card4111111111111111", ["4111111111111111"]),
        ("dates 2023-10-10 2023-11-11 and 12 of 34 of 56", []),
    ],
)
def test_patterns(text: str, found: list[str]) -> None:
    assert [text[each.start : each.end] for each in find_plain(text)] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from 81.2.69.142, 2001:db8:85a3::8a2e:370:7334.", ["81.2.69.142", "2001:db8:85a3::8a2e:370:7334"]),
        ("at 81.2.69.142:8080 and ::ffff:81.2.69.142", ["81.2.69.142", "::ffff:81.2.69.142"]),
        ("127.0.0.1, 0.0.0.0, ::1, 256.1.1.1, 1.2.3, 1.2.3.4.5", []),
        ("at 10:30:45, std::vector, a::b, 3.11.2, v1.2.3.4", []),
    ],
)
def test_addresses(text: str, found: list[str]) -> None:
    assert [text[each.start : each.end] for each in find_plain(text, ("ip",))] == found
    assert Patterns().find([text]) == [[]]


@pytest.mark.parametrize(
    "text",
    [
        "What comes next: 01 02 03 04 05?",
        "01 02 04 08 16 and 01 01 02 03 05 08",
        "The sequence 02 03 05 07 11 goes on",
        "WHERE id = 0123 4567 890",
        "SELECT * FROM t WHERE a > 012 345 6789",
        "What is 0123 4567 890 + 5?",
        "The sum of 012 345 6789 and 3",
        "012 345 6789 | 013 345 6789",
        "assert f(0123 4567 890) == 1",
        "x = [012, 0345 678 901]",
        "order 0490 39 07 81, ISBN 0306 406 152",
        "took 3859746 6364065 bytes",
        "@@ -1234,7 +1234,7 @@",
        "git clone git@github.com:org/repo.git",
        "git remote add origin ssh://git@host.example.com:22/x.git",
        "postgres://reader@db.example.com/support",
        "ssh -p 22 root@host.example.com",
        "scp a.txt deploy@web.example.org:/var/www",
        "logo@2x.png, getty@tty1.service, y = x@w.transpose()",
    ],
)
def test_numbers_and_addresses_of_other_kinds_stay(text: str) -> None:
    assert [text[each.start : each.end] for each in find_plain(text)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("请联系ann@example.org谢谢", ["ann@example.org"]),
        ("メールはann@example.orgです", ["ann@example.org"]),
        ("ann@example.org로 보내", ["ann@example.org"]),
        ("ติดต่อann@example.comครับ", ["ann@example.com"]),
        ("用户@例子.中国", ["用户@例子.中国"]),
        ("电话13800138000,手机号码是13900139000", ["13800138000", "13900139000"]),
        ("携帯は090-1234-5678です", ["090-1234-5678"]),
        ("전화 010-1234-5678로", ["010-1234-5678"]),
        ("卡号4111111111111111谢谢", ["4111111111111111"]),
        ("账号DE89370400440532013000。", ["DE89370400440532013000"]),
        ("IP是81.2.69.142吗", ["81.2.69.142"]),
        ("电话89 37 13, call 89 37 13", ["89 37 13", "89 37 13"]),
        ("phone_number = '0490 39 07 81'", ["0490 39 07 81"]),
        ("+44 20 7946 0958 ext. 123456", ["+44 20 7946 0958 ext. 123456"]),
        ("DE89 3704 0044 0532 0130 00 DE89 3704 0044 0532 0130 00", ["DE89 3704 0044 0532 0130 00"] * 2),
        ("+447700900123 +447700900124", ["+447700900123", "+447700900124"]),
        ("Signed-off-by: Ann <ann@x.org>, https://x.com/?m=bo@y.org", ["ann@x.org", "bo@y.org"]),
    ],
)
def test_what_stands_beside_other_scripts_and_words_is_found_whole(text: str, found: list[str]) -> None:
    kinds = ("email", "phone", "iban", "card", "ip")
    assert [text[each.start : each.end] for each in find_plain(text, kinds)] == found
    assert Patterns(kinds=kinds).screen(pa.array([text])).to_pylist() == [True]


@given(st.text(alphabet="ab1+@. -\u200b\u00ad\uff11\u00a0\\nu0031&#64;%é", max_size=40))
def test_finds_lie_in_the_text_in_order_and_reading_is_the_identity_on_plain_text(text: str) -> None:
    found = find_plain(text)
    assert all(0 <= each.start < each.end <= len(text) for each in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    seen: list[str] = []
    read_plainly("plain text, nothing odd", lambda plain: seen.append(plain) or [])  # type: ignore[func-returns-value]
    assert seen == ["plain text, nothing odd"]


@pytest.mark.parametrize("odd", ["\u200b", "\u00ad", "\u200d", "\u2060"])
def test_what_cannot_be_seen_hides_nothing(odd: str) -> None:
    assert replace_personal(f"to {odd.join(ANN)}, please") == "to <email>, please"


def test_replacing_twice_is_replacing_once() -> None:
    once = replace_personal(f"{ANN}, +44 20 7946 0958, 4111 1111 1111 1111, DE89370400440532013000")
    assert once == "<email>, <phone>, <card>, <iban>"
    assert replace_personal(once) == once


def test_surrogates_are_the_same_within_a_row_and_others_in_the_next() -> None:
    turns = [*pair(f"I am {ANN}, not {BOB}", f"Hello {ANN.upper()}!"), *pair("And +44 20 7946 0958?", "+442079460958")]
    other = pair(f"Somebody called {ANN} wrote", "So?")
    rows = clean_rows(make(turns, other), [Pii(mode="replace")])
    first, second = texts(rows)
    ann, bob = re.findall(r"\S+@example\.com", first[0])
    assert ann.rstrip(",") != bob
    assert first[1] == f"Hello {ann.rstrip(',')}!"
    assert first[2] == f"And {first[3]}?"
    assert re.fullmatch(r"\+1 \d{3}-555-01\d{2}", first[3])
    assert ann.rstrip(",") not in second[0]
    again = clean_rows(make(turns, other), [Pii(mode="replace")])
    assert texts(again) == texts(rows)


def test_a_surrogate_says_nothing_about_the_value() -> None:
    one, other = (replace([(f"me: {value}", find_plain(f"me: {value}"))]) for value in (ANN, BOB))
    assert one == other


@given(st.integers(0, 2**64), st.sampled_from(["email", "phone", "iban", "card", "ip", "national_id", "place"]))
def test_surrogates_are_of_their_kind(number: int, kind: Any) -> None:
    made = make_surrogate(kind, number)
    check = {
        "email": lambda: made.endswith("@example.com") and find_plain(made) == [Found(0, len(made), "email")],
        "phone": lambda: "-555-01" in made and find_plain(made) == [Found(0, len(made), "phone")],
        "iban": lambda: is_iban(made),
        "card": lambda: is_card(made),
        "ip": lambda: is_address(made),
        "national_id": lambda: "987-65-4320" <= made <= "987-65-4329",
        "place": lambda: made.isascii() and made[0].isupper(),
    }
    assert check[kind]()
    assert make_surrogate(kind, number + 1) != made


def test_a_name_stays_one_person_whether_whole_or_in_part() -> None:
    def named(text: str) -> tuple[str, list[Found]]:
        spans = [m.span() for m in re.finditer(r"Ann Lee|Bob Stone|Ann|Lee", text)]
        return text, [Found(*span, "name") for span in spans]

    first, second, third = replace([named("Ann met Bob Stone."), named("Ann Lee, is it?"), named("Yes, Lee.")])
    ann, rest = first.split(" met ")
    given, family = second.removesuffix(", is it?").split()
    assert (given, family) == (ann, third[5:-1])
    assert len({given, family, *rest.rstrip(".").split()}) == 4


def test_hash_is_a_keyed_hash_and_the_same_everywhere() -> None:
    rows = clean_rows(
        make(pair(f"I am {ANN}", "ok"), pair(f"{ANN.upper()} and {BOB}", "ok")), [Pii(mode="hash")], SECRET
    )
    digest = hmac.new(SECRET.get_secret_value().encode(), b"email:ann@example.org", hashlib.sha256).hexdigest()[:12]
    letters = digest.translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))
    assert texts(rows)[0][0] == f"I am <email:{letters}>"
    assert texts(rows)[1][0].startswith(f"<email:{letters}> and <email:")
    assert texts(rows)[1][0].count(letters) == 1
    other = clean_rows(make(pair(f"I am {ANN}", "ok")), [Pii(mode="hash")], SecretStr("another key, long enough"))
    assert letters not in str(texts(other))
    assert SECRET.get_secret_value() not in str(rows)


def test_a_pseudonym_is_taken_for_nothing_else() -> None:
    hashed = [Pseudonyms(b"k").name(f"{number}", "phone") for number in range(200)]
    assert [text for text in hashed if find_plain(f"call {text} now", ("email", "phone", "iban", "card", "ip"))] == []


def test_hash_refuses_a_missing_a_short_and_another_key() -> None:
    rows = make(pair(f"I am {ANN}", "ok"))
    for key in (None, SecretStr(""), SecretStr("short")):
        with pytest.raises(PipelineError, match=f"16 characters or more in the environment variable {KEY}, found"):
            clean_rows(rows, [Pii(mode="hash")], key)
    listing = clean_rows(rows, [Pii(mode="hash")], SECRET).steps[-1].listings[0]
    right = listing.note.split()[-1].rstrip(".")
    clean_rows(rows, [Pii(mode="hash", key_id=right)], SECRET)
    with pytest.raises(PipelineError, match=f"holds the key {right}, key_id names 00000000; set the right key"):
        clean_rows(rows, [Pii(mode="hash", key_id="00000000")], SECRET)


def test_drop_says_why_and_shows_nothing() -> None:
    rows = clean_rows(make(pair(f"I am {ANN}", "+44 20 7946 0958"), pair("hello", "there")), [Pii(mode="drop")])
    assert texts(rows) == [["hello", "there"]]
    assert rows.steps[-1].reasons == {"personal data (email, phone)": 1}
    assert "<email>" in str(rows.dropped.to_pylist())
    assert ANN not in str(rows)


@pytest.mark.parametrize("mode", ["redact", "replace"])
def test_labels_and_other_answers_are_texts_of_the_row(mode: Any) -> None:
    table = make(pair(f"I am {ANN}", f"Hello {ANN}"), labels=[f"from {ANN}"]).table
    others = [[{"turns": [{"role": "assistant", "content": f"Go away, {ANN}"}], "score": 0.0}]]
    answers = pa.array(others, pa.list_(pa.struct([("turns", MESSAGES), ("score", pa.float64())])))
    done = Pii(mode=mode).clean(table.append_column("answers", answers).append_column("column:user", [[ANN]]))
    row = done.table.to_pylist()[0]
    (stands,) = {text.split()[-1] for text in (row["messages"][0]["content"], row["label"])}
    assert row["messages"][1]["content"] == f"Hello {stands}"
    assert row["answers"][0]["turns"][0]["content"] == f"Go away, {stands}"
    assert row["answers"][0]["score"] == 0.0
    assert row["column:user"] == ANN
    assert done.notes == {"found_email": 4}
    assert done.changed == 1


def test_texts_are_found_however_deep_and_put_back_where_they_were() -> None:
    deep = pa.list_(pa.struct([("role", pa.string()), ("parts", pa.list_(pa.string())), ("n", pa.int64())]))
    column = pa.array(
        [[{"role": "a", "parts": ["x", None], "n": 1}], None, [], [None, {"role": "b", "parts": None, "n": None}]] * 2,
        deep,
    ).slice(1, 6)
    seen: list[tuple[str | None, int]] = []

    def shout(array: pa.Array, owners: Any) -> pa.Array:
        seen.extend(zip(array.to_pylist(), owners.tolist(), strict=True))
        return pa.array([t and t.upper() for t in array.to_pylist()], array.type)

    out = visit_texts(column, shout)
    assert seen == [("x", 3), (None, 3)]
    assert out.to_pylist()[3] == [{"role": "a", "parts": ["X", None], "n": 1}]
    assert visit_texts(column, lambda array, _: array).equals(column)
    assert visit_texts(pa.array([1, 2]), shout).to_pylist() == [1, 2]


def test_presidio_finds_what_the_patterns_do_and_national_ids() -> None:
    finder = presidio()
    text = f"I am {ANN}, SSN 536-90-4399, NHS number 943 476 5919, from 81.2.69.142, GB82WEST12345698765432"
    assert kinds(text, finder) == [
        (ANN, "email"),
        ("536-90-4399", "national_id"),
        ("943 476 5919", "national_id"),
        ("81.2.69.142", "ip"),
        ("GB82WEST12345698765432", "iban"),
    ]
    assert kinds("Ann Lee lives in Lisbon.", finder) == []
    assert kinds(text, presidio(kinds=("email",))) == [(ANN, "email")]
    assert ("91 1234 5678 9012", "national_id") not in kinds("on 91 1234 5678 9012", finder)


@pytest.mark.parametrize("country", sorted(NATIONAL))
def test_every_country_has_its_recognisers(country: Country) -> None:
    example = {"fi": "131052-308T", "de": "86095742719", "pl": "44051401359", "se": "811228-9874"}.get(country)
    finder = presidio(countries=(country,), kinds=("national_id",))
    assert finder.find(["nothing here"]) == [[]]
    if example:
        assert [kind for _, kind in kinds(f"passport or id: {example}", finder)] == ["national_id"]


def test_presidio_with_a_model_finds_names_and_places(spacy_model: Path) -> None:
    finder = presidio(spacy_model=str(spacy_model))
    assert kinds("Ann Lee of Acme moved to Lisbon.", finder) == [("Ann Lee", "name"), ("Lisbon", "place")]
    rows = make(pair("I am Ann Lee from Oslo.", "Hello Ann! Is Oslo cold, Ms Lee?"), pair("hi there", "x"))
    out = clean_rows(rows, [Pii(mode="replace", finder=finder)])
    question, answer = texts(out)[0]
    given, family, place = re.fullmatch(r"I am (\w+) (\w+) from (.+)\.", question).groups()  # type: ignore[union-attr]
    assert answer == f"Hello {given}! Is {place} cold, Ms {family}?"
    assert not {"Ann", "Lee", "Oslo"} & {given, family, place}
    redacted = clean_rows(rows, [Pii(finder=finder)])
    assert texts(redacted)[0] == ["I am <name> from <place>.", "Hello <name>! Is <place> cold, Ms <name>?"]
    assert texts(redacted)[1] == ["hi there", "x"]


def test_presidio_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="name cannot be found without spacy_model"):
        Presidio(kinds=("name",))
    with pytest.raises(PipelineError, match="no spaCy model en_core_web_xx; install it"):
        presidio(spacy_model="en_core_web_xx").find(["a"])
    spacy = pytest.importorskip("spacy")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(PipelineError, match="tells none of FAC, GPE, LOC, PER, PERSON"):
        presidio(spacy_model=str(tmp_path / "blank")).find(["a"])


def test_presidio_survives_odd_texts() -> None:
    odd = ["", " ", "\x00", "\\ud83d\\ude00 5", "😀 1", "a\u200b" * 30 + "1", "\n\n1", "١٢٣", "1" * 2000]
    assert len(presidio().find(odd)) == len(odd)


def test_what_overlaps_is_one_find() -> None:
    pairs = [
        (0.4, Found(0, 5, "phone")),
        (0.9, Found(3, 9, "card")),
        (0.9, Found(20, 22, "ip")),
        (0.9, Found(22, 25, "ip")),
    ]
    assert merge(pairs) == [Found(0, 9, "card"), Found(20, 22, "ip"), Found(22, 25, "ip")]
    assert merge(pairs[::-1]) == merge(pairs)


@pytest.mark.slow
def test_presidio_gives_the_same_in_every_process() -> None:
    presidio()
    code = (
        "from tasks.corpus.personal_data.presidio import Presidio;"
        "print(Presidio().find(['call 905-674-3793, SSN 536-90-4399, A1234567, 4111111111111111']))"
    )
    outs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outs) == 1


def test_pii_stands_behind_what_brings_text_to_light() -> None:
    names = [{"name": name} for name in ("unicode", "html", "pii", "whitespace", "missing")]
    with pytest.raises(ValidationError, match="cleaning has whitespace after pii"):
        DataPreparation.model_validate({"cleaning": names})
    DataPreparation.model_validate({"cleaning": [*names, {"name": "pii"}]})


def test_values_are_compared_without_their_spelling() -> None:
    assert plain_value("+44 (20) 7946-0958", "phone") == "442079460958"
    assert plain_value("de89 3704 0044", "iban") == "DE8937040044"
    assert plain_value("Ann  LEE", "name") == "ann lee"
    assert put("a b c", [Found(0, 1, "ip"), Found(4, 5, "ip")], lambda value, kind: f"{kind}{value}") == "ipa b ipc"


def test_recall_and_precision_by_hand() -> None:
    marked = [[Found(0, 5, "email"), Found(10, 15, "phone")], [Found(0, 3, "name")]]
    found = [[Found(0, 5, "email"), Found(10, 14, "phone")], [Found(1, 2, "email")]]
    table = {kind: figures for kind, *figures in compare(marked, found)}
    assert table["email"] == [1, 2, 1.0, 0.5]
    assert table["phone"] == [1, 1, 0.0, 1.0]
    assert table["name"] == [1, 0, 0.0, None]
    assert is_covered(Found(0, 4, "name"), [Found(0, 2, "ip"), Found(2, 4, "ip")])


@pytest.mark.skipif(not (REAL / "presidio_pii").exists(), reason="HEPTUNE_REAL_DATA has no presidio_pii")
def test_patterns_on_marked_sentences() -> None:
    sentences, marked = read_marked(REAL / "presidio_pii/synth_dataset_v2.json")
    found = Patterns(kinds=("email", "phone", "iban", "card", "ip")).find(sentences)
    recall = {kind: figures[2] for kind, *figures in compare(marked, found)}
    precision = {kind: figures[3] for kind, *figures in compare(marked, found)}
    assert {kind: recall[kind] for kind in ("email", "iban", "ip")} == {"email": 1.0, "iban": 1.0, "ip": 1.0}
    assert recall["card"] >= 0.99  # type: ignore[operator]
    assert recall["phone"] >= 0.92  # type: ignore[operator]
    assert all(value in (None, 1.0) for value in precision.values())
