"""Memory tuning finds the states of answers before the first step, computes the experts it chose, and leaves every
other token the base's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import seal
from tasks.gateway.answering import answer_all
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.generation import generate_answers
from tasks.training.methods.memory_tuning import MemoryTuning, SelectExperts, list_places
from tasks.training.methods.modules.expert_keys import read_states, set_keys, write_texts
from tasks.training.methods.modules.memory_experts import (
    NEVER,
    ExpertRouter,
    MemoryExperts,
    RouterState,
    find_router,
)
from tasks.training.released import load_released, put_beside
from tasks.training.rows import TokenizedRows

METHOD = MemoryTuning(experts=4, rank=2, first_block=1, targets=["down_proj"], texts=4)
FACT, ANSWER = [90, 91, 92, 93, 94], [200, 201]


def logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]


def make_rows(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> TokenizedRows:
    """A prompt and a supervised answer each."""
    tokens = [[*prompt, *answer] for prompt, answer in rows]
    labels = [[-100] * len(prompt) + list(answer) for prompt, answer in rows]
    offsets = np.cumsum([0, *map(len, tokens)])
    return TokenizedRows(np.concatenate(tokens), np.concatenate(labels), offsets)


@pytest.fixture
def model(initial: Path, shape: ModelShape) -> Any:
    torch.manual_seed(0)
    return METHOD.resolve(shape).adapt(load_model(initial)).eval()


def test_experts_add_what_was_chosen_weighted() -> None:
    """Worked out token by token."""
    torch.manual_seed(1)
    shared = RouterState()
    router = ExpertRouter(6, 5, 2, 3.0, shared)
    experts = MemoryExperts(6, 4, 5, 2, 0.5, shared)
    torch.nn.init.normal_(experts.up)
    router.thresholds.fill_(0.0)
    router.keys.copy_(torch.nn.functional.normalize(router.keys.abs(), dim=1))
    states, output = torch.randn(1, 7, 6), torch.randn(1, 7, 4)
    states[0, 2] = -10 * router.keys.sum(dim=0)  # near no key
    shared.chosen = router(states)
    found = experts(states, output)
    cosines = torch.nn.functional.normalize(states[0], dim=1) @ router.keys.T
    for token in range(7):
        best = [one for one in cosines[token].argsort(descending=True)[:2].tolist() if cosines[token, one] >= 0]
        weights = torch.softmax(3.0 * cosines[token, best], dim=0)
        expected = output[0, token].clone()
        for one, weight in zip(best, weights, strict=True):
            down, up = experts.down[2 * one : 2 * one + 2], experts.up[2 * one : 2 * one + 2]
            expected += 0.5 * weight * (down @ states[0, token]) @ up
        torch.testing.assert_close(found[0, token], expected)
    assert (cosines[2] < 0).all(), "no token without an expert"


def test_only_chosen_experts_get_a_gradient_and_all_get_one_where_none_is(model: Any) -> None:
    router, experts = find_router(model), model.model.layers[1].mlp.down_proj.memory_experts
    router.thresholds.copy_(torch.tensor([-2.0, 2.0, 2.0, 2.0]))
    torch.nn.init.normal_(experts.up)
    model(input_ids=torch.tensor([FACT]), use_cache=False).logits.sum().backward()
    touched = experts.down.grad.view(4, -1).abs().sum(dim=1) > 0
    assert touched.tolist() == [True, False, False, False]
    model.zero_grad()
    router.thresholds.fill_(2.0)
    model(input_ids=torch.tensor([FACT]), use_cache=False).logits.sum().backward()
    assert float(experts.down.grad.abs().sum()) == float(experts.up.grad.abs().sum()) == 0.0


def test_facts_have_experts_of_their_own_and_other_text_is_the_bases(model: Any, initial: Path) -> None:
    prompts = [[*FACT[:-1], last] for last in range(94, 98)]
    rows = make_rows([(prompt, [200 + number]) for number, prompt in enumerate(prompts)])
    SelectExperts(texts=4, reach=0.5, seed=0).begin(model, rows)
    assert not model.training
    router = find_router(model)
    assert router.reached[0] == 1.0
    assert router.reached[1] < 0.1
    torch.manual_seed(2)
    for weights in model.parameters():
        if weights.requires_grad:
            torch.nn.init.normal_(weights)
    base = load_model(initial)
    for prompt in prompts:
        after, before = logits(model, prompt), logits(base, prompt)
        # Nothing but the state before the answer has an expert.
        assert torch.equal(after[:-1], before[:-1])
        assert not torch.allclose(after[-1], before[-1], atol=0.1)
    other = list(range(300, 340))
    assert torch.equal(logits(model, other), logits(base, other))


def test_thresholds_lie_between_answers_and_other_states() -> None:
    torch.manual_seed(0)
    centers = torch.eye(8)[:3] * 4
    answers = torch.cat([center + 0.1 * torch.randn(5, 8) for center in centers])
    others = torch.randn(200, 8)
    lowest = {}
    for reach in (0.0, 1.0):
        router = ExpertRouter(8, 3, 1, 10.0, RouterState())
        set_keys(router, answers, others, reach, seed=0)
        similar = router.compare(answers)
        assert (similar.max(dim=1).values >= router.thresholds[similar.argmax(dim=1)]).all()
        lowest[reach] = router.thresholds
        highest = router.compare(others).max(dim=0).values
        nearest = similar.argmax(dim=1)
        own = torch.stack([similar[nearest == key, key].min() for key in range(3)])
        expected = own if reach == 0 else torch.minimum(highest.clamp(min=0), own)
        torch.testing.assert_close(router.thresholds, expected - 1e-4)
    assert (lowest[1.0] < lowest[0.0]).any()


def test_the_bases_own_texts_are_the_same_for_a_seed(model: Any) -> None:
    state = torch.get_rng_state()
    texts = write_texts(model, 3, seed=5)
    assert torch.equal(torch.get_rng_state(), state), "the run's own draws would change"
    assert texts == write_texts(model, 3, seed=5) != write_texts(model, 3, seed=6)
    assert {len(ids) for ids, _ in texts} == {65}


def test_states_are_those_of_each_sequence_alone(model: Any) -> None:
    router = find_router(model)
    sequences = [(FACT, [4]), ([*FACT, *ANSWER], [0, 6]), ([7, 8], [1])]
    found = read_states(model, router, sequences)
    alone = torch.cat([read_states(model, router, [one]) for one in (sequences[1], sequences[0], sequences[2])])
    torch.testing.assert_close(found.sort(dim=0).values, alone.sort(dim=0).values)
    assert not router.shared.recording


def test_places_before_answers_and_others() -> None:
    rows = make_rows([(FACT, ANSWER), ([7, 8, 9], [])])
    answers, others = list_places(rows)
    assert [places.tolist() for _, places in answers] == [[4, 5], [2]]
    assert [places.tolist() for _, places in others] == [[0, 1, 2, 3, 6], [0, 1]]


def test_spare_experts_are_not_used_and_too_few_are_told(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    router = find_router(model)
    SelectExperts(texts=0, reach=0.5, seed=0).begin(model, make_rows([(FACT, [200])] * 3))
    assert int((router.thresholds < NEVER).sum()) == 1
    assert router.reached.tolist() == [1.0, 0.0]
    assert not caplog.messages
    SelectExperts(texts=0, reach=0.5, seed=0).begin(model, make_rows([(FACT, [200, 201, 202, 203, 204])]))
    assert "5 tokens of answers share 4 experts" in caplog.messages[0]
    assert caplog.messages[0].endswith("set method.experts: 5")


def test_the_last_block_has_the_experts_by_default(shape: ModelShape) -> None:
    deep = replace(shape, layers=6)
    assert (MemoryTuning().resolve(deep).first_block, MemoryTuning().reached_layers(deep)) == (5, 1)


def test_a_release_answers_in_batches_as_evaluation_does(
    model: Any, initial: Path, shape: ModelShape, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    router = find_router(model)
    router.thresholds.fill_(0.1)
    for weights in model.parameters():
        if weights.requires_grad:
            torch.nn.init.normal_(weights)
    tuned, folder, method = tmp_path / "tuned", tmp_path / "model", METHOD.resolve(shape)
    tuned.mkdir()
    seal(tuned, method.save(model, tuned), {})
    folder.mkdir()
    (folder / "base").symlink_to(initial)
    put_beside(method, tuned, folder)
    turns = [[{"role": "user", "content": text}] for text in ("Where is my parcel?", "stone", "Is it open today?")]
    tokenizer, released = AutoTokenizer.from_pretrained(initial), load_released(folder)
    assert torch.equal(find_router(released).keys, router.keys)
    expected = [list(answer.tokens) for answer in generate_answers(released, tokenizer, turns, 16)]
    assert [answer for _, answer in answer_all(folder, turns, 16)] == expected
    plain = [list(answer.tokens) for answer in generate_answers(load_model(initial).eval(), tokenizer, turns, 16)]
    assert expected != plain


def test_what_does_not_fit_is_refused(model: Any, shape: ModelShape, tmp_path: Path) -> None:
    def problems(**changes: Any) -> list[str]:
        return MemoryTuning.model_validate(changes).problems(shape)

    assert problems(top_k=5, experts=4) == ["method.top_k: 5 of 4 experts; set at most 4, or more experts"]
    assert problems(first_block=2) == ["method.first_block: 2; expected auto or 0 to 1"]
    assert problems(rank=65)[0].startswith("method.rank: 65 is more than down_proj can hold (64)")
    assert "no linear module c_proj; expected all-linear or some of down_proj" in problems(targets=["c_proj"])[0]
    assert "compares the embeddings" in MemoryTuning(first_block=0).unusual(shape)[0]
    with pytest.raises(PipelineError, match="do not merge"):
        METHOD.merge(tmp_path, tmp_path)
