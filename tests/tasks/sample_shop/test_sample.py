"""The sample: its size and spread, its determinism, and that every planted defect and drift is where the truth says."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.sample import Sample
from tasks.sample_shop.conversations import DuplicateFilter, generate_conversation, jaccard, shingles
from tasks.sample_shop.dirt import COPIES, LEAK_BAND, NEAR_BAND, SHARES, luhn_digit
from tasks.sample_shop.drift import ELECTRIC_CORES, KINDS, NEW_INTENTS, SHIFTED, talk_slang
from tasks.sample_shop.grammar import DETAILS_AFTER, alternatives, expand, phrase, scribble
from tasks.sample_shop.intents import BY_NAME, FOLLOW_UPS, INTENTS, WEIGHTS
from tasks.sample_shop.sample import SampleData, generate_sample
from tasks.sample_shop.slots import DRAW, ELECTRIC, LINES
from tasks.sample_shop.traffic import SampleTraffic, generate_traffic
from tests.checkout import ROOT

Row = dict[str, object]
Key = tuple[tuple[str, str], ...]


@cache
def sample() -> SampleData:
    return generate_sample(1800, seed=11)


@cache
def sample_rows() -> list[Row]:
    return sample().table.to_pylist()


def turns(row: Row) -> list[dict[str, str]]:
    return row["messages"]  # type: ignore[return-value]


def key(row: Row) -> Key:
    return tuple((turn["role"], turn["content"]) for turn in turns(row))


def all_text(row: Row) -> str:
    return "\n".join(turn["content"] for turn in turns(row))


def words_of(text: str) -> list[str]:
    return re.findall(r"\d+\.\d\d|[\w-]+", text)


def planted_rows() -> set[int]:
    return {row for rows in sample().truth.dirt.values() for row in rows}


def clean_rows() -> dict[int, Row]:
    return {n: row for n, row in enumerate(sample_rows(), 1) if n not in planted_rows()}


def ascii_bytes(data: SampleData) -> bytes:
    return orjson.dumps(data.table.to_pylist())


# ---------------------------------------------------------------- size and spread


def test_default_is_at_least_6000_rows_of_44_intents() -> None:
    data = generate_sample(Sample().rows, Sample().seed)
    assert data.table.num_rows == 6000 + sum(round(6000 * share) for share in SHARES.values())
    counts = Counter(data.table["intent"].to_pylist())
    assert set(counts) == set(data.truth.intents) == set(BY_NAME)
    assert len(counts) == 44
    assert min(counts.values()) > 60


def test_plugin_reads_what_the_generator_makes(tmp_path: Path) -> None:
    table = generate_sample(40, 3, dirt=False).table
    (part,) = Sample(rows=40, seed=3, dirt=False).read(tmp_path).parts
    assert part.items == table.to_pylist()
    assert table.num_rows == 40
    assert table.schema.names == ["messages", "intent"]
    assert table.schema.field("messages").type.value_type == pa.struct({"role": pa.string(), "content": pa.string()})


def test_shares_of_system_and_multi_turn_rows() -> None:
    rows = list(clean_rows().values())
    asked = [sum(turn["role"] == "user" for turn in turns(row)) for row in rows]
    assert 0.12 < sum(n > 1 for n in asked) / len(rows) < 0.18
    assert {1, 2, 3} == set(asked)
    assert 0.07 < sum(turns(row)[0]["role"] == "system" for row in rows) / len(rows) < 0.13


def test_roles_alternate_and_end_with_an_answer_of_12_to_35_words() -> None:
    for row in clean_rows().values():
        roles = "".join(turn["role"][0] for turn in turns(row))
        assert re.fullmatch(r"s?(ua)+", roles), roles
        for turn in turns(row):
            assert turn["content"].strip()
            assert "{" not in turn["content"]
            assert "(" not in turn["content"]
            assert "|" not in turn["content"]
            if turn["role"] == "assistant":
                assert 12 <= len(turn["content"].split()) <= 35


def test_every_intent_is_asked_in_at_least_eight_ways() -> None:
    for intent in INTENTS:
        assert len(set(intent.cores)) >= 8, intent.name


def test_clean_rows_are_all_different_and_mostly_new_words_together() -> None:
    rows = list(clean_rows().values())
    assert len({key(row) for row in rows}) == len(rows)
    first = [turns(row)[-2]["content"].lower() for row in rows if len(turns(row)) == 2]
    masked = Counter(re.sub(r"\S*\d\S*", "#", text) for text in first)
    assert max(masked.values()) <= 3


# ---------------------------------------------------------------- determinism


def test_same_seed_same_rows_other_seed_other_rows() -> None:
    assert ascii_bytes(generate_sample(300, 5)) == ascii_bytes(generate_sample(300, 5))
    assert generate_sample(300, 5).truth == generate_sample(300, 5).truth
    assert ascii_bytes(generate_sample(300, 5)) != ascii_bytes(generate_sample(300, 6))


def test_rows_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "import hashlib, orjson\n"
        "from tasks.sample_shop.sample import generate_sample\n"
        "from tasks.sample_shop.traffic import generate_traffic\n"
        "t = generate_traffic(60, 2, 0.5)\n"
        "rows = [generate_sample(120, 2).table.to_pylist(), t.prompts, t.answers, t.kinds]\n"
        "import sys; sys.stdout.write(hashlib.sha256(orjson.dumps(rows)).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop()) == 64


def test_dirt_leaves_the_clean_rows_as_they_are() -> None:
    without = {key(row) for row in generate_sample(1800, 11, dirt=False).table.to_pylist()}
    assert {key(row) for row in clean_rows().values()} == without


# ---------------------------------------------------------------- answers follow from the prompt


def test_answer_repeats_only_what_the_prompt_shows() -> None:
    for row in clean_rows().values():
        prompt = " ".join(turn["content"] for turn in turns(row)[:-1])
        answer = turns(row)[-1]["content"]
        for number in re.findall(r"\b[A-Z]\d{4}\b|\b[A-Z]{4,}\d{2}\b|\d+\.\d\d euros", answer):
            if number in ("6.90 euros", "3.50 euros", "7.50 euros"):
                continue  # fixed prices of the shop
            assert number in prompt, (number, row)


def test_same_intent_and_slots_give_the_same_answer() -> None:
    """Each intent's answers collapse to one or two patterns once what was copied from the prompt is masked."""
    patterns: dict[object, set[str]] = {}
    for row in clean_rows().values():
        prompt = set(words_of(" ".join(t["content"] for t in turns(row)[:-1] if t["role"] == "user")))
        intent = BY_NAME[str(row["intent"])]
        allowed = {answer for answer in (intent.answer, intent.other) if answer}
        answer = turns(row)[-1]["content"]
        fitting = [
            template
            for template in allowed
            if (found := re.fullmatch(re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(template)), answer))
            and all(word in prompt for value in found.groups() for word in re.findall(r"[\w.-]+", value.rstrip(".")))
        ]
        assert len(fitting) == 1, (answer, allowed)
        patterns.setdefault(row["intent"], set()).add(fitting[0])
    assert {name for name, seen in patterns.items() if len(seen) == 2} == {i.name for i in INTENTS if i.other}


