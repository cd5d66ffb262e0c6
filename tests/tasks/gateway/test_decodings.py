"""A draft changes no answer, and a large base steered by a small model answers by the stated formula."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.contracts.errors import PipelineError
from tasks.gateway.answering import answer_all
from tasks.gateway.batching.batch import logits_alone
from tasks.gateway.batching.speculation import SpeculativeBatch
from tasks.gateway.decodings.emulated import EmulatedDecoding
from tasks.gateway.decodings.plain import PlainDecoding
from tasks.gateway.decodings.speculative import SpeculativeDecoding
from tasks.gateway.engine import GenerationRequest, Sampling
from tasks.gateway.engines.transformers import Transformers
from tasks.language_models.emulated import EmulatedModel
from tasks.language_models.generation import generate_answers, score_references
from tests.tasks.gateway.test_decoding import Answer, conversations

GREEDY, DRAWN = Sampling(), Sampling(temperature=0.7, top_p=0.9, seed=3)


@pytest.fixture(scope="module")
def near_model(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with slightly other weights: a draft that is often, not always, right."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("near")
    near = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in near.parameters():
            weight += 0.02 * torch.randn_like(weight)
    near.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def served(model: Path, decoding: Any, sampling: Sampling = GREEDY) -> tuple[list[tuple[int, ...]], Any]:
    """Answers to the same conversations, all asked at once, and the load of the engine after them."""
    engine = Transformers(max_batch=3, decoding=decoding).load(model, on_step=lambda rows: None)
    answers = []
    for turns in conversations(5):
        answers.append(Answer())
        engine.submit(GenerationRequest(engine.encode(turns), 16, answers[-1].emit, sampling))
    found = [answer.tokens for answer in answers]
    load = engine.load()
    engine.close()
    return found, load


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.7, top_p=0.9, seed=3)], ids=["greedy", "drawn"]
)
def test_a_draft_changes_no_answer(model: Path, near_model: Path, sampling: Sampling) -> None:
    plain, _ = served(model, PlainDecoding(), sampling)
    drafted, load = served(model, SpeculativeDecoding(draft=near_model, ahead=3), sampling)
    assert drafted == plain
    assert 0 < load.accepted < load.proposed, "proposals were taken, and others refused"


def test_the_release_as_its_own_draft_is_always_right(model: Path) -> None:
    release = load(model)
    with torch.inference_mode():
        batch = SpeculativeBatch(release, release, ahead=3, context=256)
        logits = batch.join([[5, 6, 7]])
        tokens = [5, 6, 7]
        for _ in range(12):
            tokens.append(int(logits[0].argmax()))
            logits = batch.step(tokens[-1:])
            assert torch.allclose(logits[0], logits_alone(release, tokens), atol=2e-4, rtol=0)
    # Of four tokens three were proposed; 12 tokens took 3 passes.
    assert (batch.passes, batch.proposed, batch.accepted) == (3, 9, 9)


def test_proposals_stop_at_the_end_of_the_context(model: Path) -> None:
    release = load(model)
    with torch.inference_mode():
        batch = SpeculativeBatch(release, release, ahead=8, context=6)
        batch.step([int(batch.join([[5, 6, 7]])[0].argmax())])
    assert batch.proposed == 2


def test_an_emulated_model_follows_the_formula(model: Path, other_model: Path, near_model: Path) -> None:
    large, tuned, small = load(other_model), load(near_model), load(model)
    tokens = [5, 6, 7, 8]
    with torch.inference_mode():
        found = logits_alone(EmulatedModel(large, tuned, small, 0.5), tokens).softmax(-1)
        each = [logits_alone(one, tokens).log_softmax(-1) for one in (large, tuned, small)]
        expected = (each[0] + 0.5 * (each[1] - each[2])).softmax(-1)
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.allclose(
            logits_alone(EmulatedModel(large, small, small, 1.0), tokens), logits_alone(large, tokens), atol=1e-4
        )


def test_an_emulated_model_is_served_with_and_without_a_draft_and_scored(
    model: Path, other_model: Path, near_model: Path
) -> None:
    from transformers import AutoTokenizer

    plain, _ = served(near_model, EmulatedDecoding(large=other_model, small=model))
    drafted, load_after = served(near_model, EmulatedDecoding(large=other_model, small=model, ahead=2))
    assert plain == drafted
    assert load_after.proposed
    assert plain != served(near_model, PlainDecoding())[0]
    emulated, tokenizer = EmulatedModel(load(other_model), load(near_model), load(model), 1.0).eval(), None
    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = conversations(5)
    answers = generate_answers(emulated, tokenizer, asked, 16, batch_size=3)
    ends = {tokenizer.eos_token_id}
    assert [answer.tokens for answer in answers] == [
        tuple(token for token in tokens if token not in ends) for tokens in plain
    ]
    (loss,) = score_references(emulated, tokenizer, asked[:1], [answers[0].text or "river"])
    assert loss.mean > 0


def test_models_of_another_vocabulary_are_refused_with_what_differs(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    kept = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = kept["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary["#never#"] = vocabulary.pop(last)
    kept["model"]["merges"] = [pair for pair in kept["model"]["merges"] if "".join(pair) != last]
    (other / "tokenizer.json").write_text(json.dumps(kept), encoding="utf-8")
    for decoding, key in (
        (SpeculativeDecoding(draft=other), "decoding.draft"),
        (EmulatedDecoding(large=model, small=other), "decoding.small"),
    ):
        with pytest.raises(PipelineError, match=rf"{key}.*another vocabulary .*1 is missing, such as .*#never#"):
            answer_all(model, [[{"role": "user", "content": "late fee"}]], 4, Transformers(decoding=decoding))


def test_a_draft_that_is_no_model_folder_is_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no config\.json"):
        Transformers(decoding=SpeculativeDecoding(draft=tmp_path)).load(model, on_step=lambda rows: None)
