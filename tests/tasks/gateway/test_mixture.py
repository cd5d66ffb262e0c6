"""The release with the proposals of other models: what it reads, what is counted, and models that fail."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.language_models.writers import mixture
from tasks.language_models.writers.mixture import INSTRUCTION, add_proposals
from tests.endpoint import Endpoint, broken
from tests.tasks.gateway.conftest import start_gateway

LONG = [{"role": "user", "content": "tell me more"}]
TURNS = [{"role": "user", "content": "hello"}]


def test_a_release_answers_with_proposals_and_all_tokens_are_counted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tiny model's context has no room for the whole of it.
    monkeypatch.setattr(mixture, "INSTRUCTION", "Answers:")
    one, two = Endpoint(lambda text: "yes"), Endpoint(lambda text: "no" if text == "hello" else "long " * 200)
    layer = [{"name": "openai", "url": each.url, "model": "m", "retries": 0} for each in (one, two)]
    try:
        with start_gateway(tmp_path, model, mixture={"layers": [layer]}) as gateway:

            def ask(name: str, turns: Any = TURNS, **more: Any) -> dict[str, Any]:
                body = {"model": name, "messages": turns, "max_tokens": 6, **more}
                answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=30)
                return {"status": answer.status_code, **answer.json()}

            names = [row["id"] for row in httpx.get(f"{gateway.url}/v1/models").json()["data"]]
            assert names == ["heptune", "heptune+mixture"]
            assert httpx.get(f"{gateway.url}/v1/models/heptune+mixture").status_code == 200
            alone = ask("heptune")
            assert (len(one.asked), len(two.asked)) == (0, 0)
            mixed = ask("heptune+mixture")
            # The answer is what the release says to the conversation with the proposals in it.
            told = ask("heptune", add_proposals(TURNS, ["yes", "no"]))
            assert mixed["choices"][0]["message"] == told["choices"][0]["message"] != alone["choices"][0]["message"]
            assert [one.bodies[-1]["messages"], two.bodies[-1]["messages"]] == [TURNS, TURNS]
            # A server of one word each way for each proposer, beside what the release read and wrote.
            assert mixed["usage"]["prompt_tokens"] == told["usage"]["prompt_tokens"] + 2
            assert mixed["usage"]["completion_tokens"] == told["usage"]["completion_tokens"] + 2
            # The second proposal does not fit beside the other messages, and is left out.
            long = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, *LONG]
            assert ask("heptune+mixture", long)["choices"] == ask("heptune", add_proposals(long, ["yes"]))["choices"]
            one.troubles = [broken]
            mixed = ask("heptune+mixture")
            told = ask("heptune", add_proposals(TURNS, ["no"]))
            assert mixed["choices"][0]["message"] == told["choices"][0]["message"]
            one.troubles, two.troubles = [broken], [broken]
            refused = ask("heptune+mixture")
            assert (refused["status"], refused["error"]["code"]) == (503, "too_few_proposals")
            assert ask("another")["error"]["message"].endswith("there are 'heptune', 'heptune+mixture'")
    finally:
        one.close()
        two.close()
    with sqlite3.connect(tmp_path / "requests.db") as database:
        rows = database.execute("select model, release, status from requests order by received_at").fetchall()
    assert rows[1] == ("heptune+mixture", "release-one+mixture", 200)
    assert rows[0] == ("heptune", "release-one", 200)


def test_proposals_stand_in_the_system_turn() -> None:
    system = {"role": "system", "content": "Be kind."}
    assert add_proposals(TURNS, []) == TURNS
    assert add_proposals(TURNS, ["a", "b"])[0] == {"role": "system", "content": f"{INSTRUCTION}\n1. a\n2. b"}
    assert add_proposals([system, *TURNS], ["a"])[0]["content"] == f"Be kind.\n\n{INSTRUCTION}\n1. a"
    assert add_proposals([system, *TURNS], ["a"])[1:] == TURNS


def test_a_folder_is_no_proposer_of_a_gateway(model: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="mixture"),
        start_gateway(tmp_path, model, mixture={"layers": [[{"name": "local", "path": str(model)}]]}),
    ):
        pass