@pytest.mark.parametrize(
    ("name", "slots", "start"),
    [
        ("warranty_claim", {"months": "22 months", "product": "slim oak stool"}, "The slim oak stool is covered"),
        ("warranty_claim", {"months": "26 months", "product": "slim oak stool"}, "After 26 months the warranty"),
        ("instalments", {"amount": "99.90 euros"}, "Sorry, 99.90 euros is below"),
        ("instalments", {"amount": "101.00 euros"}, "You can pay 101.00 euros in three"),
        ("payment_method", {"method": "cheque"}, "No, we do not take cheque"),
        ("payment_method", {"method": "credit card"}, "Yes, you can pay by credit card"),
        ("bulk_order", {"count": "40", "product": "tarp"}, "For 40 pieces of the tarp we offer 12"),
        ("bulk_order", {"count": "60", "product": "tarp"}, "For 60 pieces of the tarp we offer 18"),
    ],
)
def test_a_slot_of_the_prompt_decides_between_two_answers(name: str, slots: dict[str, str], start: str) -> None:
    assert BY_NAME[name].reply(slots).startswith(start)


def test_patterns_of_different_intents_differ() -> None:
    seen = [answer for intent in (*INTENTS, *NEW_INTENTS) for answer in (intent.answer, intent.other) if answer]
    assert len(set(seen)) == len(seen)
    for i, a in enumerate(seen):
        for b in seen[i + 1 :]:
            assert jaccard(shingles((("a", a),)), shingles((("a", b),))) < 0.5, (a, b)


