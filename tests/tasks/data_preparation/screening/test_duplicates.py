"""Near duplicates: exact Jaccard against sets, recall against all pairs, and what is planted in the sample."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.records import UNTRAINED
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.rows.rows import Rows
from tasks.corpus.similarity.differences import CROWD, Texts, is_spelling
from tasks.corpus.similarity.minhash import propose_pairs, sketch
from tasks.corpus.similarity.pairs import find_similar_pairs, join_clusters
from tasks.corpus.similarity.shingles import Sides, compute_jaccard, cut_shingles, fold_texts, read_numbers
from tasks.corpus.text.words import fold_text
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import (
    find_kept_originals,
    find_near_duplicates,
    remove_duplicates,
)
from tasks.data_preparation.screening.params import Duplicates, JaccardThresholds
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import split_examples
from tasks.sample_shop.sample import SampleTruth, generate_sample
from tests.conversations import make, pair, texts

SAMPLE_ROWS = 1500


def grams(text: str, size: int) -> set[str]:
    padded = f" {text} ".ljust(size)
    return {padded[i : i + size] for i in range(len(padded) - size + 1)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="abc é日😀", max_size=12), min_size=2, max_size=6), st.integers(2, 5))
def test_jaccard_is_that_of_the_sets(documents: list[str], size: int) -> None:
    shingles = cut_shingles(documents, size)
    pairs = np.array(list(itertools.combinations(range(len(documents)), 2)))
    found = compute_jaccard(shingles, pairs)
    for (first, second), value in zip(pairs, found, strict=True):
        a, b = grams(documents[first], size), grams(documents[second], size)
        assert value == pytest.approx(len(a & b) / len(a | b))


def test_prompt_and_answer_do_not_mix() -> None:
    both = Sides(["abcd", "wxyz"], ["wxyz", "abcd"], 4).cut_both(range(2))
    assert compute_jaccard(both, np.array([[0, 1]]))[0] == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="aB É日 \t\x1c\n.'!’\x00\xa0\xff", max_size=9), max_size=6))
def test_many_fold_as_one(texts: list[str]) -> None:
    assert fold_texts(texts) == [fold_text(text) for text in texts]


def test_folding() -> None:
    assert fold_text("  Where's my\n ORDER?! ") == "wheres my order"
    assert read_numbers("order 12, 3.5 and A7") == "12 3 5 7"


def test_wording_counts_and_numbers_count_more() -> None:
    prompts = [
        "Could you tell me where my order with the number 4711 is right now?",
        "could you tell me where my order with the number 4711 is, right now",
        "Could you tell me where my order with the number 4712 is right now?",
        "Cancel it.",
    ]
    answer = "It left our warehouse and will be at your door before the end of the week, we are sorry for the delay."
    pairs = find_similar_pairs(prompts, [answer] * 4, 0.85, 0.7, 4).pairs
    # Row 3 shares the template answer only, row 2 has another number.
    assert pairs.tolist() == [[0, 1]]


def test_recall_against_all_pairs() -> None:
    rng = random.Random(5)
    words = [f"{a}{b}" for a in "kltmpr" for b in ("arn", "ost", "ime", "ull", "ed")]
    base = [" ".join(rng.choices(words, k=40)) for _ in range(120)]
    documents = list(base)
    for text in base:
        changed = text.split()
        for _ in range(rng.randint(0, 3)):
            changed[rng.randrange(40)] = rng.choice(words)
        documents.append(" ".join(changed))
    found = {tuple(p) for p in find_similar_pairs(documents, ["ok"] * 240, 0.75, 0.5, 4).pairs.tolist()}
    shingles = Sides(documents, ["ok"] * 240, 4).cut_both(range(240))
    every = np.array(list(itertools.combinations(range(240), 2)))
    truth = {tuple(p) for p in every[compute_jaccard(shingles, every) >= 0.75].tolist()}
    assert len(truth) > 80
    assert found <= truth
    assert len(found) >= 0.99 * len(truth)


def test_a_bucket_of_many_equals_is_bounded_and_still_found() -> None:
    pairs = find_similar_pairs(["the very same question"] * 400, ["the same answer"] * 400, 0.85, 0.7, 4).pairs
    twins = find_kept_originals(400, pairs)
    assert twins == [0] * 400
    assert len(pairs) <= 400 * 256


def test_a_chain_keeps_members_that_are_unlike() -> None:
    # 0 ~ 1 ~ 2, but 0 and 2 are unlike: 1 leaves for 0, and 2 has no kept twin.
    assert find_kept_originals(4, np.array([[0, 1], [1, 2]])) == [0, 0, 2, 3]
    assert join_clusters(4, np.array([[0, 1], [1, 2]])) == [0, 0, 0, 3]
    assert find_kept_originals(2, np.zeros((0, 2), dtype=int)) == [0, 1]


def test_exact_duplicates_keep_the_first_and_tell_another_label() -> None:
    rows = make(pair("a", "b"), pair("c", "d"), pair("a", "b"), pair("a", "b"), labels=["x", None, "x", "y"])
    out = remove_duplicates(rows, Duplicates(near=False))
    assert out.table["row"].to_pylist() == [1, 2]
    assert out.steps[-1].reasons == {
        "same conversation again": 1,
        "same conversation again, under another label": 1,
    }
    assert out.dropped["row"].to_pylist() == [3, 4]


def test_keep_all_keeps_near_duplicates() -> None:
    rows = make(pair("Where is my parcel today?", "On its way."), pair("where is my parcel, today", "On its way."))
    assert remove_duplicates(rows, Duplicates(keep="all")).table.num_rows == 2
    kept = remove_duplicates(rows, Duplicates())
    assert texts(kept) == [["Where is my parcel today?", "On its way."]]
    assert kept.steps[-1].reasons == {"near duplicate of an earlier row": 1}
    shown = kept.steps[-1].listings[0].rows
    assert shown == (
        (
            "where is my parcel, today ¶ On its way.",
            "Where is my parcel today? ¶ On its way.",
            "where … parcel, today",
            "Where … parcel today?",
            1.0,
            "near duplicate of an earlier row",
        ),
    )
    assert kept.steps[-1].examples[0] == (
        "where is my parcel, today → On its way.",
        "Where is my parcel today? → On its way.",
    )


def test_leak_may_not_be_stricter_than_same() -> None:
    with pytest.raises(ValidationError, match="must not exceed those of same"):
        Duplicates(same=JaccardThresholds(rows=0.7, prompts=0.7))


@cache
def cleaned_sample() -> tuple[Rows, SampleTruth]:
    settings = DataPreparation(sources=(Sample(rows=SAMPLE_ROWS, seed=7),))
    rows = clean_rows(read_sources(settings.sources, "quarantine", Path()), settings.cleaning)
    return rows, generate_sample(SAMPLE_ROWS, 7).truth


def test_planted_near_duplicates_are_found_and_distinct_rows_left_alone() -> None:
    rows, truth = cleaned_sample()
    out = remove_duplicates(rows, Duplicates())
    kept = set(out.table["row"].to_pylist())
    for kind in ("exact_duplicate", "near_duplicate"):
        planted = truth.dirt[kind]
        found = [copy for copy in planted if not {copy, truth.copies[copy]} <= kept]
        assert len(found) >= 0.95 * len(planted)
    dirty = {row for numbers in truth.dirt.values() for row in numbers}
    copied = set(truth.copies.values())
    wrongly = [r for r in range(1, SAMPLE_ROWS + len(dirty)) if r not in dirty | copied | kept]
    assert len(wrongly) <= 0.01 * SAMPLE_ROWS


def test_planted_leaks_count_as_alike() -> None:
    rows, truth = cleaned_sample()
    place = {row: i for i, row in enumerate(rows.table["row"].to_pylist())}
    settings = Duplicates()
    pairs = {tuple(p) for p in find_near_duplicates(rows.table, settings, leaks=True).pairs.tolist()}
    planted = [tuple(sorted((place[c], place[truth.copies[c]]))) for c in truth.dirt["leak"]]
    assert sum(p in pairs for p in planted) >= 0.95 * len(planted)


@pytest.mark.parametrize(("keep", "step"), [("one", "near duplicates"), ("all", "split")])
def test_the_recall_is_measured_once(keep: str, step: str) -> None:
    rng = random.Random(4)
    words = [a + b for a in ("ka", "lo", "mi", "tu", "ve") for b in ("ra", "sol", "ten", "wick", "dun")]
    rows = make(*(pair(" ".join(rng.sample(words, 7)), " ".join(rng.sample(words, 9))) for _ in range(60)))
    settings = Duplicates.model_validate({"keep": keep})
    rows = split_examples(remove_duplicates(rows, settings), Split(validation=0.2, test=0.2), settings)
    assert [each.name for each in rows.steps if "recall" in each.notes] == [step]


GATES = "Is the big white tent of the summer festival close to the {} gate of the old city park near the river?"


@pytest.mark.parametrize("answers", [("true", "false"), ("See the map.", "See the map.")])
def test_another_word_makes_another_row(answers: tuple[str, str]) -> None:
    turns = [pair(GATES.format(side), answer) for side, answer in zip(("western", "eastern"), answers, strict=True)]
    assert remove_duplicates(make(*turns), Duplicates()).table.num_rows == 2


def test_another_word_answer_or_label_is_a_duplicate_where_asked_for() -> None:
    strict = {"same": JaccardThresholds(rows=0.75, prompts=0.7), "words": False}
    turns = [pair(GATES.format(side), answer) for side, answer in (("western", "true"), ("eastern", "false"))]
    assert remove_duplicates(make(*turns), Duplicates.model_validate(strict)).table.num_rows == 2
    asked = remove_duplicates(make(*turns), Duplicates.model_validate({**strict, "answers": False}))
    assert asked.table.num_rows == 1
    assert asked.steps[-1].reasons == {"near duplicate of an earlier row, with another answer": 1}
    turns = [pair(GATES.format(side), "See the map.") for side in ("western", "eastern")]
    rows = make(*turns, labels=["true", "false"])
    assert remove_duplicates(rows, Duplicates.model_validate(strict)).table.num_rows == 2
    asked = remove_duplicates(rows, Duplicates.model_validate({**strict, "answers": False}))
    assert asked.steps[-1].reasons == {"near duplicate of an earlier row, under another label": 1}


SENTENCE = "Could you tell me where my parcel with the blue shoes is right now?"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (SENTENCE.upper() + "!!", True),
        ("Hi, " + SENTENCE + " Thanks.", True),
        (SENTENCE + " It is urgent.", True),
        (SENTENCE.replace("shoes", "shoess"), True),
        (SENTENCE.replace("parcel", "pacrel"), True),
        (SENTENCE.replace("the blue", "blue"), True),
        (SENTENCE.replace("blue", "green"), False),
        (SENTENCE.replace("is right", "is not right"), False),
        (SENTENCE.replace("me where my parcel", "my parcel where me"), False),
        (SENTENCE.replace("shoes", "shoes / hats"), False),
        (SENTENCE + " I ordered it for my daughter.", False),
    ],
)
def test_what_differs_decides(other: str, same: bool) -> None:
    texts_of = Texts([SENTENCE, other], 4)
    assert texts_of.have_same_wording(0, 1) is texts_of.have_same_wording(1, 0) is same


def test_spelling() -> None:
    for first, second in (("parcel", "parcl"), ("order", "oredr"), ("orders", "order"), ("tracking", "trakcing")):
        assert is_spelling(first, second)
        assert is_spelling(second, first)
    for first, second in (("iran", "iraq"), ("western", "eastern"), ("cat", "cats"), ("a12345", "a1234"), ("能", "否")):
        assert not is_spelling(first, second)
        assert not is_spelling(second, first)


def draw_words(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choice("bcdfglmnprst") + rng.choice("aeiou") for _ in range(4)) for _ in range(count)]


def test_questions_that_share_a_passage_a_system_turn_or_an_answer_are_kept() -> None:
    passage = " ".join(random.Random(3).choices(draw_words(60, 3), k=150))
    asked = ("Who built it?", "When was it built?", "Where does it lead?", "Why did they leave?", "How high is it?")
    rows = make(*(pair(f"{passage}.\n\n{question}", "It does not say.") for question in asked))
    assert remove_duplicates(rows, Duplicates()).table.num_rows == len(asked)
    system = ("system", "You are a careful agent of the help desk of a large shop. " * 9)
    words = draw_words(150, 4)
    rows = make(*([system, *pair(f"How do I return a {w} that I bought?", f"Take the {w} there.")] for w in words))
    assert remove_duplicates(rows, Duplicates()).table.num_rows == len(set(words))
    rows = make(*(pair(f"Could you tell me the capital of {w}?", "Look it up.") for w in ("Iran", "Iraq", "Mali")))
    assert remove_duplicates(rows, Duplicates()).table.num_rows == 3


def test_a_row_that_teaches_more_than_the_earlier_one_is_kept() -> None:
    turns = [*pair(SENTENCE, "Which one is it?"), *pair("The one of yesterday.", "It is on its way to you.")]
    rows = make(turns, turns)
    for marks, kept in (([None, [1]], [1]), ([[1], None], [1, 2]), ([[1], [1]], [1])):
        column = pa.array(marks, UNTRAINED.type)
        marked = replace(rows, table=rows.table.append_column(UNTRAINED, column))
        assert remove_duplicates(marked, Duplicates()).table["row"].to_pylist() == kept


def test_another_system_turn_makes_another_row() -> None:
    rows = [[("system", f"Speak {name}."), *pair(SENTENCE, "On its way.")] for name in ("French", "Dutch")]
    assert remove_duplicates(make(*rows), Duplicates()).table.num_rows == 2


def test_reworded_rows_may_not_be_in_different_splits_but_rows_of_a_template_may() -> None:
    words = draw_words(200, 5)
    answer = "We are sorry, we do not sell that and do not know anything about it."
    rows = [pair(f"Tell me all that you know about the market for {w} in a few words.", answer) for w in words]
    reworded = pair("Tell me all that you know about the market for tea in a few lines.", answer)
    alone = make(pair("Tell me all that you know about the market for tea in a few words.", answer), reworded)
    settings = Duplicates()
    assert find_near_duplicates(alone.table, settings, leaks=True).pairs.tolist() == [[0, 1]]
    # The first of a template may be reworded rows, the others are instances of it.
    found = find_near_duplicates(make(*rows).table, settings, leaks=True).pairs
    assert 0 < len(found) < CROWD**2
    assert found.max() < 2 * CROWD
    # A repeat is a leak in a crowd too.
    again = make(*rows, pair(f"tell me all that you know about the market for {words[7]} in a few words", answer))
    assert [7, 200] in find_near_duplicates(again.table, settings, leaks=True).pairs.tolist()


def test_a_template_with_one_slot_has_no_quadratic_number_of_pairs() -> None:
    words = list(dict.fromkeys(draw_words(1000, 6)))
    # The last fifty leave a letter out.
    slots = [*words, *(word[:4] + word[5:] for word in words[:50])]
    prompts = [f"Tell me all that you know about the old market of {word} in a few words." for word in slots]
    rows = [pair(prompt, "It is old.") for prompt in prompts]
    found = find_near_duplicates(make(*rows).table, Duplicates(), leaks=False).pairs
    assert find_kept_originals(len(slots), found) == [*range(len(words)), *range(50)]
    signatures = sketch(Sides(prompts, prompts, 4).cut_both(range(len(prompts))))
    assert len(propose_pairs(signatures, np.zeros(len(prompts), dtype=np.int64))) < 300 * len(prompts)
