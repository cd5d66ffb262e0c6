"""Recall is measured and true, meaning is compared where asked, and every pair is on record."""

from __future__ import annotations

import csv
import itertools
import os
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest
from tasks.corpus.embedders.sentence_transformers import SentenceTransformers
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.similarity.lists import find_between, sign_texts
from tasks.corpus.similarity.pairs import find_similar_pairs
from tasks.corpus.similarity.probes import Recall, list_probe_pairs
from tasks.corpus.similarity.shingles import Sides, compute_jaccard, cut_shingles
from tasks.corpus.text.words import fold_text
from tasks.data_preparation.screening.clusters import CLUSTERS, make_table, write_clusters
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import CosineThresholds, Duplicates, JaccardThresholds, Semantic
from tasks.data_preparation.screening.semantic import compare_embeddings
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import split_examples
from tests.conversations import make, pair

WORDS = [a + b for a in ("ka", "lo", "mi", "tu", "ve", "zy") for b in ("ra", "sol", "ten", "wick", "dun")]


def noisy(count: int, seed: int) -> list[str]:
    """Texts of 40 words, half of them with up to three words changed."""
    rng = random.Random(seed)
    base = [" ".join(rng.choices(WORDS, k=40)) for _ in range(count)]
    changed = []
    for text in base:
        words = text.split()
        for _ in range(rng.randint(0, 3)):
            words[rng.randrange(40)] = rng.choice(WORDS)
        changed.append(" ".join(words))
    return base + changed


def test_recall_is_counted_over_all_pairs_of_the_probes() -> None:
    texts = noisy(100, 3)
    found = find_similar_pairs(texts, ["ok"] * 200, 0.75, 0.5, 4, probes=200)
    shingles = Sides(texts, ["ok"] * 200, 4).cut_both(range(200))
    every = np.array(list(itertools.combinations(range(200), 2)))
    truth = int((compute_jaccard(shingles, every) >= 0.75).sum())
    assert truth > 60
    assert found.recall == Recall(200, truth, len(found.pairs))
    assert found.recall.share >= 0.99
    assert np.allclose(found.rows, compute_jaccard(shingles, found.pairs))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="abc 1", min_size=1, max_size=8), min_size=2, max_size=12), st.booleans())
def test_probed_pairs_are_those_of_the_sets(texts: list[str], numbers: bool) -> None:
    folded = [fold_text(text) for text in texts]
    shingles = cut_shingles(folded, 3)
    group = np.array([len(set(text) & {"1"}) if numbers else 0 for text in texts])
    found = {tuple(p) for p in list_probe_pairs(shingles, group, np.arange(len(texts)), 0.6).tolist()}
    every = np.array(list(itertools.combinations(range(len(texts)), 2)))
    alike = compute_jaccard(shingles, every) >= 0.6
    assert found == {
        tuple(p) for p, same in zip(every.tolist(), alike, strict=True) if same and group[p[0]] == group[p[1]]
    }


def test_the_interval_of_the_recall() -> None:
    # Wilson's interval for 98 of 100: 0.9300 to 0.9945.
    assert Recall(10, 100, 98).low == pytest.approx(0.9300, abs=1e-4)
    assert Recall(10, 100, 100).low == pytest.approx(0.9630, abs=1e-4)
    assert Recall(10, 0, 0).share == 1.0
    assert Recall(10, 0, 0).low == 0.0


def test_numbers_may_be_left_out_of_account() -> None:
    texts = [f"Where in the world is my order with the number {n}, please?" for n in (4711, 4712)]
    assert len(find_similar_pairs(texts, ["ok"] * 2, 0.8, 0.7, 4).pairs) == 0
    assert find_similar_pairs(texts, ["ok"] * 2, 0.8, 0.7, 4, numbers=False).pairs.tolist() == [[0, 1]]


