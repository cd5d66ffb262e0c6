"""A model folder as the embedder: long texts, texts that come again, and every part that takes one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.noisy_labels import flip
from tasks.annotation.choose import choose_next
from tasks.corpus.embedders.sentence_transformers import SentenceTransformers, _load
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import find_suspects
from tasks.corpus.weak_supervision.functions.nearest import Nearest
from tasks.data_preparation.output.card.topics import find_topics
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import Duplicates, Semantic
from tasks.data_preparation.trainset.balancing.balancer import Labelled
from tasks.data_preparation.trainset.balancing.smote import Smote
from tasks.data_preparation.trainset.pruning.diversity import Diversity
from tasks.data_preparation.trainset.pruning.influence import Influence
from tasks.data_preparation.trainset.pruning.pool import Pool
from tests.conversations import make, pair
from tests.tiny import make_tiny_encoder

pytest.importorskip("sentence_transformers", reason="sentence-transformers is in the extra embeddings")

FILLER = ["please", "where", "is", "the", "my", "can", "you", "help", "now", "with"]
# Each topic has two sets of words for the same things.
TOPICS = {
    "parcel": (["parcel", "courier", "doorstep", "dispatch"], ["package", "carrier", "porch", "shipment"]),
    "card": (["card", "cashpoint", "statement", "debit"], ["plastic", "atm", "bill", "charge"]),
    "login": (["login", "password", "account", "locked"], ["signin", "passphrase", "profile", "blocked"]),
}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformers:
    synonyms = {other: word for words, others in TOPICS.values() for word, other in zip(words, others, strict=True)}
    # The words of a topic are alike, too: half of their vectors is common, since a topic's name is in each text.
    folder = make_tiny_encoder(
        tmp_path_factory.mktemp("encoder") / "tiny", [*FILLER, *synonyms.values(), *synonyms], synonyms
    )
    return SentenceTransformers(path=str(folder), batch_size=8)


def say(topic: str, side: int, rng: random.Random) -> str:
    return " ".join([*rng.sample(TOPICS[topic][side], 3), *rng.sample(FILLER, 2)])


def test_a_long_text_is_the_mean_of_its_windows(embedder: SentenceTransformers) -> None:
    # 16 tokens, two of them around the text: windows of 14, 14 and 2 words.
    words = ["parcel"] * 14 + ["card"] * 14 + ["login"] * 2
    whole, parcel, card, login, other = embedder.embed(
        [" ".join(words), "parcel", "card", "login", " ".join([*words[:28], "password", "password"])]
    )
    mean = 14 * parcel + 14 * card + 2 * login
    assert np.allclose(whole, mean / np.linalg.norm(mean), atol=1e-5)
    assert 0.9 < whole @ other < 0.9999


def test_a_text_is_embedded_once(embedder: SentenceTransformers) -> None:
    _, known = _load(str(Path(embedder.path).absolute()))
    known.clear()
    texts = ["where is my parcel", "", "where is my card", "where is my parcel"]
    vectors = embedder.embed(texts)
    assert sorted(known) == sorted(set(texts))
    assert np.array_equal(vectors[0], vectors[3])
    first = known["where is my card"]
    again = embedder.embed(["help", "where is my card"])
    assert len(known) == 4
    assert known["where is my card"] is first
    assert np.array_equal(again[1], first)
    assert embedder.embed([]).shape == (0, 64)


def test_paraphrases_in_other_words_leave(embedder: SentenceTransformers) -> None:
    rng = random.Random(3)
    texts = [say(topic, 0, rng) for topic in TOPICS for _ in range(10)]
    distinct = list(dict.fromkeys(texts))
    turned = distinct[4]
    for words, others in TOPICS.values():
        for word, other in zip(words, others, strict=True):
            turned = turned.replace(word, other)
    rows = make(*[pair(text, f"answer {text}") for text in distinct], pair(turned, f"answer {distinct[4]}"))
    kept = remove_duplicates(rows, Duplicates(near=False, semantic=Semantic())).table.num_rows
    assert kept == rows.table.num_rows
    out = remove_duplicates(rows, Duplicates(near=False, semantic=Semantic(embedder=embedder)))
    assert rows.table.num_rows in out.dropped["row"].to_pylist()
    assert out.twins.to_pylist()[-1]["twin_row"] == 5


def test_a_shared_system_turn_makes_no_duplicates(embedder: SentenceTransformers) -> None:
    system = ("system", "you can help with the parcel now please " * 10)
    prompts = ["parcel courier", "card debit", "card debit statement cashpoint please"]
    rows = make(*[[system, *pair(text, "yes")] for text in prompts])
    assert remove_duplicates(rows, Duplicates(near=False, semantic=Semantic(embedder=embedder))).table.num_rows == 3


def test_wrong_labels_are_seen_by_meaning(embedder: SentenceTransformers) -> None:
    # Every text has words of its own side, so words alone learn each side apart.
    rng = random.Random(5)
    labels = [list(TOPICS)[row % 3] for row in range(240)]
    texts = [say(label, rng.randrange(2), rng) for label in labels]
    given, planted = flip(labels, 0.03, 2)
    found = find_suspects(texts, given, Noise(embedder=embedder))
    assert planted <= set(found.places)
    assert len(found.places) <= len(planted) + 3
    assert found == find_suspects(texts, given, Noise(embedder=embedder))
    assert find_suspects(texts, given, Noise(embedder=Tfidf(dimensions=16))).judged == 240


def test_every_part_takes_the_folder(embedder: SentenceTransformers) -> None:
    rng = random.Random(1)
    labels = ["parcel"] * 60 + ["card"] * 30 + ["login"] * 10
    texts = [say(label, rng.randrange(2), rng) for label in labels]
    ids = [f"{row:016x}" for row in range(100)]
    made = Smote(embedder=embedder).balance(Labelled(ids, labels, [1] * 100, texts))
    assert sum(made.times) == 180
    assert made.notes == {"synthetic": 80, "dimensions": 64}
    pool = Pool(ids, texts, texts, labels, texts[:3], labels[:3], 0)
    for method in (Diversity(embedder=embedder), Influence(embedder=embedder)):
        assert np.isfinite(method.score(pool)).all()
    topics = find_topics(texts, labels, embedder)
    assert topics is not None
    assert topics.topics[0].terms
    assert all(topic.label_share > 0.9 for topic in topics.topics)
    # No card is labelled: by their vectors, and not by their words, the 30 texts about one are the least sure.
    chosen = choose_next(texts, texts[:3] + texts[-3:], labels[:3] + labels[-3:], [], 3, embedder)
    assert [labels[place] for place in chosen.indices] == ["card"] * 3
    assert set(chosen.predictions) <= {"parcel", "login"}
    examples = {topic: tuple(sides[0]) for topic, sides in TOPICS.items()}
    votes = Nearest(examples=examples, embedder=embedder, least=0.3).vote([say("card", 1, rng)] * 2, Path())
    assert votes == {"nearest": ["card", "card"]}
