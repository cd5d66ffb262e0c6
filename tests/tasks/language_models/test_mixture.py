"""A mixture of agents: what each layer reads, what fails without harm, what is kept and counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.language_models.writers.answers import FailureLimit, ask_fully
from tasks.language_models.writers.mixture import INSTRUCTION, MixtureOfAgents
from tests.endpoint import Endpoint, broken

PROMPTS = [[{"role": "user", "content": text}] for text in ("one", "two")]


@pytest.fixture
def servers() -> Iterator[dict[str, Endpoint]]:
    made = {name: Endpoint(lambda text, name=name: f"{name} says {text}") for name in "abcd"}  # type: ignore[misc]
    yield made
    for each in made.values():
        each.close()


def agent(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {"name": "openai", "url": endpoint.url, "model": "m", "temperature": 0, "retries": 0, **more}


def mixture(servers: dict[str, Endpoint], **more: Any) -> MixtureOfAgents:
    layers = [[agent(servers["a"]), agent(servers["b"])], [agent(servers["c"])]]
    return MixtureOfAgents.model_validate({"layers": layers, "aggregator": agent(servers["d"]), **more})


def test_layers_read_the_layer_before_and_all_is_counted_and_kept(servers: dict[str, Endpoint], tmp_path: Path) -> None:
    answers = ask_fully(mixture(servers), PROMPTS, tmp_path)
    assert [answer.text for answer in answers] == ["d says one", "d says two"]
    first = {body["messages"][-1]["content"]: body["messages"] for body in servers["a"].bodies}
    assert first == {"one": PROMPTS[0], "two": PROMPTS[1]}
    second = {body["messages"][-1]["content"]: body["messages"][0]["content"] for body in servers["c"].bodies}
    assert second["two"] == f"{INSTRUCTION}\n1. a says two\n2. b says two"
    last = {body["messages"][-1]["content"]: body["messages"][0]["content"] for body in servers["d"].bodies}
    assert last["one"] == f"{INSTRUCTION}\n1. c says one"
    sent, came = (sum(each.tokens[side] for each in servers.values()) for side in (0, 1))
    assert sum(answer.prompt_tokens or 0 for answer in answers) == sent
    assert sum(answer.completion_tokens or 0 for answer in answers) == came
    assert ask_fully(mixture(servers), PROMPTS, tmp_path) == answers
    assert [len(each.asked) for each in servers.values()] == [2, 2, 2, 2]
    # Another aggregator is paid for, the proposals are not.
    ask_fully(mixture(servers, aggregator=agent(servers["a"])), PROMPTS, tmp_path)
    assert [len(each.asked) for each in servers.values()] == [4, 2, 2, 2]


def test_a_proposer_that_fails_is_left_out_and_the_answer_is_not_kept(
    servers: dict[str, Endpoint], tmp_path: Path
) -> None:
    servers["a"].troubles = [broken, broken]
    (answer, _) = ask_fully(mixture(servers), PROMPTS, tmp_path)
    assert answer.text == "d says one"
    seen = {body["messages"][-1]["content"]: body["messages"][0]["content"] for body in servers["c"].bodies}
    assert seen["one"] == f"{INSTRUCTION}\n1. b says one"
    ask_fully(mixture(servers), PROMPTS, tmp_path)
    assert len(servers["a"].asked) == 2
    servers["c"].troubles = [broken] * 20
    others = [[{"role": "user", "content": "three"}]]
    with pytest.raises(PipelineError, match="1 of 1 prompts have fewer than 1 proposals"):
        ask_fully(mixture(servers), others, tmp_path)
    failures = FailureLimit()
    assert ask_fully(mixture(servers), others, tmp_path, failures=failures)[0].text is None
    assert "fewer than 1 proposals" in failures.reason


def test_folders_propose_beside_servers(servers: dict[str, Endpoint], tiny_model: Path) -> None:
    folder = {"name": "local", "path": str(tiny_model), "max_tokens": 4}
    writer = mixture(servers, layers=[[folder, agent(servers["a"])]])
    assert writer.describe().startswith(f"mixture({tiny_model.name}@")
    assert ask_fully(writer, PROMPTS, None)[1].text == "d says two"
    assert writer.varies is False
    assert writer.reseed(3).layers[0][1] != writer.layers[0][1]
