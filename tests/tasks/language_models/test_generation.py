"""Batched greedy answers are the tokens transformers' own ``generate`` gives one by one, and the loss is its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from tasks.contracts.errors import PipelineError
from tasks.language_models.encoding import encode_prompt, encode_reference
from tasks.language_models.generation import (
    context_length,
    generate_answers,
    score_references,
)
from tests.tiny import example_rows

ROWS = example_rows(1)
ENDS = (2, *range(10, 600, 12))
WORDS = ["the", "late", "fee", "of", "a", "room", "lost", "on", "the", "river", "bank", "under", "one", "old", "stone"]


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> tuple[Any, Any]:
    """The tiny model with wide random weights: its answers wander, and end at many lengths by many end tokens."""
    config = AutoConfig.from_pretrained(tiny_model, tie_word_embeddings=False, initializer_range=0.3)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = list(ENDS)
    return model, AutoTokenizer.from_pretrained(tiny_model)


def prompts_of_all_lengths() -> list[list[dict[str, str]]]:
    prompts = [[{"role": "user", "content": " ".join(WORDS[: 1 + 2 * n])}] for n in range(8)]
    turns = ROWS[0]["messages"]
    assert isinstance(turns, list)
    prompts.append([*turns, {"role": "user", "content": "And the fee?"}])
    prompts.append([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    return prompts


def generate_alone(model: Any, tokenizer: Any, prompt: list[dict[str, str]], limit: int) -> list[int]:
    ids = torch.tensor([encode_prompt(tokenizer, prompt)])
    output = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False, pad_token_id=1
    )
    written: list[int] = output[0, ids.shape[1] :].tolist()
    return written


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_answer_as_generate_does_alone(tiny: tuple[Any, Any], batch_size: int) -> None:
    model, tokenizer = tiny
    prompts = prompts_of_all_lengths()
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens=24, batch_size=batch_size)
    for prompt, answer in zip(prompts, answers, strict=True):
        alone = generate_alone(model, tokenizer, prompt, 24)
        ended = alone[-1] in ENDS
        assert answer.finished is ended
        assert list(answer.tokens) == (alone[:-1] if ended else alone)
        assert answer.text == tokenizer.decode(answer.tokens, skip_special_tokens=True)
    assert len({len(answer.tokens) for answer in answers}) > 3, "rows leaving a batch were not tried"
    assert {answer.finished for answer in answers} == {True, False}


def test_an_architecture_without_rotary_positions_answers_the_same(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=96, bos_token_id=0, eos_token_id=2
    )
    model = GPT2LMHeadModel(config).eval()
    prompts = prompts_of_all_lengths()[:5]
    for prompt, answer in zip(prompts, generate_answers(model, tokenizer, prompts, 12, 4), strict=True):
        alone = generate_alone(model, tokenizer, prompt, 12)
        assert list(answer.tokens) == [token for token in alone if token != 2]


def test_an_answer_stops_where_the_context_ends(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    torch.manual_seed(0)
    prompt = [{"role": "user", "content": "Hello"}]
    length = len(encode_prompt(tokenizer, prompt))
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=length + 5)
    config.eos_token_id = None
    model = GPT2LMHeadModel(config).eval()
    assert context_length(model.config) == length + 5
    (answer,) = generate_answers(model, tokenizer, [prompt], max_new_tokens=100)
    assert len(answer.tokens) == 5
    assert not answer.finished
    with pytest.raises(PipelineError, match=rf"{length + 14} tokens .* context of {length + 5}"):
        generate_answers(model, tokenizer, [[{"role": "user", "content": "Hello" + "7" * 14}]], 100)


def test_an_architecture_with_a_state_of_its_own_is_answered_one_by_one(
    tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = tiny
    prompts = prompts_of_all_lengths()[:4]
    batched = generate_answers(model, tokenizer, prompts, 16)
    monkeypatch.setattr(type(model), "_is_stateful", True)
    assert generate_answers(model, tokenizer, prompts, 16) == batched


def test_a_model_with_learned_vectors_before_the_prompt_is_answered_one_by_one(tiny: tuple[Any, Any]) -> None:
    from peft import PromptTuningConfig, get_peft_model

    model, tokenizer = tiny
    torch.manual_seed(4)
    prompted = get_peft_model(copy.deepcopy(model), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    torch.nn.init.normal_(prompted.prompt_encoder.default.embedding.weight, std=0.3)
    prompts = prompts_of_all_lengths()[:4]
    answers = generate_answers(prompted.eval(), tokenizer, prompts, 16)
    for prompt, answer in zip(prompts, answers, strict=True):
        alone = generate_alone(prompted, tokenizer, prompt, 16)
        assert list(answer.tokens) == (alone[:-1] if answer.finished else alone)
    assert answers != generate_answers(model, tokenizer, prompts, 16)


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_loss_is_that_of_transformers(tiny: tuple[Any, Any], batch_size: int) -> None:
    model, tokenizer = tiny
    prompts = prompts_of_all_lengths()
    references = [" ".join(WORDS[n : 3 * n + 1]) for n in range(len(prompts))]
    losses = score_references(model, tokenizer, prompts, references, batch_size)
    for prompt, reference, loss in zip(prompts, references, losses, strict=True):
        text = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": reference}], tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        labels = ids.clone()
        labels[:, : len(encode_prompt(tokenizer, prompt))] = -100
        expected = float(model(input_ids=ids, labels=labels).loss)
        assert loss.mean == pytest.approx(expected, rel=1e-5)
        assert loss.tokens == int((labels != -100).sum())


def test_the_reference_ends_with_the_end_of_turn_and_nothing_after_it(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    prompt = [{"role": "user", "content": "Hello"}]
    before, answer = encode_reference(tokenizer, prompt, "Good day")
    assert before == encode_prompt(tokenizer, prompt)
    assert answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(answer[:-1]) == "Good day"
    plain = tokenizer.chat_template
    try:
        # ChatML writes a line break after the end of turn.
        tokenizer.chat_template = plain.replace("{%- endgeneration -%}", "{%- endgeneration -%}{{- '\\n' -}}")
        assert encode_reference(tokenizer, prompt, "Good day") == (before, answer)
        # A template that writes an answer of the past differently from one it starts.
        tokenizer.chat_template = plain.replace("{%- if add", "{{- '!' if not add_generation_prompt -}}{%- if add")
        shifted = tokenizer.chat_template.replace("{{- bos_token -}}", "{{- bos_token if add_generation_prompt -}}")
        tokenizer.chat_template = shifted
        assert encode_reference(tokenizer, prompt, "Good day") == (before, answer)
    finally:
        tokenizer.chat_template = plain


def test_a_refused_or_missing_template_is_one_line(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    with pytest.raises(PipelineError, match=r"refuses the conversation \(turn 1 \(judge\): unknown role: judge\)"):
        encode_prompt(tokenizer, [{"role": "judge", "content": "Order!"}])
    plain = tokenizer.chat_template
    try:
        tokenizer.chat_template = None
        with pytest.raises(PipelineError, match="no chat template"):
            encode_prompt(tokenizer, [{"role": "user", "content": "Hello"}])
    finally:
        tokenizer.chat_template = plain
