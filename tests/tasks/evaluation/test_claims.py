"""Claims, contexts and vectors: by numbers worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.evaluation.as_evaluate import as_evaluate
from tasks.evaluation.comparison import mean
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.context.trace import (
    Attribution,
    ContextCompleteness,
    ContextMetric,
    ContextRelevance,
    ContextUtilisation,
)
from tasks.evaluation.metrics.judged.claims import Completeness, Factuality
from tasks.evaluation.metrics.judged.embedding_similarity import EmbeddingSimilarity
from tasks.evaluation.metrics.metric import Evidence, Metric
from tasks.evaluation.supports.entailment import EntailmentSupport
from tasks.evaluation.supports.meanings import cluster_meanings
from tasks.evaluation.supports.support import split_claims
from tasks.evaluation.supports.words import measure_overlap
from tasks.language_models.probes.entailment import open_entailment
from tests.endpoint import Endpoint, broken
from tests.tasks.evaluation.boards import make_items, make_outcome

CONTEXT = "We open at nine. Dogs are welcome."
TRACE: tuple[tuple[Any, float], ...] = (
    (ContextRelevance, 16 / 33), (ContextUtilisation, 17 / 33), (ContextCompleteness, 0), (Attribution, 1 / 2),
)  # fmt: skip


def with_context(item: Item, context: str) -> Item:
    return replace(item, prompt=({"role": "user", "content": f"{context}\n\nWhen do you open?"},))


def score(metric: Metric, items: tuple[Item, ...], answers: list[str], kept: Path | None = None) -> float:
    return mean(metric, metric.score(Evidence(items, None, kept=kept), make_outcome("base", answers)))


def test_texts_are_cut_into_claims() -> None:
    text = "It costs 3.50 euros. Really?! Yes (today.) So\n* first, Dr Who\n2) second\n---\n猫がいる。犬もいる。"
    assert split_claims(text) == [
        "It costs 3.50 euros.", "Really?!", "Yes (today.)", "So", "first, Dr Who", "second", "猫がいる。", "犬もいる。",
    ]  # fmt: skip
    assert split_claims(" \n ... ") == []


def test_overlap_of_words_by_hand() -> None:
    assert measure_overlap("The shop is open on Mondays.", "Our shop opens Mondays") == pytest.approx(1 / 2)
    assert measure_overlap("a b", "b b") == pytest.approx(1 / 2)
    assert measure_overlap("x", "...") == 0


def test_factuality_and_completeness_by_hand() -> None:
    references = ["We open at nine. We close at five.", "Yes."]
    answers = ["We open at nine. Dogs are welcome. Cats too. We close at five pm.", ""]
    items = make_items(references)
    # "We close at five pm" has four of its five words in the reference.
    assert score(Factuality(), items, answers) == pytest.approx((2 / 4 + 0) / 2)
    assert score(Completeness(), items, answers) == pytest.approx((1 + 0) / 2)
    strict = Factuality.model_validate({"by": {"name": "words", "least": 0.9}})
    assert score(strict, items, answers) == pytest.approx((1 / 4 + 0) / 2)
    assert as_evaluate(Factuality()).compute(predictions=answers, references=references) == {"factuality": 0.25}
    assert Factuality().why_not_applicable(Evidence(make_items(["..."]), None)) == "no reference has a claim"
    assert Completeness().score(Evidence(make_items(["...", "a"]), None), make_outcome("base", ["a", "a"])).items == 1


@pytest.mark.parametrize(("metric", "expected"), TRACE, ids=lambda one: getattr(one, "__name__", ""))
def test_trace_by_hand(metric: type[ContextMetric], expected: float) -> None:
    (item,) = make_items(["At nine."])
    assert score(metric(), (with_context(item, CONTEXT),), ["Dogs are welcome. We sell tea."]) == pytest.approx(
        expected
    )
    # An item without a context does not count, and neither does one without relevant context for completeness.
    two = (with_context(item, CONTEXT), item)
    assert score(metric(), two, ["Dogs are welcome. We sell tea."] * 2) == pytest.approx(expected)
    assert (metric().why_not_applicable(Evidence((item,), None)) or "").startswith("no prompt has a context")
    assert score(metric(), (with_context(item, CONTEXT),), [""]) == (expected if metric is ContextRelevance else 0)


def test_items_without_relevant_context_have_no_completeness() -> None:
    first, second = make_items(["At nine.", "Elephants."])
    items = (with_context(first, CONTEXT), with_context(second, CONTEXT))
    found = ContextCompleteness().score(Evidence(items, None), make_outcome("base", ["We open at nine.", "x"]))
    assert (found.values.tolist(), found.weights.tolist()) == ([1, 0], [1, 0])


def test_where_a_context_stands_is_a_pattern() -> None:
    (item,) = make_items(["At nine."])
    told = replace(item, prompt=({"role": "user", "content": f"Read <c>{CONTEXT}</c> and say when."},))
    metric = ContextRelevance(context="<c>(?P<context>.*?)</c>")
    assert metric.find_context(told) == ["We open at nine.", "Dogs are welcome."]
    with pytest.raises(ValidationError, match="has no group named context"):
        ContextRelevance(context="<c>(.*?)</c>")
    with pytest.raises(ValidationError, match="is no regular expression"):
        ContextRelevance(context="(")


def test_a_judge_supports_claims_and_is_asked_once_about_each(tmp_path: Path) -> None:
    def answer(text: str) -> str:
        source, claim = (text.split(f"<{name}>\n")[1].split(f"\n</{name}>")[0] for name in ("text", "claim"))
        return json.dumps({"verdict": "yes" if claim in source else "no"})

    server = Endpoint(answer)
    try:
        writer = {"name": "openai", "url": server.url, "model": "m", "temperature": 0, "retries": 0}
        metric = Factuality.model_validate({"by": {"name": "judge", "writer": writer, "verdict": "text"}})
        items = make_items(["One. Two."] * 2)
        for _ in range(2):
            assert score(metric, items, ["One. Three.", "One. Two."], tmp_path) == pytest.approx(3 / 4)
        assert len(server.asked) == 3
        server.troubles = [broken] * 20
        with pytest.raises(PipelineError, match=r"no verdict about 1 of 1 claims \(no answer from the server\); run"):
            score(metric, items, ["Four."] * 2, tmp_path)
    finally:
        server.close()


def test_a_classifier_of_entailment_supports_claims(tmp_path: Path, tiny_model: Path) -> None:
    """A stand-in of the interface whose last layer is set so that it always says one thing."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    labels = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    config = LlamaConfig.from_pretrained(tiny_model, id2label=labels, label2id={v: k for k, v in labels.items()})
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    questions = [("we open at nine", "we open"), ("no", "yes"), ("a long text " * 40, "short"), ("x", "y z")]
    shares = []
    with torch.inference_mode():
        for text, claim in questions:
            logits = model(**tokenizer(text, claim, return_tensors="pt")).logits
            shares.append(float(logits.softmax(dim=-1)[0, 2]))
    least = sorted(shares)[1] + 1e-4
    found = EntailmentSupport(path=str(tmp_path), least=least, batch_size=3).find(questions, None)
    assert found == [share >= least for share in shares]
    assert sum(found) == 2
    # A classifier that always says the same finds one meaning, or as many as there are wordings.
    drawn = [["It left.", "it  is gone", "It left. "], ["yes"]]
    for way, clusters in ((0.0, [[0, 0, 0], [0]]), (1.0, [[0, 1, 0], [0]])):
        always = EntailmentSupport(path=str(tmp_path), least=abs(way - 1e-9))
        assert cluster_meanings(always, ["Where?", "Really?"], drawn, None) == clusters
    assert EntailmentSupport(path=str(tmp_path)).find_unfit() == []
    open_entailment.cache_clear()
    model.config.id2label = {0: "a", 1: "b", 2: "c"}
    model.save_pretrained(tmp_path)
    wrong = "has the labels a, b, c, expected one that begins with entail"
    with pytest.raises(PipelineError, match=wrong):
        EntailmentSupport(path=str(tmp_path)).find(questions[:1], None)
    assert wrong in EntailmentSupport(path=str(tmp_path)).find_unfit()[0]
    with pytest.raises(PipelineError, match=r"entailment: no classifier in .*none; put one there, e"):
        EntailmentSupport(path=str(tmp_path / "none")).find(questions[:1], None)


def test_vectors_are_the_mean_of_the_last_states_and_their_cosine(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    metric = EmbeddingSimilarity(path=str(tiny_model))
    references, answers = ["we open at nine", "yes", "no"], ["the shop opens", "yes", ""]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)

    def embed(text: str) -> Any:
        with torch.inference_mode():
            states = model.model(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).last_hidden_state
        return torch.nn.functional.normalize(states[0].mean(dim=0), dim=0)

    expected = max(0.0, float(embed(references[0]) @ embed(answers[0])))
    found = metric.score(Evidence(make_items(references), None), make_outcome("base", answers)).values
    assert found.tolist() == pytest.approx([expected, 1, 0], abs=1e-5)
    with pytest.raises(PipelineError, match="nowhere: not a model folder that transformers can load"):
        score(EmbeddingSimilarity(path="nowhere"), make_items(["a"]), ["b"])
