"""Topics of a sample: k-means clusters of embeddings, with the terms that distinguish each cluster from the others.

The number of clusters is the one with the largest mean silhouette (Rousseeuw 1987,
https://doi.org/10.1016/0377-0427(87)90125-7) among `CLUSTER_COUNTS`. Terms are weighted by class-based TF-IDF
(Grootendorst 2022, https://arxiv.org/abs/2203.05794).
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
from tasks.corpus.threads import on_one_thread
from tasks.data_preparation.output.card.params import DEFAULT_EMBEDDER

Array = np.ndarray[Any, Any]

CLUSTER_COUNTS = (3, 4, 6, 8, 10, 12, 16, 20)
# Smallest average number of rows per cluster.
MIN_CLUSTER_ROWS = 8
# Rows on which the silhouette is computed, at most.
SILHOUETTE_ROWS = 1_000
# Leading characters of a text that are used.
MAX_CHARACTERS = 1_000
TERMS = 5
EXAMPLES = 2
EXAMPLE_CHARACTERS = 130

_WORD = re.compile(r"[^\W\d_]{2,}")
# The parts of contractions are no words: don't, I've, it's.
_CONTRACTED = re.compile(r"\b[^\W\d_]+n['’]t\b|['’](?:s|re|ve|ll|d|m)\b")
# Stop words that scikit-learn's list lacks.
_STOP_WORDS = {"did", "does", "doing", "having", "just"}


@dataclass(frozen=True)
class Topic:
    """A cluster of prompts.

    Attributes:
        terms: The terms with the highest weights, in descending order.
        size: Rows of the sample in the cluster.
        examples: The beginnings of the rows nearest to the centre.
        label: The most frequent label of the rows, if they have any.
        label_share: Share of the rows that have this label.
    """

    terms: tuple[str, ...]
    size: int
    examples: tuple[str, ...]
    label: str | None = None
    label_share: float = 0.0


@dataclass(frozen=True)
class Topics:
    """The clusters, the largest first, and their mean silhouette in [-1, 1], near 0 where clusters overlap."""

    topics: tuple[Topic, ...]
    silhouette: float


@on_one_thread
def find_topics(
    texts: Sequence[str], labels: Sequence[str | None], embedder: AnyEmbedder = DEFAULT_EMBEDDER, seed: int = 0
) -> Topics | None:
    """Cluster some texts.

    Args:
        texts: Prompts, or plain texts.
        labels: Labels of the rows.
        embedder: Model that embeds the texts. TF-IDF gets the content words only.
        seed: Seed of the embedder and of k-means.

    Returns:
        The clusters; None when there are too few different texts for three.
    """
    starts = [text[:MAX_CHARACTERS] for text in texts]
    content_words = _keep_content_words(starts)
    vectors = embedder.embed(content_words if isinstance(embedder, Tfidf) else starts, seed)
    with_words = np.array(
        [row for row, text in enumerate(content_words) if text and vectors[row].any()], dtype=np.int64
    )
    vectors = vectors[with_words]
    found = _choose_clusters(vectors, seed)
    if found is None:
        return None
    of_row, silhouette = found
    terms = _weight_terms([content_words[row] for row in with_words.tolist()], of_row)
    topics = [
        _describe(np.flatnonzero(of_row == number), vectors, with_words, starts, labels, terms[number])
        for number in range(of_row.max() + 1)
    ]
    ordered = sorted((topic for topic in topics if topic.size), key=lambda topic: (-topic.size, topic.terms))
    return Topics(tuple(ordered), silhouette)


def _keep_content_words(texts: Sequence[str]) -> list[str]:
    """The content words of each text: without numbers, English stop words, and words of more than half of the texts."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = [_WORD.findall(_CONTRACTED.sub(" ", text.casefold())) for text in texts]
    text_counts = Counter(word for each in words for word in set(each))
    common = {word for word, count in text_counts.items() if count > len(texts) / 2} | ENGLISH_STOP_WORDS | _STOP_WORDS
    return [" ".join(word for word in each if word not in common) for each in words]


def _choose_clusters(vectors: Array, seed: int) -> tuple[Array, float] | None:
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    best: tuple[Array, float] | None = None
    distinct = len(np.unique(vectors, axis=0))
    selected = np.linspace(0, len(vectors) - 1, min(SILHOUETTE_ROWS, len(vectors))).astype(int)
    for count in CLUSTER_COUNTS:
        if count * MIN_CLUSTER_ROWS > distinct:
            break
        of_row = KMeans(count, n_init=1, max_iter=50, random_state=seed).fit_predict(vectors)
        if len(np.unique(of_row[selected])) < 2:
            continue
        silhouette = round(float(silhouette_score(vectors[selected], of_row[selected])), 3)
        if best is None or silhouette > best[1]:
            best = of_row, silhouette
    return best


def _weight_terms(texts: Sequence[str], of_row: Array) -> list[tuple[str, ...]]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(binary=True, token_pattern=r"\S+", min_df=2, max_features=10_000)
    clusters = range(int(of_row.max()) + 1)
    try:
        found = counter.fit_transform(texts)
    except ValueError:
        # No word occurs in two texts.
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
    with_words: Array,
    texts: Sequence[str],
    labels: Sequence[str | None],
    terms: tuple[str, ...],
) -> Topic:
    centre = vectors[members].mean(axis=0)
    nearest = np.argsort(np.round(((vectors[members] - centre) ** 2).sum(axis=1), 6), kind="stable")
    examples: dict[str, None] = {}
    for place in with_words[members[nearest]].tolist():
        examples[_truncate(texts[place])] = None
        if len(examples) == EXAMPLES:
            break
    label_counts = Counter(label for row in with_words[members].tolist() if (label := labels[row]) is not None)
    label, count = min(label_counts.items(), key=lambda item: (-item[1], item[0]), default=(None, 0))
    return Topic(terms, len(members), tuple(examples), label, count / max(len(members), 1))


def _truncate(text: str) -> str:
    line = " ".join(text.split())
    return make_visible(line[:EXAMPLE_CHARACTERS].rstrip()) + ("…" if len(line) > EXAMPLE_CHARACTERS else "")
