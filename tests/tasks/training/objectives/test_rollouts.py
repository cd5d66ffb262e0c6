"""How answers are drawn, continued with tools, guarded against collapse, and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.model_folder import load_model, load_tokenizer
from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.generation import sample_tokens
from tasks.language_models.sampling import TokenSampler
from tasks.language_models.templates.chat import chat_of
from tasks.training.objectives.data import Tokenization, split_tables
from tasks.training.objectives.reinforcement.grpo import Grpo
from tasks.training.objectives.rollouts import rollout as rollout_module
from tasks.training.objectives.rollouts.guards import check_guards
from tasks.training.objectives.rollouts.params import Guards, Rollout
from tasks.training.objectives.rollouts.prompts import NO_ROOM, Prompt
from tasks.training.objectives.rollouts.rollout import SampledAnswer, draw_samples
from tasks.training.objectives.rollouts.samples_file import choose_samples, read_samples, write_samples
from tasks.training.objectives.rollouts.tools import OpenTools, Tools
from tasks.training.rewards.scoring import RewardSum
from tests.tasks.training.objectives.test_supervised import examples

ENDS = frozenset({2})


def test_a_row_is_drawn_alike_whatever_shares_its_batch(initial: Path) -> None:
    model = load_model(initial).eval()
    prompts = {number: list(range(30, 34 + number)) for number in range(4)}
    seeds = [(7, 1, number) for number in prompts]
    sampler = TokenSampler(1.0, 1.0, seeds, 6)
    together = sample_tokens(model, prompts, dict.fromkeys(prompts, 6), ENDS, sampler, 4)
    alone = TokenSampler(1.0, 1.0, seeds, 6)
    for number in reversed(prompts):
        found = sample_tokens(model, {number: prompts[number]}, {number: 6}, ENDS, alone, 1)
        assert found[number] == together[number]
        assert alone.log_probabilities[number] == pytest.approx(sampler.log_probabilities[number], abs=1e-5)
    # What is kept is what the model gives the same tokens in one pass.
    with torch.no_grad():
        ids = torch.tensor([[*prompts[0], *together[0]]])
        logits = torch.log_softmax(model(ids).logits[0, len(prompts[0]) - 1 : -1].double(), dim=-1)
    expected = logits.gather(1, torch.tensor(together[0])[:, None])[:, 0]
    assert sampler.log_probabilities[0] == pytest.approx(expected.tolist(), abs=1e-5)
    assert sampler.entropies[0] == pytest.approx((-(logits.exp() * logits).sum(1)).tolist(), abs=1e-4)


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    rows = 4000
    draws = TokenSampler(2.0, 1.0, [(number,) for number in range(rows)], 1)(logits.expand(rows, -1), range(rows))
    shares = torch.bincount(draws, minlength=4) / rows
    expected = torch.softmax(logits / 2.0, dim=-1)
    assert shares.tolist() == pytest.approx(expected.tolist(), abs=4 * (0.25 / rows) ** 0.5)
    assert shares[3] == 0
    nucleus = TokenSampler(2.0, 0.6, [(number,) for number in range(rows)], 1)(logits.expand(rows, -1), range(rows))
    # The most likely token has 0.51 of the mass, the next one reaches 0.6.
    found = torch.bincount(nucleus, minlength=4) / rows
    assert found[0] == found[3] == 0
    assert found[2].item() == pytest.approx((expected[2] / (expected[1] + expected[2])).item(), abs=0.04)


TOOLS = """
import time
def add(a: int, b: int) -> int:
    "The sum."
    return a + b
def slow():
    time.sleep(9)
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenTools:
    monkeypatch.chdir(tmp_path)
    Path("tools.py").write_text(TOOLS)
    return OpenTools(Tools(path="tools.py", functions=("add", "slow"), rounds=2, timeout_s=0.5))


def test_calls_are_run_and_what_is_wrong_with_them_is_told_to_the_model(tools: OpenTools) -> None:
    def results(text: str) -> list[str]:
        return [tools.run(call) for call in tools.find_calls(text)]

    call = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    assert results(f"I add. {call}{call}") == ["3", "3"]
    assert results("<tool_call>{") == []
    assert results("<tool_call>{</tool_call>") == ["error: the call is not JSON"]
    assert results('<tool_call>{"name": "rm"}</tool_call>') == ["error: there is no function rm; there is add, slow"]
    assert results('<tool_call>{"name": "add"}</tool_call>')[0].startswith("error: add raised TypeError")
    assert results('<tool_call>{"name": "slow"}</tool_call>') == ["error: slow took longer than 0.5 s and was ended"]
    assert results(call) == ["3"]  # the process is started again
    told = tools.explain([{"role": "user", "content": "1 + 2?"}])
    assert (told[0]["role"], '"name": "add", "description": "The sum."' in told[0]["content"]) == ("system", True)