def test_follow_ups_find_every_slot_they_need() -> None:
    for link in FOLLOW_UPS:
        needed = set(BY_NAME[link.later].slots)
        for earlier in link.earlier:
            for core in link.cores:
                named = set(re.findall(r"\{(\w+)\}", core))
                assert needed <= named | set(BY_NAME[earlier].slots), (earlier, link.later, core)
            assert set(BY_NAME[earlier].lines) & set(BY_NAME[link.later].lines)


def test_cores_show_every_slot_that_has_no_sentence_of_its_own() -> None:
    rng = random.Random(0)
    wordings = [(i, core) for i in (*INTENTS, *NEW_INTENTS) for core in i.cores]
    wordings += [(BY_NAME[name], core) for name, cores in ELECTRIC_CORES.items() for core in cores]
    for intent, core in wordings:
        assert set(re.findall(r"\{(\w+)\}", core)) <= set(intent.slots), core
        for _ in range(12):
            request = phrase(core, rng)
            assert request[-1] in ".?", request
            assert not re.search(r"  |[()|!~]| [.?,]", request), request
            for slot in set(intent.slots) - set(DETAILS_AFTER):
                assert "{" + slot + "}" in request, (intent.name, request)


# ---------------------------------------------------------------- the grammar


def test_alternatives_nest() -> None:
    assert alternatives("a (b|c (d|e)) f") == ("a ", ("b", "c (d|e)"), " f")
    rng = random.Random(1)
    assert {expand("a (b|c (d|e)) f", rng) for _ in range(200)} == {"a b f", "a c d f", "a c e f"}


@given(st.integers(0, 10_000), st.sampled_from(["formal", "plain", "casual", "sloppy"]))
@settings(max_examples=60, deadline=None)
def test_no_writer_ever_damages_a_slot(seed: int, register: str) -> None:
    text = "Where is my order {order}? Please send the {product} to {city}, thanks."
    rng = random.Random(seed)
    for written in (scribble(text, register, rng), talk_slang(text, rng)):
        assert re.findall(r"\{\w+\}", written) == ["{order}", "{product}", "{city}"]


@given(st.integers(0, 10_000), st.sampled_from(INTENTS))
@settings(max_examples=80, deadline=None)
def test_every_conversation_is_whole(seed: int, intent: object) -> None:
    talk = generate_conversation(intent, random.Random(seed))  # type: ignore[arg-type]
    assert talk.intent == intent.name  # type: ignore[attr-defined]
    assert talk.messages[-1][0] == "assistant"
    assert all(content for _, content in talk.messages)


def test_a_near_duplicate_is_rejected() -> None:
    talk = generate_conversation(INTENTS[0], random.Random(4))
    duplicates = DuplicateFilter()
    assert duplicates.accept(talk)
    assert not duplicates.accept(talk)


# ---------------------------------------------------------------- planted defects


def test_each_kind_is_planted_as_often_as_its_share_says() -> None:
    truth = sample().truth
    assert {kind: len(rows) for kind, rows in truth.dirt.items()} == {k: round(1800 * s) for k, s in SHARES.items()}
    assert sum(map(len, truth.dirt.values())) == len(planted_rows())
    assert generate_sample(100, 11, dirt=False).truth.dirt == {}


