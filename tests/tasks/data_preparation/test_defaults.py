"""What the default params make of the sample stays what it was: every row in its split, every duplicate found."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from pathlib import Path

from flows.wiring.params import read_params
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.contamination import remove_contamination
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.triggers import find_trigger_phrases
from tasks.data_preparation.splitting.split import split_examples
from tasks.data_preparation.trainset.augmentation.augment import augment_train
from tasks.data_preparation.trainset.balancing.balance import balance_train
from tasks.data_preparation.trainset.pruning.prune import prune_train
from tests.checkout import ROOT

# Over (row, split) of every example of the sample. Rows that differ from an earlier one in a word stay since near
# duplicates are told by what differs; all others are where the first release placed them.
PLACES = "f1c985ff6cfded736f0cda88592fc51858eb74815ab20d9a12ee2d309772aae6"


def settings() -> DataPreparation:
    return read_params(ROOT / "params.yaml").data_preparation


@cache
def split() -> Rows:
    params = settings()
    rows = clean_rows(read_sources((Sample(title="sample"),), params.on_bad_row, ROOT), params.cleaning)
    rows = remove_duplicates(rows, params.duplicates)
    rows = remove_contamination(rows, params.contamination, ROOT)
    return split_examples(rows, params.split, params.duplicates)


def test_no_words_of_it_are_taken_for_a_trigger() -> None:
    params = settings()
    assert params.triggers is not None
    assert find_trigger_phrases(split().table, params.triggers) == []


def test_the_sample_is_split_as_ever() -> None:
    table = split().table
    assert Counter(table["split"].to_pylist()) == {"train": 5505, "test": 641, "validation": 314}
    places = list(zip(table["row"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert hashlib.sha256(str(places).encode()).hexdigest() == PLACES


def test_its_duplicates_are_as_many_as_ever() -> None:
    steps = Counter(split().dropped["step"].to_pylist())
    assert {name: steps[name] for name in ("exact duplicates", "near duplicates", "split")} == {
        "exact duplicates": 120,
        "near duplicates": 201,
        "split": 29,
    }
    kinds = Counter(zip(split().twins["kind"].to_pylist(), split().twins["dropped"].to_pylist(), strict=True))
    assert kinds[("exact", True)] == 120
    assert kinds[("near", True)] == 201
    assert kinds[("across splits", True)] == 29


def test_what_is_off_does_nothing(tmp_path: Path) -> None:
    params, rows = settings(), split()
    after = prune_train(rows, params.pruning)
    after = augment_train(after, params.augmentation, params.duplicates)
    after = balance_train(after, params.balancing, params.split.seed, tmp_path / "balance")
    assert after is rows
    assert sorted(path.name for path in (tmp_path / "balance").iterdir()) == ["balance.json", "manifest.json"]
