"""The best of many answers become rows: by hand, the same after an interruption, and read by stage 1."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.contracts.tables import write_table
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.language_models.writers.answers import CUT_OFF
from tasks.synthesis.sampling import draws
from tasks.synthesis.sampling.choice import (
    ALIKE,
    BELOW,
    NONE_USABLE,
    RewardedDraw,
    SampledPrompt,
    check_rewards,
    choose,
    describe_rows,
    list_samples,
    reward_all,
)
from tasks.synthesis.sampling.draws import Draw, draw_all
from tasks.synthesis.sampling.params import AnswerSampling
from tasks.synthesis.sampling.prompts import read_prompts
from tasks.synthesis.sampling.publish import average_best, list_counts, measure_sampled, write_report, write_sampled
from tasks.training import reward_models
from tasks.training.objectives.rollouts.prompts import Prompt
from tests.endpoint import Endpoint
from tests.tasks.fine_tuning.small import make_initial
from tests.tasks.training.rewards.test_contract import make_classifier
from tests.tiny import example_rows, make_tiny_model

PROMPT = Prompt([{"role": "user", "content": "How much?"}], "18", None, "00")
LOCAL = {"name": "local", "path": "model", "max_tokens": 6}


def settings_of(**changes: Any) -> AnswerSampling:
    return AnswerSampling.model_validate({"model": LOCAL, **changes})


def rewarded(*answers: tuple[str, float | None]) -> tuple[RewardedDraw, ...]:
    return tuple(
        RewardedDraw(Draw(text, 3, "" if value is not None else "cut off"), number, value, {})
        for number, (text, value) in enumerate(answers)
    )


def test_what_is_kept_by_hand() -> None:
    answers = rewarded(("a", 0.5), ("b", None), ("c", 1.0), ("c ", 1.0), ("d", 0.0), ("e", 1.0))
    expected = {"best": [2], "accepted": [2, 5, 0], "pair": [2, 4], "all": [2, 5, 0, 4]}
    for keep, numbers in expected.items():
        found = choose(settings_of(keep=keep, least=0.5), PROMPT, answers)
        assert [one.number for one in found.kept] == numbers, keep
    (row,) = describe_rows(settings_of(keep="pair"), choose(settings_of(keep="pair"), PROMPT, answers))
    assert (row["prompt"], row["answers"], row["scores"]) == (PROMPT.turns, ["c", "d"], [1.0, 0.0])
    for changes, given, reason in (
        ({}, rewarded(("b", None)), NONE_USABLE),
        ({"least": 2}, answers, BELOW),
        ({"keep": "pair", "least_gap": 1.0}, answers, ALIKE),
        ({"keep": "pair"}, answers[:2], ALIKE),
    ):
        assert choose(settings_of(**changes), PROMPT, given).left_out == reason
    assert [one["kept"] for one in list_samples(choose(settings_of(), PROMPT, answers))] == [False] * 2 + [True] + [
        False
    ] * 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"keep": "accepted"}, "needs least"),
        ({"keep": "pair", "samples": 1}, "set samples: 2 or more"),
        ({"model": {"name": "openai", "url": "http://x", "model": "m", "temperature": 0}}, "gives the same answer"),
    ],
)
def test_params_that_cannot_work(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        settings_of(**changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("sampling") / "model")


def test_local_answers_are_the_same_after_an_interruption_and_become_rows(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = example_rows(12)
    splits = {"train": tmp_path / "train.parquet", "test": tmp_path / "test.parquet"}
    write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), splits["train"], EXAMPLES)
    write_table(pa.Table.from_pylist(rows[:1], schema=EXAMPLES), splits["test"], EXAMPLES)
    settings = settings_of(
        model={**LOCAL, "path": str(model)}, samples=4, chunk=4, keep="pair", title="pairs",
        rewards=[{"name": "length", "unit": "characters", "at_most": 4, "slack": 30}],
    )  # fmt: skip
    prompts = read_prompts(settings, splits, tmp_path)
    held_out = rows[0]["messages"][0]["content"]  # type: ignore[index]
    assert 0 < len(prompts) < 12
    assert held_out not in [prompt.turns[-1]["content"] for prompt in prompts]
    drawn = draws.draw_samples

    def ending(*arguments: Any) -> Any:
        """The answers, as if the model, which was never trained, had ended them."""
        samples = drawn(*arguments)
        for one in samples:
            one.finished = True
        return samples

    monkeypatch.setattr(draws, "draw_samples", ending)
    whole = draw_all(settings, prompts, tmp_path / "whole")
    # Killed in the second chunk, then with one more prompt that is asked first.
    calls = []

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ending(*arguments)

    monkeypatch.setattr(draws, "draw_samples", failing)
    with pytest.raises(KeyboardInterrupt):
        draw_all(settings, prompts, tmp_path / "halves")
    assert draw_all(settings, prompts, tmp_path / "halves") == whole
    assert len(calls) == 1 + -(-len(prompts) // 4)
    sampled = reward_all(settings, prompts, whole, tmp_path / "rewards")
    files = (tmp_path / name for name in ("index.html", "samples.jsonl", "metrics.json"))
    figures = write_report(settings, sampled, *files)
    assert figures["samples"] == 4 * len(prompts)
    assert figures["mean_best_reward"] >= figures["mean_reward"]
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == figures["samples"]
    count = write_sampled(settings, sampled, tmp_path / "pairs.jsonl")
    assert count == figures["rows"] > 0
    table = read_sources([Jsonl(path="pairs.jsonl", title="pairs")], "stop", tmp_path).table
    assert table.num_rows == count
    first = table["answers"][0].as_py()
    assert first["score"] > first["others"][0]["score"]
    alone = settings.model_copy(update={"keep": "best"})
    best = reward_all(alone, prompts, whole, tmp_path / "rewards")
    write_sampled(alone, best, tmp_path / "best.jsonl")
    assert read_sources([Jsonl(path="best.jsonl", title="best")], "stop", tmp_path).table.num_rows <= len(prompts)


def test_the_best_of_so_many_is_expected_over_all_choices_of_the_same_prompts() -> None:
    """Of 0, 0, 1 the best of two is 1 in two of three pairs; a prompt without a usable answer counts nowhere."""

    def sampled(*rewards: float | None) -> SampledPrompt:
        usable = {True: "", False: "cut off"}
        return SampledPrompt(
            PROMPT,
            tuple(
                RewardedDraw(Draw(f"answer {number}", 2, usable[reward is not None]), number, reward, {})
                for number, reward in enumerate(rewards)
            ),
        )

    all_of_them = [sampled(0, 1, 0), sampled(None, None, None), sampled(None, 0.5, None)]
    found = [average_best(all_of_them, count) for count in (1, 2, 3)]
    assert found == [pytest.approx(value, abs=1e-6) for value in ((1 / 3 + 0.5) / 2, (2 / 3 + 0.5) / 2, (1 + 0.5) / 2)]
    figures = measure_sampled(settings_of(), all_of_them)
    assert (figures["mean_reward"], figures["mean_best_reward"]) == (found[0], found[2])
    assert list_counts(6) == [1, 2, 4, 6]


def test_a_server_is_asked_once_for_each_answer(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="openai is in the extra writers")
    endpoint = Endpoint(lambda text: f"answer to {text[-9:]}")
    try:
        model = {"name": "openai", "url": endpoint.url, "model": "m", "retries": 0}
        settings = settings_of(model=model, samples=2, rewards=[{"name": "length", "at_least": 1}])
        found = draw_all(settings, [PROMPT], tmp_path)
        assert [one.text for one in found[0]] == ["answer to How much?"] * 2
        assert draw_all(settings, [PROMPT], tmp_path) == found
        assert len(endpoint.asked) == 2
        # Both are the same, so they make no pair.
        with pytest.raises(PipelineError, match="none of 1 prompts has an answer to keep"):
            reward_all(settings.model_copy(update={"keep": "pair"}), [PROMPT], found, tmp_path)
    finally:
        endpoint.close()


# Log-odds that a step which ends in the word is right: probabilities 0.9, 0.4 and 0.8.
ODDS = {"first": math.log(9), "second": math.log(2 / 3), "third": math.log(4)}
STEPS = ["the first\n\nthe second", "the third\n\nthe third\n\nthe first", "the third", "the first\n\nthe third"]


@pytest.mark.parametrize(
    ("steps", "rewards", "kept"),
    [
        ("product", [0.36, 0.576, 0.8, 0.72], [2, 3, 1, 0]),
        ("min", [0.4, 0.8, 0.8, 0.8], [1, 2, 3, 0]),
        ("mean", [0.65, 2.5 / 3, 0.8, 0.85], [3, 1, 2, 0]),
        ("last", [0.4, 0.9, 0.8, 0.8], [1, 2, 3, 0]),
    ],
)
def test_a_model_of_processes_chooses_by_all_steps(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: str, rewards: list[float], kept: list[int]
) -> None:
    """The classifier says at the end of each step what stands in `ODDS`; an answer that is cut off has no reward."""
    initial, folder = make_initial(shutil.copytree(model, tmp_path / "base")), tmp_path / "steps"
    make_classifier(initial, folder)
    tokenizer = load_tokenizer(initial)

    def scored(_: Any, rows: Any, places: Any, *__: Any) -> Any:
        words = [[re.findall("first|second|third", tokenizer.decode(row[: at + 1]))[-1] for at in own]
                 for row, own in zip(rows, places, strict=True)]  # fmt: skip
        return [np.array([ODDS[word] for word in one], dtype=np.float32) for one in words]

    monkeypatch.setattr(reward_models, "score_places", scored)
    drawn = [[*(Draw(text, 9, "") for text in STEPS), Draw("the first", 9, CUT_OFF)]]
    settings = settings_of(keep="all", rewards=[{"name": "model", "path": str(folder), "steps": steps}])
    check_rewards(settings, [PROMPT])
    (found,) = reward_all(settings, [PROMPT], drawn, tmp_path / "rewards")
    assert [one.reward for one in found.answers] == [*(pytest.approx(value, abs=1e-6) for value in rewards), None]
    assert [one.number for one in found.kept] == kept
    best = reward_all(settings.model_copy(update={"keep": "best"}), [PROMPT], drawn, tmp_path / "rewards")[0]
    (row,) = describe_rows(settings.model_copy(update={"keep": "best"}), best)
    assert row["messages"][-1]["content"] == STEPS[kept[0]]
    assert row["reward"] == pytest.approx(max(rewards), abs=1e-6)


def test_rewards_that_do_not_fit_are_refused_before_anything_is_drawn() -> None:
    settings = settings_of(rewards=[{"name": "exact_match", "reference": "label"}])
    with pytest.raises(PipelineError, match=r"sampling\.rewards: exact_match compares with the label of a row"):
        check_rewards(settings, [PROMPT])