def test_copies_point_at_clean_rows_each_at_another() -> None:
    truth = sample().truth
    assert set(truth.copies) == {row for kind in COPIES for row in truth.dirt[kind]}
    assert len(set(truth.copies.values())) == len(truth.copies)
    assert not set(truth.copies.values()) & planted_rows()


def test_exact_duplicates_are_equal() -> None:
    rows, truth = sample_rows(), sample().truth
    for number in truth.dirt["exact_duplicate"]:
        assert rows[number - 1] == rows[truth.copies[number] - 1]


@pytest.mark.parametrize(("kind", "band"), [("near_duplicate", NEAR_BAND), ("leak", LEAK_BAND)])
def test_edited_copies_are_alike_within_their_band(kind: str, band: tuple[float, float]) -> None:
    rows, truth = sample_rows(), sample().truth
    for number in truth.dirt[kind]:
        copy, source = rows[number - 1], rows[truth.copies[number] - 1]
        assert copy["messages"] != source["messages"]
        assert copy["intent"] == source["intent"]
        assert turns(copy)[-1] == turns(source)[-1]
        assert band[0] <= jaccard(shingles(key(copy)), shingles(key(source))) <= band[1]


def test_no_two_clean_rows_are_as_alike_as_planted_copies() -> None:
    """Compared through an inverted index over all pairs, not through the generator's own filter."""
    rows = [shingles(key(row)) for row in clean_rows().values()]
    index: dict[tuple[str, ...], list[int]] = {}
    for number, mine in enumerate(rows):
        shared = Counter(other for shingle in mine for other in index.get(shingle, ()))
        for other, count in shared.items():
            assert count / (len(mine) + len(rows[other]) - count) < min(NEAR_BAND[0], LEAK_BAND[0])
        for shingle in mine:
            index.setdefault(shingle, []).append(number)


