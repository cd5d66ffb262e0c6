"""The better base is found on the same rows, an equal one is told as equal, and a broken one does not stop the rest."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.language_models.encoding import encode_reference
from tasks.model_initialisation.candidates import BaseChoice, CandidateScore, _rank, choose_base
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.measure import measure_loss, open_base
from tasks.model_initialisation.report import _add_candidates
from tasks.model_initialisation.sources.access import NO_ACCESS
from tasks.model_initialisation.sources.folder import Folder
from tasks.pages.page import Page
from tests.tiny import example_rows

VALIDATION = pa.Table.from_pylist(example_rows(24, seed=9), schema=EXAMPLES)


@pytest.fixture(scope="module")
def bases(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``plain``, ``taught`` some rows of the kind, ``twin`` of it, and ``broken``."""
    folder = tmp_path_factory.mktemp("bases")
    for name in ("plain", "taught"):
        shutil.copytree(tiny_model, folder / name)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    pairs = [
        encode_reference(tokenizer, row["messages"][:1], row["messages"][1]["content"])  # type: ignore[index]
        for row in example_rows(12, seed=1)
    ]
    for before, after in pairs:
        loss = model(input_ids=torch.tensor([before + after]), labels=torch.tensor([[-100] * len(before) + after])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder / "taught")
    shutil.copytree(folder / "taught", folder / "twin")
    shutil.copytree(tiny_model, folder / "broken")
    (folder / "broken/config.json").write_text("[]")
    return folder


def choose(bases: Path, names: Sequence[str], how: Any = "source", limit: int = 10**9) -> BaseChoice:
    first, *others = (Folder(path=bases / name) for name in names)
    return choose_base(first, others, how, NO_ACCESS, VALIDATION, 24, limit)


def test_the_better_base_is_recommended_and_only_taken_when_asked(bases: Path) -> None:
    found = choose(bases, ["plain", "broken", "taught", "twin"])
    assert [Path(score.name).name for score in found.scores] == ["taught", "twin", "plain", "broken"]
    best, twin, plain, broken = found.scores
    assert (twin.bits_per_byte, twin.low, twin.high, twin.is_worse) == (best.bits_per_byte, 0, 0, False)
    assert plain.is_worse
    assert 0 < plain.low < plain.high
    assert "a JSON list, expected an object" in broken.problem
    assert (found.rows, Path(found.recommended).name, Path(found.taken).name) == (24, "taught", "plain")
    assert found.source == Folder(path=bases / "plain")
    taken = choose(bases, ["plain", "taught"], "recommended")
    assert taken.source == Folder(path=bases / "taught")
    # The same measure as that of the page, on answers with their end.
    model = open_base(check_folder(bases / "plain"), 10**9)
    alone = measure_loss(model, VALIDATION, open_tokenizer(bases / "plain"), 256, 24)
    assert alone is not None
    assert plain.bits_per_byte == pytest.approx(alone.bits_per_byte, abs=2e-3)


def test_few_rows_prove_and_recommend_nothing(bases: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Three rows told two bases apart: one in four such triples lies on one side by chance."""
    base, taught = Folder(path=bases / "plain"), Folder(path=bases / "taught")
    rows = VALIDATION.slice(0, 5)
    found = choose_base(base, [taught], "source", NO_ACCESS, rows, 24, 10**9)
    assert (found.rows, found.recommended, found.source) == (5, "", base)
    assert not any(score.is_worse for score in found.scores)
    assert "5 validation rows that all of them read; expected 6 or more" in caplog.text
    with pytest.raises(PipelineError, match="to choose by; add rows"):
        choose_base(base, [taught], "recommended", NO_ACCESS, rows, 24, 10**9)


@pytest.mark.parametrize(
    ("recommended", "said"), [("", "Fewer than 6 rows prove nothing"), ("two", "recommended</td>")]
)
def test_the_page_shows_how_candidates_compare(tmp_path: Path, recommended: str, said: str) -> None:
    scores = (CandidateScore("one", 10**7, 3.2), CandidateScore("two", 10**6, 3.3, -0.1, 0.2))
    page = Page("Model", "as found", "ready", "good")
    _add_candidates(page, BaseChoice(Folder(), "one", recommended, scores, 5))
    page.write(tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert said in text
    assert "same 5 validation rows" in text
    assert ("none is recommended" in text) == (not recommended)


def test_the_smaller_of_two_that_are_not_told_apart_is_recommended() -> None:
    random = np.random.default_rng(3)
    nats = random.normal(50, 10, size=60)
    sizes = np.full(60, 30.0)
    noise = random.normal(0, 5, size=60)
    opened: Any = [
        SimpleNamespace(name=name, base=SimpleNamespace(weights=SimpleNamespace(parameters=count)))
        for name, count in (("large", 10**9), ("small", 10**6), ("worse", 10**5))
    ]
    large, small, worse = _rank(opened, [nats, nats + noise - noise.mean() + 0.1, nats + 5 + noise], sizes)
    assert [score.name for score in (large, small, worse)] == ["large", "small", "worse"]
    assert (large.is_worse, small.is_worse, worse.is_worse) == (False, False, True)
    assert small.low < 0 < small.high
    # Mean difference 0.1 nats of 30 bytes: 0.1 / ln 2 / 30.
    assert small.bits_per_byte == pytest.approx((large.bits_per_byte or 0) + 0.1 / np.log(2) / 30, abs=2e-4)


def test_without_candidates_nothing_is_opened(tmp_path: Path) -> None:
    source = Folder(path=tmp_path / "not there")
    assert choose_base(source, (), "source", NO_ACCESS, VALIDATION, 24, 0) == BaseChoice(source)


def test_when_none_can_be_compared_the_reason_is_said(bases: Path) -> None:
    with pytest.raises(PipelineError, match=r"none can be compared .*a JSON list"):
        choose(bases, ["broken", "broken"])
    with pytest.raises(PipelineError, match="none is small enough"):
        choose(bases, ["plain", "taught"], limit=1)