def test_two_lists_are_compared_with_one_another_only() -> None:
    texts = noisy(60, 4)
    pairs, similarity = find_between(sign_texts(texts[:60]), sign_texts(texts[60:]), 0.8)
    shingles = cut_shingles([fold_text(text) for text in texts], 4)
    every = np.array([(i, 60 + j) for i in range(60) for j in range(60)])
    truth = compute_jaccard(shingles, every)
    wanted = {(i, j - 60) for (i, j), value in zip(every.tolist(), truth, strict=True) if value >= 0.8}
    assert {tuple(p) for p in pairs.tolist()} == wanted
    assert len(wanted) > 30
    assert similarity.min() >= 0.8
    assert len(find_between(sign_texts([]), sign_texts(texts), 0.8)[0]) == 0
    assert len(find_between(sign_texts(texts), sign_texts([]), 0.8)[0]) == 0


EDITS = {
    "case": lambda text, rng: text.upper(),
    "punctuation": lambda text, rng: text.replace(" ", ", ", 2) + "!!",
    "a doubled letter": lambda text, rng: text.replace("a", "aa", 1),
    "a word of fifteen": lambda text, rng: " ".join([*text.split()[:-1], rng.choice(WORDS)]),
    "a closing": lambda text, rng: f"{text} thanks",
}
OTHERS = {
    "another number": lambda text, rng: text.replace("12", "13"),
    "half of the words": lambda text, rng: " ".join([*text.split()[:8], *rng.sample(WORDS, 7)]),
    "another question": lambda text, rng: " ".join(rng.sample(WORDS, 15)),
}


@pytest.mark.parametrize(("kinds", "alike"), [(EDITS, True), (OTHERS, False)])
def test_precision_and_recall_on_planted_pairs(kinds: dict[str, object], alike: bool) -> None:
    rng = random.Random(9)
    for name, edit in kinds.items():
        base = [" ".join([*rng.sample(WORDS, 14), "12"]) for _ in range(100)]
        if name == "a word of fifteen":
            base = [text.replace(" 12", f" {WORDS[i % 30]}") for i, text in enumerate(base)]
        texts = [*base, *(edit(text, rng) for text in base)]  # type: ignore[operator]
        answers = [f"The answer to {text}" for text in base] * 2
        found = {tuple(p) for p in find_similar_pairs(texts, answers, 0.85, 0.7, 4).pairs.tolist()}
        planted = {(i, i + 100) for i in range(100)}
        assert len(found & planted) == (100 if alike else 0), name
        assert not found - planted, name


def test_the_same_meaning_in_another_order() -> None:
    prompts = ["the card was declined", "was the card declined", "please close the account now", "open a new account"]
    closeness = CosineThresholds(prompts=0.9, answers=0.9)
    found = compare_embeddings(prompts, ["yes", "yes", "no", "yes"], Semantic(), closeness, True)
    assert found.pairs.tolist() == [[0, 1]]
    assert compare_embeddings(prompts, ["yes", "no", "no", "yes"], Semantic(), closeness, True).pairs.tolist() == []
    numbered = [f"{text} {number}" for text, number in zip(prompts, (1, 2, 3, 4), strict=True)]
    assert (
        compare_embeddings(
            numbered, ["yes"] * 4, Semantic(), CosineThresholds(prompts=0.8, answers=0.9), True
        ).pairs.size
        == 0
    )


def test_semantic_duplicates_are_off_and_leave_when_asked() -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.sample(WORDS, 8)) for _ in range(60)]
    turned = " ".join(reversed(texts[5].split()))
    rows = make(*[pair(text, "fine") for text in texts], pair(turned, "fine"))
    assert remove_duplicates(rows, Duplicates()).table.num_rows == 61
    words = Semantic(embedder=Tfidf(unit="characters", dimensions=32))
    out = remove_duplicates(rows, Duplicates(semantic=words))
    assert out.table.num_rows == 60
    assert out.steps[-1].name == "semantic duplicates"
    assert out.dropped["row"].to_pylist() == [61]
    assert out.twins.to_pylist()[-1]["twin_row"] == 6


def test_embedders_say_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"holds no config\.json; give path a model folder"):
        SentenceTransformers(path=str(tmp_path)).embed(["a"])
    assert not Tfidf().embed(["", " "]).any()
    signs = Tfidf().embed(["…", "!"])
    assert signs[0] @ signs[1] == 0
    assert signs.any(axis=1).all()
    for embedder in (Tfidf(), Tfidf(unit="characters")):
        vectors = embedder.embed(["where is my parcel", "where is the parcel", "reset the password", "a b c"])
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_a_model_folder_embeds(tiny_model: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is in the extra embeddings")
    embedder = SentenceTransformers(path=str(tiny_model), batch_size=2)
    texts = ["Where is my parcel?", "Reset the password, please.", "Where is my parcel?"]
    vectors = embedder.embed(texts)
    assert vectors.shape == (3, 64)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[2], atol=1e-5)
    assert np.array_equal(vectors, embedder.embed(texts))