def luhn_holds(digits: str) -> bool:
    doubled = [sum(divmod(2 * int(d), 10)) if i % 2 else int(d) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def test_luhn_digit_of_the_standard_example() -> None:
    assert luhn_digit("7992739871") == "3"


def test_pii_is_valid_and_is_all_that_was_added() -> None:
    rows, truth = sample_rows(), sample().truth
    kinds = Counter()  # type: Counter[str]
    for number in truth.dirt["pii"]:
        kind, value = truth.detail[number].split(":", 1)
        kinds[kind] += 1
        assert value in all_text(rows[number - 1])
        assert value not in "\n".join(turn["content"] for turn in truth.clean[number])
        if kind == "card":
            digits = value.replace(" ", "")
            assert len(digits) == 16
            assert luhn_holds(digits)
        elif kind == "iban":
            text = value.replace(" ", "")
            moved = "".join(str(int(sign, 36)) for sign in text[4:] + text[:4])
            assert int(moved) % 97 == 1
            assert len(text) == {"DE": 22, "AT": 20}[text[:2]]
        elif kind == "email":
            assert re.fullmatch(r"[a-z._]+\d+@example\.(com|org|net)", value)
        else:
            assert kind == "phone"
            assert "7700 900" in value or "555-01" in value
    assert set(kinds) == {"email", "phone", "iban", "card"}
    assert max(kinds.values()) - min(kinds.values()) <= 1


def test_clean_rows_hold_no_pii_html_or_broken_text() -> None:
    for row in clean_rows().values():
        text = all_text(row)
        assert not re.search(r"@|[<>&]|\ufffd|Ã|â€|Å‚|\d{9}|\+\d", text), text


def test_html_is_there_and_gone_from_the_clean_version() -> None:
    rows, truth = sample_rows(), sample().truth
    tags = set()
    for number in truth.dirt["html"]:
        tag = truth.detail[number]
        tags.add(tag)
        assert tag in all_text(rows[number - 1])
        assert not re.search(r"[<>&]", "".join(turn["content"] for turn in truth.clean[number]))
    assert len(tags) == 8


def test_mojibake_can_be_turned_back_and_lost_characters_cannot() -> None:
    rows, truth = sample_rows(), sample().truth
    for number in truth.dirt["mojibake"]:
        broken = next(t["content"] for t in turns(rows[number - 1]) if t["role"] == "user")
        assert broken != truth.detail[number]
        assert broken.encode("cp1252").decode("utf-8") == truth.detail[number]
    for number in truth.dirt["lost_characters"]:
        broken = next(t["content"] for t in turns(rows[number - 1]) if t["role"] == "user")
        assert "\ufffd" in broken
        assert len(broken) == len(truth.detail[number])


def test_empty_answers_and_wrong_labels() -> None:
    rows, truth = sample_rows(), sample().truth
    for number in truth.dirt["empty_answer"]:
        assert turns(rows[number - 1])[-1]["content"].strip() == ""
        assert turns(rows[number - 1])[:-1] == truth.clean[number][:-1]
    for number in truth.dirt["wrong_label"]:
        assert rows[number - 1]["messages"] == truth.clean[number]
        assert truth.detail[number] in BY_NAME
        assert rows[number - 1]["intent"] != truth.detail[number]


# ---------------------------------------------------------------- traffic


@cache
def traffic(drift: float = 1.0, kinds: tuple[str, ...] = KINDS, count: int = 600) -> SampleTraffic:
    return generate_traffic(count, 21, drift, kinds)


@pytest.mark.parametrize("drift", [0.0, 0.25, 0.5, 1.0])
def test_drift_share_is_exact_and_kinds_are_equal_parts(drift: float) -> None:
    drawn = traffic(drift)
    drifted = [kinds for kinds in drawn.kinds if kinds]
    assert len(drawn.prompts) == len(drawn.answers) == len(drawn.intents) == len(drawn.kinds) == 600
    assert len(drifted) == round(600 * drift)
    assert all(abs(n - len(drifted) / 4) < 1 for n in Counter(kinds[0] for kinds in drifted).values())


def test_traffic_without_drift_is_like_the_sample_but_not_the_same() -> None:
    drawn = traffic(0.0)
    assert set(drawn.intents) <= set(BY_NAME)
    vocabulary = set(re.findall(r"[a-z]+", " ".join(all_text(row) for row in clean_rows().values()).lower()))
    words = re.findall(r"[a-z]+", " ".join(t["content"] for p in drawn.prompts for t in p).lower())
    assert sum(word in vocabulary for word in words) / len(words) > 0.98
    seen = {key(row)[:-1] for row in sample_rows()}
    again = [tuple((t["role"], t["content"]) for t in prompt) in seen for prompt in drawn.prompts]
    assert sum(again) / len(again) < 0.01


def test_prompts_end_with_the_customer_and_the_answer_is_the_canonical_one() -> None:
    drawn = traffic()
    known = {**BY_NAME, **{intent.name: intent for intent in NEW_INTENTS}}
    for prompt, answer, name in zip(drawn.prompts, drawn.answers, drawn.intents, strict=True):
        assert prompt[-1]["role"] == "user"
        patterns = [p for p in (known[name].answer, known[name].other) if p]
        assert any(re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(p)), answer) for p in patterns)


def test_new_products_never_occur_in_the_sample() -> None:
    words = set(ELECTRIC.items) | set(ELECTRIC.moods)
    text = " ".join(all_text(row) for row in sample_rows())
    assert not [word for word in words if re.search(rf"\b{re.escape(word)}\b", text)]
    drawn = traffic(1.0, ("products",))
    for prompt, intent in zip(drawn.prompts, drawn.intents, strict=True):
        assert intent in ELECTRIC_CORES
        assert any(item in " ".join(t["content"] for t in prompt) for item in ELECTRIC.items)


def test_new_intents_are_six_and_unknown_to_the_sample() -> None:
    drawn = traffic(1.0, ("intents",))
    assert set(drawn.intents) == {intent.name for intent in NEW_INTENTS}
    assert len(NEW_INTENTS) == 6
    assert not set(drawn.intents) & set(BY_NAME)


