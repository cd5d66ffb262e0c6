"""Texts without words (emoji, symbols, single letters) and texts in scripts without spaces, wherever words are used."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.label_classifier import compute_features, fit_label_classifier
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import find_suspects
from tasks.corpus.text.words import find_units, find_words, split_terms
from tasks.data_preparation.output.card.topics import find_topics
from tasks.data_preparation.trainset.pruning.difficulty import measure_error
from tasks.data_preparation.trainset.pruning.pool import Pool

KINDS = {
    "emoji": ("👍", "👎"),
    "punctuation": ("?", "!"),
    "signs": ("<", ">"),
    "digits": ("1", "2"),
    "one letter": ("a", "b"),
    "Chinese": ("好的", "不行"),
    "Hindi": ("की", "का"),
}


@pytest.fixture(params=KINDS, ids=list(KINDS))
def texts(request: pytest.FixtureRequest) -> list[str]:
    return [KINDS[request.param][number % 2] for number in range(60)]


LABELS = [("first", "second")[number % 2] for number in range(60)]


def test_the_label_classifier_tells_them_apart(texts: list[str]) -> None:
    classifier = fit_label_classifier(texts, LABELS)
    assert classifier is not None
    assert classifier.predict(texts) == LABELS


def test_wrong_labels_among_them_are_found(texts: list[str]) -> None:
    assert find_suspects(texts, ["second", *LABELS[1:]], Noise(recall=0.9)).judged == 60


def test_their_difficulty_is_measured(texts: list[str]) -> None:
    pool = Pool([str(n) for n in range(60)], texts, ["x"] * 60, LABELS, [], [], 0)
    errors = measure_error(pool)
    assert errors.max() < 0.7
    blank = Pool(pool.ids, [""] * 60, ["x"] * 60, LABELS, [], [], 0)
    assert np.isfinite(measure_error(blank)).all()


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_they_are_embedded_apart(texts: list[str], unit: str) -> None:
    vectors = Tfidf.model_validate({"unit": unit}).embed(texts)
    assert vectors[0] @ vectors[2] == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] < 0.9


def test_their_topics_are_no_crash(texts: list[str]) -> None:
    found = find_topics(texts, LABELS)
    assert found is None or found.topics


def test_blank_texts_have_no_features() -> None:
    assert fit_label_classifier(["", " "], ["a", "b"]) is None
    assert compute_features(["", " "]).shape == (2, 1)
    assert not Tfidf().embed(["", " "]).any()


def test_marks_belong_to_their_letter() -> None:
    assert find_words("हिन्दी की का") == ["हिन्दी", "की", "का"]
    assert find_words("สวัสดี") == ["ส", "วั", "ส", "ดี"]
    assert find_words("cafe\u0301") == ["cafe\u0301"]
    assert split_terms("cafe\u0301 is l'été 4711") == ["café", "is", "l'été", "0"]
    assert find_units("👍 👎") == split_terms("👍 👎") == ["👍", "👎"]
    assert find_words("👍 1️⃣") == ["1"]
