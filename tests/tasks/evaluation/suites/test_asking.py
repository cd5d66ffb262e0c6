"""Questions to a real tiny model: likelihoods equal those of one plain pass each, answers stop where they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.evaluation.answer_store import AnswerStore, make_questions_key
from tasks.evaluation.asking.ask import AnswerLimits, ask_questions, cut_at
from tasks.evaluation.asking.encode import cut_windows
from tasks.evaluation.asking.question import Option, Question, Reply
from tasks.language_models.decoding.likelihoods import score_continuations
from tasks.language_models.generation import generate_tokens

LIMITS = AnswerLimits(max_new_tokens=12, batch_size=5)
TURNS = ({"role": "user", "content": "Where is the stone?"},)


@pytest.fixture(scope="module")
def opened(tiny_model: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)


def ask(opened: tuple[Any, Any], questions: Sequence[Question], limits: AnswerLimits = LIMITS) -> list[Reply]:
    return ask_questions(*opened, questions, limits, "test")


def plain(model: Any, before: list[int], after: list[int]) -> tuple[float, bool]:
    """Log-likelihood of one continuation by one pass over it all, and whether it is greedy."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([before + after])).logits[0, len(before) - 1 : -1].double()
    found = logits.log_softmax(-1)[torch.arange(len(after)), torch.tensor(after)]
    return float(found.sum()), bool((logits.argmax(-1) == torch.tensor(after)).all())


def test_likelihoods_are_those_of_a_plain_pass_whether_contexts_are_shared_or_not(opened: tuple[Any, Any]) -> None:
    model, _ = opened
    rng = np.random.default_rng(0)

    def some(least: int, most: int) -> list[int]:
        return rng.integers(3, 500, rng.integers(least, most)).tolist()

    pairs = [(context, some(1, 9)) for context in (some(4, 40) for _ in range(6)) for _ in range(4)]
    pairs += [(some(1, 30), some(1, 9)) for _ in range(5)]
    one_token = some(5, 9)
    pairs += [(one_token, [token]) for token in (5, 6, 7)]
    with torch.inference_mode():
        likeliest = int(model(input_ids=torch.tensor([one_token])).logits[0, -1].argmax())
    pairs.append((one_token, [likeliest]))
    for size in (3, 64):
        found = score_continuations(model, pairs, 600, size, "test")
        alone = score_continuations(model, pairs, 600, size, "test", padded=False)
        for pair, one, other in zip(pairs, found, alone, strict=True):
            total, greedy = plain(model, *pair)
            assert (one.total, other.total) == (pytest.approx(total, abs=1e-4), pytest.approx(total, abs=1e-4))
            assert one.greedy == other.greedy == greedy
            assert one.tokens == len(pair[1])
    assert found[-1].greedy


def test_options_after_text_and_after_a_conversation(opened: tuple[Any, Any]) -> None:
    model, tokenizer = opened
    questions = [
        Question("a", "choices", "Where is the stone? ", (Option("here"), Option("in the river"))),
        Question("b", "choices", TURNS, (Option("Here."), Option("There."))),
        Question("c", "choices", options=(Option(" river", "the stone"), Option(" river", "a"), Option("stone", ""))),
    ]
    first, second, third = ask(opened, questions)
    whole, before = tokenizer.encode("Where is the stone? here"), tokenizer.encode("Where is the stone?")
    assert first.log_likelihoods[0] == pytest.approx(plain(model, before, whole[len(before) :])[0], abs=1e-4)
    text = tokenizer.apply_chat_template([*TURNS], tokenize=False, add_generation_prompt=True)
    rendered = tokenizer.encode(text, add_special_tokens=False)
    after = tokenizer.encode("There.", add_special_tokens=False)
    assert second.log_likelihoods[1] == pytest.approx(plain(model, rendered, after)[0], abs=1e-4)
    assert second.counts[1] == len(after)
    stone = tokenizer.encode("stone", add_special_tokens=False)
    assert third.log_likelihoods[2] == pytest.approx(plain(model, [0], stone)[0], abs=1e-4)
    assert third.log_likelihoods[0] != third.log_likelihoods[1]