def test_slang_uses_words_the_sample_lacks() -> None:
    vocabulary = set(re.findall(r"[a-z]+", " ".join(all_text(row) for row in sample_rows()).lower()))

    def unknown(drawn: SampleTraffic) -> float:
        said = " ".join(turn["content"] for prompt in drawn.prompts for turn in prompt if turn["role"] == "user")
        words = re.findall(r"[a-z]+", said.lower())
        return sum(word not in vocabulary for word in words) / len(words)

    assert unknown(traffic(1.0, ("slang",))) > 5 * unknown(traffic(0.0))
    assert set(traffic(1.0, ("slang",)).kinds) == {("slang",)}


def test_mix_moves_towards_money_and_accounts_and_nothing_else() -> None:
    def share(drawn: SampleTraffic) -> float:
        return sum(name in SHIFTED for name in drawn.intents) / len(drawn.intents)

    plain, shifted = share(traffic(0.0)), share(traffic(1.0, ("mix",)))
    weight = 6 * plain / (6 * plain + 1 - plain)
    assert abs(shifted - weight) < 0.06
    assert set(traffic(1.0, ("mix",)).kinds) == {("mix",)}


def test_traffic_is_deterministic_and_refuses_what_it_cannot_do() -> None:
    assert generate_traffic(80, 4, 0.5) == generate_traffic(80, 4, 0.5)
    assert generate_traffic(80, 4, 0.5) != generate_traffic(80, 5, 0.5)
    assert generate_traffic(0, 4).prompts == ()
    with pytest.raises(PipelineError, match="unknown kinds of drift weather; choose from products, intents"):
        generate_traffic(10, 1, 0.5, ("weather",))
    with pytest.raises(PipelineError, match="2 problems"):
        generate_traffic(10, 1, 1.5, ("weather",))
    with pytest.raises(PipelineError, match="without a kind"):
        generate_traffic(10, 1, 0.5, ())


def test_every_slot_can_be_drawn_for_every_line() -> None:
    rng = random.Random(0)
    for line in LINES.values():
        for draw in DRAW.values():
            assert draw(rng, line)
    used = {slot for intent in (*INTENTS, *NEW_INTENTS) for slot in intent.slots}
    assert used <= set(DRAW)


# ---------------------------------------------------------------- how hard it is


def test_intents_are_learnable_but_not_trivial_and_drift_breaks_what_was_learned() -> None:
    """A linear bag of words, trained on 1,800 rows, is the yardstick."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    def text(messages: list[dict[str, str]]) -> str:
        return " / ".join(turn["content"] for turn in messages if turn["role"] != "system")

    rows = list(clean_rows().values())
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), LinearSVC())
    model.fit([text(turns(row)[:-1]) for row in rows], [str(row["intent"]) for row in rows])

    def accuracy(drawn: SampleTraffic) -> float:
        guesses = model.predict([text(prompt) for prompt in drawn.prompts])
        return sum(a == b for a, b in zip(guesses, drawn.intents, strict=True)) / len(drawn.intents)

    assert 0.90 < accuracy(traffic(0.0)) < 0.995
    assert accuracy(traffic(1.0)) < 0.70


@pytest.mark.parametrize("count", [2, 12])
def test_fewer_intents_are_the_most_frequent_ones(count: int) -> None:
    frequent = sorted(WEIGHTS, key=lambda name: -WEIGHTS[name])[:count]
    rows = generate_sample(400, 5, intents=count)
    assert rows.truth.intents == tuple(sorted(frequent))
    clean = generate_sample(400, 5, dirt=False, intents=count).table["intent"].to_pylist()
    assert set(clean) == set(frequent)
    calm = generate_traffic(100, 5, intents=count)
    assert set(calm.intents) <= set(frequent)
    slang = generate_traffic(100, 5, 1.0, ["slang", "mix"], count)
    assert set(slang.intents) <= set(frequent)
    # Electric goods are asked about in any way where none of the known kinds can be.
    assert len(generate_traffic(60, 5, 1.0, ["products"], count).prompts) == 60
    (part,) = Sample(rows=400, seed=5, dirt=False, intents=count).read(ROOT).parts
    assert [row["intent"] for row in part.items] == clean