def test_an_answer_goes_on_after_its_calls_without_loss_on_their_results(
    tools: OpenTools, initial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(initial)
    call = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    end = next(iter(chat_of(tokenizer).ends))
    script = [[*tokenizer.encode(call, add_special_tokens=False), end], [*tokenizer.encode("3"), end]]
    contexts = []

    def say(model: Any, prompts: Any, room: Any, ends: Any, sampler: TokenSampler, size: int) -> dict[int, list[int]]:
        contexts.append(dict(prompts))
        written = script[len(contexts) - 1]
        for row in prompts:
            sampler.log_probabilities[row] += [-1.0] * len(written)
            sampler.entropies[row] += [0.5] * len(written)
        return dict.fromkeys(prompts, written)

    monkeypatch.setattr(rollout_module, "sample_tokens", say)
    model = torch.nn.Module()
    model.config = type("Config", (), {"max_position_embeddings": 512})()  # type: ignore[assignment]
    prompt = Prompt([{"role": "user", "content": "1 + 2?"}], "3", None, "a")
    ids = chat_of(tokenizer).prompt_ids(prompt.turns)
    rollout = Rollout(max_new_tokens=400, samples=1)
    (sample,) = draw_samples(model, tokenizer, {0: (prompt, ids)}, rollout, (0, 1), tools, [0])
    assert [turn["role"] for turn in sample.turns] == ["assistant", "tool", "assistant"]
    assert sample.turns[1]["content"] == "3"
    assert sample.answer == "3"
    assert sample.own_tokens == len(script[0]) + len(script[1])
    # The conversation is written as the template writes it whole, and the result carries no loss.
    whole = [*prompt.turns, {"role": "assistant", "content": call}, {"role": "tool", "content": "3"}]
    assert contexts[1][0] == chat_of(tokenizer).prompt_ids(whole)
    result = [token for token, own in zip(sample.tokens, sample.written, strict=True) if not own]
    assert sample.tokens == [*script[0], *result, *script[1]]
    assert "3" in tokenizer.decode(result)
    assert len(sample.log_probabilities) == len(sample.tokens)
    assert sample.as_attempt().prompt[-1] == {"role": "tool", "content": "3"}


def test_a_collapse_is_stopped_with_its_reason_and_a_way_out() -> None:
    guards = Guards(patience=2, least_entropy=0.1, most_kl=5, least_tokens=2, most_unfinished=0.9, most_flat=0.9)
    good = {"entropy": 1.0, "kl": 1.0, "answer_tokens": 9.0, "unfinished": 0.1, "flat": 0.2}
    state = check_guards(guards, {}, good)
    for figure, value, words in (
        ("entropy", 0.01, "entropy is 0.01 nats per token, below objective.guards.least_entropy"),
        ("kl", 9.0, "kl is 9 nats per answer, above objective.guards.most_kl"),
        ("answer_tokens", 1.0, "answer_tokens is 1 tokens, below objective.guards.least_tokens"),
        ("unfinished", 1.0, "unfinished is 1 of the answers, above objective.guards.most_unfinished"),
        ("flat", 1.0, "flat is 1 of the prompts, above objective.guards.most_flat"),
    ):
        once = check_guards(guards, state, {**good, figure: value})
        assert check_guards(guards, check_guards(guards, once, good), {**good, figure: value})  # not in a row
        with pytest.raises(PipelineError, match=r"step 3: collapse: .* for 2 steps in a row; .*; or raise") as error:
            check_guards(guards, once, {**good, figure: value})
        assert words in str(error.value)


def test_what_cannot_work_is_told_by_the_plan(shape: ModelShape) -> None:
    problems = Grpo.model_validate(
        {"rollout": {"samples": 1, "max_new_tokens": 256, "rewards": []}, "overlong_margin": 300}
    ).problems(shape)
    assert [problem.split(":")[0] for problem in problems] == [
        "objective.rollout.rewards",
        "objective.rollout.samples",
        "objective.rollout.max_new_tokens",
        "objective.overlong_margin",
    ]
    with pytest.raises(ValidationError, match="greater than 0"):
        Rollout(temperature=0)


def test_prompts_are_the_turns_before_the_last_answer(initial: Path) -> None:
    table, tokenizer = examples(), load_tokenizer(initial)
    rows = Grpo().tokenize(split_tables(table, None, "train"), Tokenization(tokenizer, 128))
    assert tokenizer.decode(rows.row(0)[0].tolist()).endswith("<|user|>Two?<|end|><|assistant|>")
    assert (rows.notes is not None and '"reference": "Second."' in rows.notes[0]) is True
    short = Grpo().tokenize(split_tables(table, None, "train"), Tokenization(tokenizer, 70))
    assert (len(short), dict(short.dropped)) == (0, {NO_ROOM: 1})
    labelled = Grpo.model_validate({"rollout": {"rewards": [{"name": "exact_match", "reference": "label"}]}})
    with pytest.raises(PipelineError, match="exact_match compares with the label of a row, which 1 of 1 rows lack"):
        labelled.tokenize(split_tables(table, None, "train"), Tokenization(tokenizer, 128))


def test_samples_are_kept_and_the_best_and_the_worst_are_shown(tmp_path: Path) -> None:
    prompt = Prompt([{"role": "user", "content": "Why?"}], None, None, "a")
    for step in (1, 2, 3, 4):
        samples = [
            SampledAnswer(
                0, number, prompt, [1], [5], [True], [-1.0], [0.1], [{"role": "assistant", "content": f"{number}"}]
            )
            for number in range(3)
        ]
        rewards = RewardSum([float(step), 0.5, 9.0], {"length": [1.0, 2.0, 3.0]})
        write_samples(tmp_path, step, 0, samples, rewards, np.zeros(3).tolist())
    assert read_samples(tmp_path, 2)["rewards"].to_pylist() == [[("length", 1.0)], [("length", 2.0)], [("length", 3.0)]]
    shown = choose_samples(tmp_path, last=3)
    assert [(one.step, one.why, one.answer) for one in shown if one.why != "random"] == [
        (step, why, answer) for step in (1, 2, 3) for why, answer in (("best", "2"), ("worst", "1"))
    ]
    assert choose_samples(tmp_path / "none", last=3) == []
