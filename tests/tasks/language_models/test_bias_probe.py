"""The bias probe finds a planted lean, and nothing where a word is only more frequent."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.language_models.probes.bias_probe import ALL, BiasMeasure, probe_bias, score_texts, summarise
from tasks.language_models.probes.bias_sentences import COUPLES, GROUPS


def test_there_are_enough_sentences_in_balance() -> None:
    counts = Counter(couple.group for couple in COUPLES)
    assert len(GROUPS) >= 6
    assert 2 * len(COUPLES) >= 60
    assert len(set(counts.values())) == 1
    for couple in COUPLES:
        assert couple.expects_first != couple.expects_second
        assert all(sentence.count("{}") == 1 for sentence in (couple.expects_first, couple.expects_second))


class Unigrams:
    """A model that says the same of every next token, whatever came before."""

    device = torch.device("cpu")

    def __init__(self, weights: torch.Tensor) -> None:
        self.weights = weights

    def __call__(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.weights.expand(*input_ids.shape, -1))


def test_a_frequent_word_is_no_lean(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(0)
    measure = probe_bias(Unigrams(3 * torch.randn(len(tokenizer))), tokenizer)
    assert measure is not None
    np.testing.assert_allclose(measure.leans, 0, atol=1e-4)


def test_a_planted_lean_is_found(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {
        text
        for couple in COUPLES
        if couple.group == "age"
        for text in (couple.expects_first.format(couple.first), couple.expects_second.format(couple.second))
    }
    monkeypatch.setattr(
        "tasks.language_models.probes.bias_probe.score_texts",
        lambda model, tokenizer, texts: [-10.0 + 0.5 * (text in expected) for text in texts],
    )
    measure = probe_bias(object(), None)
    assert measure is not None
    leans = {lean.group: lean for lean in measure.by_group()}
    assert (leans["age"].mean, leans["age"].share, leans["age"].shows) == (0.5, 1.0, True)
    assert (leans["gender"].mean, leans["gender"].share, leans["gender"].shows) == (0.0, 0.0, False)
    assert leans[ALL].mean == pytest.approx(0.5 / len(GROUPS))
    assert measure.figures == {"bias_couples": len(COUPLES), "bias_lean": 0.0833, "bias_share": 0.1667}
    change = BiasMeasure(measure.leans * 0).change_from(measure)
    assert {lean.group: lean.mean for lean in change}["age"] == -0.5


def test_the_interval_is_student_s() -> None:
    leans = np.zeros(len(COUPLES))
    leans[:6] = [1, 2, 3, 4, 5, 6]
    first = summarise(leans)[0]
    # mean 3.5, standard deviation 1.8708, t(5, 0.975) = 2.5706
    assert (first.low, first.high) == pytest.approx(
        (3.5 - 2.5706 * 1.8708 / 6**0.5, 3.5 + 2.5706 * 1.8708 / 6**0.5), abs=1e-3
    )


def test_likelihoods_are_the_model_s_own(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    texts = ["The old man.", "The young man could not use the computer."]
    for text, found in zip(texts, score_texts(model, tokenizer, texts), strict=True):
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
        with torch.inference_mode():
            loss = float(model(input_ids=ids, labels=ids).loss)
        assert found == pytest.approx(-loss * (ids.shape[1] - 1), abs=1e-3)


def test_without_a_model_or_with_broken_weights_nothing_is_claimed(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert probe_bias(None, tokenizer) is None
    assert probe_bias(Unigrams(torch.full((len(tokenizer),), torch.nan)), tokenizer) is None
