"""Word vectors, read or learned, and which words are near one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.unpack import Line, Readable, iterate_lines, open_unpacked
from tasks.data_preparation.trainset.augmentation.material import WORD

Array = np.ndarray[Any, Any]

WINDOW = 4
DIMENSIONS = 100
NEAREST = 10
# Bytes a file of vectors may unpack to.
LARGEST = 32 * 1024**3


def split_words(text: str) -> list[str]:
    """Words of letters, folded."""
    return [match.casefold() for match in WORD.findall(text)]


def learn_vectors(prompts: Sequence[str], words: Sequence[str]) -> tuple[list[str], Array]:
    """Unit vectors of words by the company they keep in prompts."""
    from scipy.sparse import coo_array
    from sklearn.decomposition import TruncatedSVD

    place = {word: i for i, word in enumerate(words)}
    counts: Counter[tuple[int, int]] = Counter()
    for prompt in prompts:
        row = [place.get(word, -1) for word in split_words(prompt)]
        for i, word in enumerate(row):
            for other in row[i + 1 : i + 1 + WINDOW]:
                if word >= 0 and other >= 0:
                    counts[word, other] += 1
                    counts[other, word] += 1
    if len(words) < 3 or not counts:
        return [], np.zeros((0, 1))
    keys = np.array(sorted(counts), dtype=np.int64)
    values = np.array([counts[tuple(key)] for key in keys.tolist()], dtype=np.float64)
    sums = np.bincount(keys[:, 0], weights=values, minlength=len(words))
    # Contexts to the power of 0.75: otherwise rare ones count too much.
    context = np.bincount(keys[:, 1], weights=values, minlength=len(words)) ** 0.75
    mutual = np.log(values * context.sum() / (sums[keys[:, 0]] * context[keys[:, 1]]))
    kept = mutual > 0
    matrix = coo_array((mutual[kept], (keys[kept, 0], keys[kept, 1])), shape=(len(words), len(words))).tocsr()
    dimensions = min(DIMENSIONS, len(words) - 1)
    svd = TruncatedSVD(dimensions, random_state=0)
    points = svd.fit_transform(matrix) / np.sqrt(np.maximum(svd.singular_values_, 1e-9))
    return list(words), _unit(points)


def read_vectors(path: Path, wanted: set[str]) -> tuple[list[str], Array]:
    """Unit vectors of the wanted words, of a text file with a word and its numbers in each line.

    Raises:
        PipelineError: The file is missing, or a line has another number of values than the first.
    """
    if not path.is_file():
        raise PipelineError(f"synonyms: {path} does not exist; correct vectors or leave it out")
    words: list[str] = []
    points: list[list[float]] = []
    with open_unpacked(path, str(path), LARGEST) as stream:
        for number, parts in _split_lines(stream):
            word = parts[0].decode(errors="replace").casefold()
            # word2vec begins with a line of two counts.
            if word not in wanted or (number == 1 and len(parts) == 2):
                continue
            try:
                point = [float(part) for part in parts[1:]]
            except ValueError as error:
                raise PipelineError(
                    f"{path}:{number}: not a word and numbers; give synonyms a file of word vectors"
                ) from error
            if points and len(point) != len(points[0]):
                raise PipelineError(f"{path}:{number}: {len(point)} numbers; the lines before have {len(points[0])}")
            words.append(word)
            points.append(point)
    distinct = {word: i for i, word in reversed(list(enumerate(words)))}
    names = sorted(distinct)
    return names, _unit(np.array([points[distinct[name]] for name in names]).reshape(len(names), -1))


def _split_lines(stream: Readable) -> Iterator[tuple[int, list[bytes]]]:
    for block in iterate_lines(stream):
        if isinstance(block, Line):
            continue
        first, lines = block
        yield from ((first + place, parts) for place, line in enumerate(lines) if (parts := line.split()))


def find_neighbours(words: Sequence[str], points: Array, similarity: float, grammar: set[str]) -> dict[str, list[str]]:
    """Word to the words that are near it and it is near to; none for words of grammar."""
    if len(words) < 2:
        return {}
    near: dict[int, set[int]] = {}
    for start in range(0, len(words), 1000):
        cosines = points[start : start + 1000] @ points.T
        for offset, line in enumerate(cosines):
            line[start + offset] = -1
            best = np.argsort(-line, kind="stable")[:NEAREST]
            near[start + offset] = {int(i) for i in best if line[i] >= similarity}
    found = {
        words[i]: sorted(words[j] for j in others if i in near[j] and words[j] not in grammar)
        for i, others in near.items()
        if words[i] not in grammar
    }
    return {word: others for word, others in found.items() if others}


def _unit(points: Array) -> Array:
    unit: Array = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    return unit
