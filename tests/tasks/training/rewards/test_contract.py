"""Every member of the union gives one number per answer, within its bounds, the same for the same answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tasks.training.rewards import REWARDS, AnyReward
from tasks.training.rewards.reward import AnswerAttempt, Reward
from tasks.training.rewards.scoring import Rewards
from tests.endpoint import Endpoint

FUNCTION = """
def short(answers, **rest):
    return [1 / (1 + len(answer)) for answer in answers]
"""
# Params of members that are not valid without any, or need files.
SETTINGS: dict[str, dict[str, Any]] = {
    "function": {"path": "own.py", "function": "short"},
    "exact_match": {"reference": "label"},
    "regex": {"must": "^yes"},
    "format": {"tags": ["answer"], "ended": True},
    "json_schema": {"fits": {"type": "object", "required": ["intent"]}, "partial": 0.25},
    "length": {"at_least": 2, "at_most": 4, "slack": 3},
    "number": {"tolerance": 0.1},
    "code": {"seconds": 2, "isolated": False},
    "model": {"path": "classifier"},
}
ANSWERS = ("yes", "", "18", '{"intent": "refund"}', "<answer>18</answer>", "```python\ndef two(): return 2\n```")


def make_attempts() -> list[AnswerAttempt]:
    prompt = [{"role": "user", "content": "How much?"}]
    return [
        AnswerAttempt(prompt, answer, len(answer), number % 2 == 0, "assert two() == 2  # 18", "yes", f"row {number}")
        for number, answer in enumerate(ANSWERS)
    ]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    pytest.importorskip("openai", reason="openai is in the extra writers")
    made = Endpoint(lambda text: "7" if "refund" in text else "I give it 3.")
    yield made
    made.close()


@pytest.fixture
def reward(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reward:
    name = request.param
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FUNCTION)
    settings = SETTINGS.get(name, {})
    if name == "judge":
        url = request.getfixturevalue("endpoint").url
        settings = {"writer": {"name": "openai", "url": url, "model": "judge"}}
    if name == "model":
        make_classifier(request.getfixturevalue("initial"), tmp_path / "classifier")
    made: Reward = TypeAdapter(AnyReward).validate_python({"name": name, **settings})
    return made


def make_classifier(base: Path, folder: Path) -> None:
    """A classifier of one output on the tiny base."""
    import torch
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    torch.manual_seed(0)
    model: Any = LlamaForSequenceClassification.from_pretrained(base, num_labels=1)
    model.config.pad_token_id = 1
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


@pytest.mark.parametrize("reward", [member.model_fields["name"].default for member in REWARDS], indirect=True)  # type: ignore[attr-defined]
def test_a_reward_is_what_it_says(reward: Reward, tmp_path: Path) -> None:
    assert reward.problems() == []
    assert reward.describe()
    assert TypeAdapter(AnyReward).validate_python(reward.model_dump(mode="json")) == reward  # type: ignore[attr-defined]
    assert all(file.is_file() for file in reward.files())
    attempts = make_attempts()
    rewards = Rewards([reward], tmp_path / "cache")
    found = rewards.score(attempts)
    lowest, highest = reward.bounds
    assert all(lowest - 1e-6 <= value <= highest + 1e-6 for value in found.total)
    assert len(set(found.total)) > 1, "it tells no two of these answers apart"
    assert found.total == pytest.approx([reward.weight * value for value in found.each[reward.name]])
    # An answer's value does not depend on its neighbours.
    order = random.Random(0).sample(range(len(attempts)), 3)
    again = rewards.score([attempts[place] for place in order])
    assert again.total == pytest.approx([found.total[place] for place in order], abs=1e-5)
    # A row without what it needs is refused, never worth 0.
    for field in reward.needs:
        with pytest.raises(Exception, match=f"row lost has no {field}"):
            rewards.score([replace(attempts[0], reference=None, label=None, row="lost")])