def test_a_text_longer_than_the_context_is_scored_once_a_token(opened: tuple[Any, Any]) -> None:
    tokens = list(range(10, 33))
    windows = list(cut_windows(tokens, 0, 10))
    assert [token for _, after in windows for token in after] == tokens
    assert [len(before) + len(after) for before, after in windows] == [11, 11, 11]
    assert windows[0][0] == [0]
    assert windows[2] == ([22, 23, 24, 25, 26, 27, 28, 29], [30, 31, 32])
    model, tokenizer = opened
    text = "the stone and the river " * 120
    (long,) = ask(opened, [Question("a", "texts", options=(Option(text),))])
    ids = tokenizer.encode(text)
    assert long.counts == (len(ids),)
    assert len(ids) > 256
    expected = sum(plain(model, *pair)[0] for pair in cut_windows(ids, 0, 256))
    assert long.log_likelihoods[0] == pytest.approx(expected, rel=1e-5)


def test_answers_end_at_stops_limits_and_the_context(opened: tuple[Any, Any]) -> None:
    free, chat = ask(opened, [Question("a", prompt="the stone"), Question("b", prompt=TURNS)])
    assert free.tokens == 12 or free.finished
    stop = free.text[5:8]
    assert stop
    stopped, short = ask(
        opened, [Question("c", prompt="the stone", stops=(stop, "")), Question("d", prompt=TURNS, max_new_tokens=2)]
    )
    assert stopped.text == cut_at(free.text, (stop,))
    assert stopped.finished
    assert stopped.tokens <= free.tokens
    assert (short.tokens, short.finished) == (2, False)
    assert chat.text.startswith(short.text)
    whole = "the stone and the river " * 120 + "my parcel is late and the window"
    refused = ({"role": "user", "content": whole},)
    cut, unfit, long = ask(
        opened,
        [
            Question("e", prompt=whole),
            Question("f", prompt=refused),
            Question("g", prompt="the", max_new_tokens=9_999),
        ],
    )
    assert cut.truncated
    assert not cut.unfit
    ids = opened[1].encode(whole)[-(256 - 12) :]
    (kept,) = generate_tokens(opened[0], [ids], [12], frozenset({2}), 1, "test")
    assert cut.text == opened[1].decode(kept, skip_special_tokens=True), "the end of a long text is kept"
    assert "fill the context of 256" in unfit.unfit
    assert long.tokens <= 128
    (timed,) = ask(opened, [Question("h", prompt="the stone")], replace(LIMITS, timeout_s=0.0))
    assert timed.tokens < 12
    assert not timed.finished


def test_weights_that_are_no_numbers_are_a_problem(opened: tuple[Any, Any], tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    model.model.norm.weight.data.fill_(float("nan"))
    (reply,) = ask((model, opened[1]), [Question("a", "choices", "x", (Option(" y"), Option(" z")))])
    assert "not a number" in reply.problem


def test_replies_are_kept_by_what_is_asked(tmp_path: Path) -> None:
    store, question = AnswerStore(tmp_path), Question("a", "choices", TURNS, (Option("x", "y"),), facts={"gold": 1})
    key = make_questions_key("m", [question], {})
    assert key == make_questions_key("m", [replace(question, facts={"gold": 0})], {}), "facts are not asked"
    others = [replace(question, prompt="x"), replace(question, options=(Option("x"),)), replace(question, stops=("x",))]
    assert len({key, *(make_questions_key("m", [one], {}) for one in others)}) == 4
    reply = Reply("x", 3, False, (-1.5, -1 / 3), (True, False), (1, 2), True)
    store.keep_replies(key, [reply])
    assert store.find_replies(key, 1) == [reply]
    assert store.find_replies(key, 2) is None
    store.keep_replies("other", [replace(reply, problem="429")])
    assert store.find_replies("other", 1) is None
