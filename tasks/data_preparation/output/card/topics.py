"""What a sample is about: k-means on the vectors of an embedder, with the terms that tell each cluster from the others.

The number of clusters is the one with the largest mean silhouette (Rousseeuw 1987,
https://doi.org/10.1016/0377-0427(87)90125-7) among `COUNTS`. Terms are weighed by class-based TF-IDF (Grootendorst
2022, https://arxiv.org/abs/2203.05794).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.rows.texts import make_visible
from tasks.data_preparation.output.card.params import LATENT

Array = np.ndarray[Any, Any]

COUNTS = (3, 4, 6, 8, 10, 12, 16, 20)
# A cluster of fewer rows, on average, is none that a person would call a topic.
SMALLEST = 8
COMPARED = 1_000
CHARACTERS = 1_000
TERMS = 5
EXAMPLES = 2
SHOWN = 130

_WORD = re.compile(r"[^\W\d_]{2,}")
# What contractions leave behind is no word: don't, I've, it's.
_CONTRACTED = re.compile(r"\b[^\W\d_]+n['’]t\b|['’](?:s|re|ve|ll|d|m)\b")
# Words of grammar that scikit-learn's list lacks.
_GRAMMAR = {"did", "does", "doing", "having", "just"}


@dataclass(frozen=True)
class Topic:
    """A cluster.

    Attributes:
        terms: What tells it from the others, the most telling first.
        size: Rows of the sample in it.
        examples: The beginnings of the rows nearest to its centre.
        label: The most frequent label of its rows, if they have any.
        label_share: Share of its rows that have this label.
    """

    terms: tuple[str, ...]
    size: int
    examples: tuple[str, ...]
    label: str | None = None
    label_share: float = 0.0


@dataclass(frozen=True)
class Topics:
    """The clusters, the largest first, and their mean silhouette, -1 to 1: near 0 they run into one another."""

    topics: tuple[Topic, ...]
    silhouette: float


def find_topics(
    texts: Sequence[str], labels: Sequence[str | None], embedder: AnyEmbedder = LATENT, seed: int = 0
) -> Topics | None:
    """Cluster some texts.

    Args:
        texts: Prompts, or plain texts.
        labels: Of the rows.
        embedder: What makes vectors of texts. One of word counts sees only the words that may tell a topic.
        seed: Of the embedder and of k-means.

    Returns:
        The clusters; None when there are too few texts with words for three.
    """
    from threadpoolctl import threadpool_limits

    # Sums of several threads come in any order, and their last digits with it.
    with threadpool_limits(1):
        starts = [text[:CHARACTERS] for text in texts]
        telling = _keep_telling(starts)
        vectors = embedder.embed(telling if isinstance(embedder, Tfidf) else starts, seed)
        spoken = np.array([row for row, text in enumerate(telling) if text and vectors[row].any()], dtype=np.int64)
        vectors = vectors[spoken]
        found = _choose_clusters(vectors, seed)
        if found is None:
            return None
        of_row, silhouette = found
        terms = _weigh_terms([telling[row] for row in spoken.tolist()], of_row)
        topics = [
            _describe(np.flatnonzero(of_row == number), vectors, spoken, starts, labels, terms[number])
            for number in range(of_row.max() + 1)
        ]
    ordered = sorted((topic for topic in topics if topic.size), key=lambda topic: (-topic.size, topic.terms))
    return Topics(tuple(ordered), silhouette)


def _keep_telling(texts: Sequence[str]) -> list[str]:
    """Of each text the words that may tell a topic: no number, no common English word, none that half of them have."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = [_WORD.findall(_CONTRACTED.sub(" ", text.casefold())) for text in texts]
    held = Counter(word for each in words for word in set(each))
    common = {word for word, count in held.items() if count > len(texts) / 2} | ENGLISH_STOP_WORDS | _GRAMMAR
    return [" ".join(word for word in each if word not in common) for each in words]


def _choose_clusters(vectors: Array, seed: int) -> tuple[Array, float] | None:
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    best: tuple[Array, float] | None = None
    distinct = len(np.unique(vectors, axis=0))
    compared = np.linspace(0, len(vectors) - 1, min(COMPARED, len(vectors))).astype(int)
    for count in COUNTS:
        if count * SMALLEST > distinct:
            break
        of_row = KMeans(count, n_init=1, max_iter=50, random_state=seed).fit_predict(vectors)
        if len(np.unique(of_row[compared])) < 2:
            continue
        silhouette = round(float(silhouette_score(vectors[compared], of_row[compared])), 3)
        if best is None or silhouette > best[1]:
            best = of_row, silhouette
    return best


def _weigh_terms(texts: Sequence[str], of_row: Array) -> list[tuple[str, ...]]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(binary=True, token_pattern=r"\S+", min_df=2, max_features=10_000)
    clusters = range(int(of_row.max()) + 1)
    try:
        found = counter.fit_transform(texts)
    except ValueError:
        # No word stands in two texts.
        return [() for _ in clusters]
    names = counter.get_feature_names_out()
    rows = np.array([max(int((of_row == number).sum()), 1) for number in clusters])
    counts = np.stack([np.asarray(found[of_row == number].sum(axis=0)).ravel() for number in clusters])
    share = counts / rows[:, None]
    weight = np.round(share * np.log(1 + share.sum() / len(rows) / np.maximum(share.sum(axis=0), 1e-9)), 9)
    return [
        tuple(str(names[place]) for place in np.argsort(-each, kind="stable")[:TERMS] if each[place] > 0)
        for each in weight
    ]


def _describe(
    members: Array,
    vectors: Array,
    spoken: Array,
    texts: Sequence[str],
    labels: Sequence[str | None],
    terms: tuple[str, ...],
) -> Topic:
    centre = vectors[members].mean(axis=0)
    near = np.argsort(np.round(((vectors[members] - centre) ** 2).sum(axis=1), 6), kind="stable")
    examples: dict[str, None] = {}
    for place in spoken[members[near]].tolist():
        examples[_cut(texts[place])] = None
        if len(examples) == EXAMPLES:
            break
    named = Counter(label for row in spoken[members].tolist() if (label := labels[row]) is not None)
    label, count = min(named.items(), key=lambda item: (-item[1], item[0]), default=(None, 0))
    return Topic(terms, len(members), tuple(examples), label, count / max(len(members), 1))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return make_visible(line[:SHOWN].rstrip()) + ("…" if len(line) > SHOWN else "")
