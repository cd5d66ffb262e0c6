"""Classes are evened out as asked, and what training reads says so."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.balance import VECTORS, read_balance
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.rows.rows import Origin, Rows
from tasks.data_preparation.splitting.split import repeat_train
from tasks.data_preparation.trainset.balancing.balance import balance_train, make_costs, weight_classes
from tasks.data_preparation.trainset.balancing.balancer import Labelled
from tasks.data_preparation.trainset.balancing.oversample import Oversample
from tasks.data_preparation.trainset.balancing.params import Balancing
from tasks.data_preparation.trainset.balancing.smote import Smote
from tasks.data_preparation.trainset.balancing.undersample import Undersample
from tests.conversations import make, pair

WORDS = [a + b for a in ("ka", "lo", "mi", "tu", "ve", "zy") for b in ("ra", "sol", "ten", "wick", "dun")]


def uneven(counts: dict[str, int], weight: float = 1.0) -> Rows:
    """Training rows, so many of each label, and one held-out row of each."""
    rng = random.Random(3)
    labels: list[str | None] = [label for label, count in counts.items() for _ in range(count + 1)]
    turns = [pair(f"{label} {' '.join(rng.sample(WORDS, 6))}", "fine") for label in labels]
    rows = make(*turns, labels=labels)
    splits = ["test" if label != before else "train" for before, label in zip([None, *labels], labels, strict=False)]
    table = rows.table.append_column("id", pa.array([f"{i:016x}" for i in range(len(labels))]))
    table = table.append_column("split", pa.array(splits))
    return replace(rows, table=table, origins=(Origin("s", "jsonl", "x", "alpaca", {}, len(labels), weight),))


def train_of(rows: Rows) -> pa.Table:
    return repeat_train(rows.table.filter(pc.equal(rows.table["split"], "train")), rows, 0)


def counts_of(rows: Rows) -> dict[str, int]:
    return dict(Counter(train_of(rows)["label"].to_pylist()))


def test_without_a_method_the_counts_are_handed_over(tmp_path: Path) -> None:
    rows = uneven({"a": 30, "b": 3})
    out = balance_train(rows, Balancing(), 0, tmp_path)
    assert out is rows
    balance = read_balance(tmp_path)
    assert balance.before == balance.after == {"a": 30, "b": 3}
    assert (balance.weights, balance.costs, balance.batches, balance.vectors) == (None, None, "any", None)


def test_small_classes_are_repeated(tmp_path: Path) -> None:
    rows = uneven({"a": 100, "b": 10, "c": 33})
    out = balance_train(rows, Balancing(method=Oversample(ratio=2)), 0, tmp_path)
    assert counts_of(out) == {"a": 100, "b": 50, "c": 50}
    assert read_balance(tmp_path).after == counts_of(out)
    repeats = Counter(train_of(out)["id"].to_pylist())
    assert set(repeats.values()) == {1, 2, 5}
    # Held-out rows are left alone, and every row stays.
    assert out.table.num_rows == rows.table.num_rows
    listing = out.steps[-1].listings[0]
    assert listing.columns == ("label", "rows before", "share before", "rows after", "share after", "weight")
    assert listing.rows[0] == ("a", 100, "69.93%", 100, "50.00%", 1.0)
    assert listing.rows[2] == ("b", 10, "6.99%", 50, "25.00%", 1.0)


def test_large_classes_are_cut_and_set_aside(tmp_path: Path) -> None:
    rows = uneven({"a": 100, "b": 10, "c": 33})
    out = balance_train(rows, Balancing(method=Undersample(ratio=2)), 0, tmp_path)
    assert counts_of(out) == {"a": 20, "b": 10, "c": 20}
    assert Counter(out.dropped["reason"].to_pylist()) == {
        "label a has more rows than wanted": 80,
        "label c has more rows than wanted": 13,
    }
    assert Counter(out.table["split"].to_pylist())["test"] == 3


def test_the_choice_of_rows_does_not_depend_on_other_classes(tmp_path: Path) -> None:
    rows = uneven({"a": 50, "b": 20})
    ids = set(balance_train(rows, Balancing(method=Undersample()), 0, tmp_path).table["id"].to_pylist())
    b_only = rows.table.filter(pc.equal(rows.table["label"], "a"))
    more = replace(rows, table=pa.concat_tables([b_only, rows.table.filter(pc.equal(rows.table["label"], "b"))]))
    assert set(balance_train(more, Balancing(method=Undersample()), 0, tmp_path).table["id"].to_pylist()) == ids
    other = Balancing(method=Undersample(seed=1))
    assert set(balance_train(rows, other, 0, tmp_path).table["id"].to_pylist()) != ids


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1),
    st.floats(1, 5),
    st.sampled_from([Oversample, Undersample]),
)
def test_the_ratio_is_kept(counts: dict[str, int], ratio: float, kind: type[Oversample | Undersample]) -> None:
    labels = [label for label, count in counts.items() for _ in range(count)]
    rows = Labelled([str(i) for i in range(len(labels))], labels, [1] * len(labels), [""] * len(labels))
    times = kind(ratio=ratio).balance(rows).times
    after = Labelled(rows.ids, labels, times, rows.texts).count()
    # Whole rows: one less than the limit at most.
    assert max(after.values()) <= ratio * (min(after.values()) + 1)
    if kind is Oversample:
        assert min(times) >= 1
        assert max(after.values()) == max(counts.values())
    else:
        assert max(times) <= 1
        assert min(after.values()) == min(counts.values())


def test_repetitions_by_weight_are_counted(tmp_path: Path) -> None:
    rows = uneven({"a": 40, "b": 10}, weight=2)
    assert counts_of(rows) == {"a": 80, "b": 20}
    out = balance_train(rows, Balancing(method=Oversample()), 0, tmp_path)
    assert read_balance(tmp_path).before == {"a": 80, "b": 20}
    assert counts_of(out) == {"a": 80, "b": 80}
    cut = balance_train(rows, Balancing(method=Undersample()), 0, tmp_path)
    assert counts_of(cut) == {"a": 20, "b": 20}


def test_smote_lies_between_rows_of_its_class(tmp_path: Path) -> None:
    pytest.importorskip("imblearn", reason="imbalanced-learn is in the extra balancing")
    rows = uneven({"a": 60, "b": 12, "c": 1})
    settings_ = Balancing(method=Smote(embedder=Tfidf(dimensions=16), neighbours=3))
    out = balance_train(rows, settings_, 0, tmp_path / "one")
    balance_train(rows, settings_, 0, tmp_path / "two")
    assert counts_of(out) == {"a": 60, "b": 60, "c": 60}
    for name in ("balance.json", "manifest.json", "vectors.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_balance(tmp_path / "one").vectors == "vectors.parquet"
    read_manifest(tmp_path / "one", verify=True)
    table = pq.read_table(tmp_path / "one/vectors.parquet")
    assert table.schema.equals(VECTORS)
    assert Counter(table["label"].to_pylist()) == {"a": 60, "b": 60, "c": 60}
    lines = table.to_pylist()
    own = [np.array(line["vector"]) for line in lines if line["label"] == "b" and not line["synthetic"]]
    made = [np.array(line["vector"]) for line in lines if line["label"] == "b" and line["synthetic"]]
    assert len(own) == 12
    for point in made:
        # On the line between two rows of its class.
        gaps = [
            np.linalg.norm(point - p) + np.linalg.norm(point - q) - np.linalg.norm(p - q)
            for i, p in enumerate(own)
            for q in own[i + 1 :]
        ]
        assert min(gaps) < 1e-3
    assert all(line["id"] is None for line in lines if line["synthetic"])
    names = {line["id"] for line in lines if line["label"] == "b"} - {None}
    assert {line["nearest"] for line in lines if line["label"] == "b"} <= names


def test_smote_makes_a_classifier_on_embeddings_see_the_small_class() -> None:
    pytest.importorskip("imblearn", reason="imbalanced-learn is in the extra balancing")
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score

    rng = random.Random(4)
    kinds = {"a": WORDS[:20], "b": WORDS[12:]}

    def draw(label: str) -> str:
        return " ".join(rng.choices(kinds[label], k=5))

    labels = ["a"] * 400 + ["b"] * 16
    rows = Labelled([str(i) for i in range(416)], labels, [1] * 416, [draw(label) for label in labels])
    held = ["a"] * 200 + ["b"] * 200
    embedder = Tfidf(dimensions=16)
    points = embedder.embed([*rows.texts, *(draw(label) for label in held)])
    before = LogisticRegression().fit(points[:416], labels)
    made = Smote(embedder=embedder)._interpolate(points[400:416], 384)
    after = LogisticRegression().fit(np.concatenate([points[:416], made]), [*labels, *["b"] * 384])
    found = [recall_score(held, model.predict(points[416:]), pos_label="b") for model in (before, after)]
    assert found[0] < 0.6
    assert found[1] > 0.85


def test_weights() -> None:
    counts = {"a": 90, "b": 10}
    assert weight_classes(counts, Balancing()) is None
    # 100 rows over 2 classes: 100 / (2 * 90) and 100 / (2 * 10).
    assert weight_classes(counts, Balancing(weights="inverse")) == pytest.approx({"a": 100 / 180, "b": 5.0})
    # Cui et al.: (1 - 0.9) / (1 - 0.9 ** n) is 0.1000076 and 0.1535340; the mean over 100 rows is 0.1053602.
    found = weight_classes(counts, Balancing(weights="effective", beta=0.9))
    assert found == pytest.approx({"a": 0.949197, "b": 1.457229}, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1), st.integers(1, 10**6), min_size=1, max_size=8), st.sampled_from([0.9, 0.999])
)
def test_weights_have_mean_one_and_favour_the_small(counts: dict[str, int], beta: float) -> None:
    for kind in ("inverse", "effective"):
        weights = weight_classes(counts, Balancing(weights=kind, beta=beta)) or {}
        mean = sum(weights[label] * count for label, count in counts.items()) / sum(counts.values())
        assert mean == pytest.approx(1)
        ordered = sorted(counts, key=lambda label: counts[label])
        assert all(weights[a] >= weights[b] * (1 - 1e-9) for a, b in itertools.pairwise(ordered))


def test_costs_and_batches_are_handed_over(tmp_path: Path) -> None:
    rows = uneven({"fraud": 5, "other": 20, "spam": 10})
    settings_ = Balancing(costs={"fraud": {"other": 10.0}}, stratified_batches=True, weights="inverse")
    balance_train(rows, settings_, 0, tmp_path)
    balance = read_balance(tmp_path)
    assert balance.classes == ["fraud", "other", "spam"]
    assert balance.costs == [[0, 10, 1], [1, 0, 1], [1, 1, 0]]
    assert balance.batches == "stratified"
    assert make_costs({}, ["a"]) is None
    # One over the rows, times what the mistakes about a label cost together.
    share = {"fraud": 11 / 5, "other": 2 / 20, "spam": 2 / 10}
    assert balance.weights is not None
    assert balance.weights["fraud"] / balance.weights["spam"] == pytest.approx(share["fraud"] / share["spam"])
    assert balance.weights["other"] / balance.weights["spam"] == pytest.approx(share["other"] / share["spam"])
    with pytest.raises(PipelineError, match='all costs of mistakes on "spam" are 0'):
        balance_train(rows, Balancing(costs={"spam": {"other": 0.0, "fraud": 0.0}}), 0, tmp_path)
    with pytest.raises(
        PipelineError, match='costs name "scam", which no training row has; labels are fraud, other, sp'
    ):
        balance_train(rows, Balancing(costs={"scam": {"other": 2.0}}), 0, tmp_path)


def test_labels_are_needed_where_something_is_asked(tmp_path: Path) -> None:
    rows = uneven({"a": 5})
    index = rows.table.schema.get_field_index("label")
    bare = replace(rows, table=rows.table.set_column(index, "label", pa.array([None] * 6, pa.string())))
    assert balance_train(bare, Balancing(), 0, tmp_path) is bare
    assert read_balance(tmp_path).classes == []
    for settings_ in (Balancing(method=Oversample()), Balancing(weights="inverse"), Balancing(stratified_batches=True)):
        with pytest.raises(PipelineError, match="no training row has a label"):
            balance_train(bare, settings_, 0, tmp_path)
    with pytest.raises(ValidationError, match="costs must not be negative"):
        Balancing(costs={"a": {"b": -1}})
    with pytest.raises(ValidationError, match="the cost of the right label is 0"):
        Balancing(costs={"a": {"a": 1}})


def test_a_torn_hand_over_is_refused(tmp_path: Path) -> None:
    balance_train(uneven({"a": 5}), Balancing(), 0, tmp_path)
    path = tmp_path / "balance.json"
    text = path.read_text()
    path.write_text(text.replace('"any"', '"all"'))
    with pytest.raises(PipelineError, match=r"balance\.json: batches is not as expected; run data_preparation again"):
        read_balance(tmp_path)