def families() -> list[list[tuple[str, str]]]:
    rng = random.Random(2)
    texts = [" ".join(rng.sample(WORDS, 14)) for _ in range(60)]
    again = [pair(texts[0], "fine"), pair(texts[0].upper(), "fine"), pair(texts[1] + "!", "fine")]
    return [*[pair(text, "fine") for text in texts], *again]


def test_clusters_name_every_row_once(tmp_path: Path) -> None:
    duplicates = Duplicates()
    halves = Split(validation=0.25, test=0.25)
    rows = split_examples(remove_duplicates(make(*families()), duplicates), halves, duplicates)
    table = make_table(rows).to_pylist()
    first = [line for line in table if line["cluster"] == 1]
    assert [(line["row"], line["kind"], line["twin_row"]) for line in first] == [
        (1, "first", None),
        (61, "exact", 1),
        (62, "near", 1),
    ]
    assert [line["outcome"] for line in first][1:] == ["dropped: exact", "dropped: near"]
    assert first[0]["outcome"] in ("train", "validation", "test")
    assert [line["row"] for line in table if line["cluster"] == 2] == [2, 63]
    assert len({(line["place"], line["row"]) for line in table}) == len(table) == 5
    for name in ("a", "b"):
        write_clusters(rows, tmp_path / name)
    assert read_manifest(tmp_path / "a", verify=True)["clusters"] == 2
    assert pq.read_table(tmp_path / "a/clusters.parquet").schema.equals(CLUSTERS)
    for file in ("clusters.parquet", "index.html", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    page = (tmp_path / "a/index.html").read_text()
    assert page.count("<script") == 2  # those of the header
    # Nothing is called found or absent that was not looked for.
    assert page.count("<b>not looked for</b>") == 2
    for words in ("Recall of MinHash", "Duplicates and similar rows by source", "dropped: exact", "100.0%"):
        assert words in page


def test_duplicates_across_sources_are_told_apart(tmp_path: Path) -> None:
    rows = make(*families())
    sources = ["shop"] * 60 + ["forum"] * 3
    import pyarrow as pa

    table = rows.table.set_column(0, rows.table.schema.field("source"), pa.array(sources))
    out = remove_duplicates(type(rows)(table, rows.dropped, rows.steps, rows.origins), Duplicates())
    found = {(p["place"], p["twin_place"], p["kind"]) for p in out.twins.to_pylist()}
    assert found == {("forum", "shop", "exact"), ("forum", "shop", "near")}


def real(name: str) -> Path:
    folder = os.environ.get("HEPTUNE_REAL_DATA")
    if not folder:
        pytest.skip("HEPTUNE_REAL_DATA names no folder with public sets")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def test_precision_and_recall_on_real_requests() -> None:
    """Of 10,003 bank customers' requests the pairs that are the same have the same intent."""
    with real("banking77/train.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    texts, intents = [row["text"] for row in rows], [row["category"] for row in rows]
    likeness = JaccardThresholds(rows=0.85, prompts=0.7)
    found = find_similar_pairs(texts, ["ok"] * len(texts), likeness.rows, likeness.prompts, 4, probes=1000)
    agree = sum(intents[i] == intents[j] for i, j in found.pairs.tolist())
    assert len(found.pairs) > 100
    assert agree / len(found.pairs) >= 0.98
    assert found.recall.found == found.recall.pairs >= 15
    # By meaning: pairs that near duplicates do not cover have the same intent too.
    meant = compare_embeddings(texts, ["ok"] * len(texts), Semantic(), Semantic().same, numbers=True)
    near = {tuple(p) for p in found.pairs.tolist()}
    further = [p for p in map(tuple, meant.pairs.tolist()) if p not in near]
    assert len(further) > 500
    assert sum(intents[i] == intents[j] for i, j in further) / len(further) >= 0.95
