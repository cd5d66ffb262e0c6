"""A model behind a URL answers like any other; what its server cannot or does not give is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flows.wiring.releases.named_models import find_endpoint
from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking import endpoint as module
from tasks.evaluation.asking.endpoint import AnswerEndpoint, ask_endpoint
from tasks.evaluation.asking.question import Option, Question
from tasks.evaluation.metrics.cost.model_size import ModelSize
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.ranking import rank_models
from tasks.evaluation.remote.answers import answer_with_endpoint
from tests.endpoint import Endpoint, broken, busy, drop_line, send
from tests.tasks.evaluation.boards import make_items, make_outcome

TURNS = ({"role": "user", "content": "one two"},)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    found = Endpoint(lambda text: f"{text} three. Then more")
    yield found
    found.close()


def test_answers_come_after_troubles_and_end_at_stops(server: Endpoint) -> None:
    server.troubles = [busy, broken, drop_line]
    endpoint = AnswerEndpoint(server.url, "m", "secret", timeout_s=5, concurrency=1)
    questions = [
        Question("a", prompt=TURNS, stops=("", "Then", "X", "Y", "Z", "V")),
        Question("b", prompt=TURNS, max_new_tokens=7),
    ]
    cut, whole = ask_endpoint(endpoint, questions, 9, "test")
    assert (cut.text, cut.finished, cut.problem) == ("one two three. ", True, "")
    assert (whole.text, whole.tokens) == ("one two three. Then more", 5)
    bodies = {body["max_tokens"]: body for body in server.bodies}
    assert bodies[9]["stop"] == ["Then", "X", "Y", "Z"]
    assert bodies[7]["temperature"] == 0
    assert "secret" not in repr(endpoint)


def test_what_does_not_come_is_a_problem_and_the_others_go_on(server: Endpoint) -> None:
    endpoint = AnswerEndpoint(server.url, "m", timeout_s=5, retries=1, concurrency=1)
    server.troubles = [broken, broken, lambda handler: send(handler, 401, {"error": "no key"})]
    server.troubles.append(lambda handler: send(handler, 200, b"<html>"))
    server.troubles.append(lambda handler: send(handler, 200, {"choices": []}))
    replies = ask_endpoint(endpoint, [Question(str(n), prompt=TURNS) for n in range(5)], 9, "test")
    assert [reply.problem.split(" (")[0] for reply in replies] == [
        "status 503 in 2 attempts",
        "status 401",
        "its answer is no JSON",
        "its answer has no text where chat completions have it",
        "",
    ]
    gone = replace(endpoint, url="http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(PipelineError, match=r"m: 1 of 1 answers did not come \(the first: ConnectError"):
        answer_with_endpoint("m", gone, make_items(["x"]), 9)


def test_metrics_of_likelihoods_do_not_apply_to_it(server: Endpoint) -> None:
    items = make_items(["question 0 three. Then more", "x"])
    outcome = answer_with_endpoint("far", AnswerEndpoint(server.url, "m"), items, 9)
    assert outcome.answers[0] == items[0].reference
    near = make_outcome("near", ["no", "x"])
    near = replace(near, probes={"size": {"parameters": 10}})
    metrics = (Loss(), ExactMatch(), ModelSize())
    ranking = rank_models(Evidence(items, None), [near, outcome], metrics, 1_000, 0.95, 0.8, 0)
    assert ranking.not_applicable == {
        "loss": "far gives no likelihoods", "model_size": "far was asked for nothing but answers",
    }  # fmt: skip
    assert ranking.estimates["far", "exact_match"].value == 0.5


class Completions(BaseHTTPRequestHandler):
    """Echoes prompts with log-probabilities, a token a word: -1 each, the likeliest but for "odd"."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["prompt"]
        if not body.get("echo"):
            send(self, 200, {"choices": [{"text": f"after {text}", "finish_reason": "length"}]})
            return
        offsets = [n for n, letter in enumerate(text) if letter == " " or n == 0]
        words = [text[a:b] for a, b in zip(offsets, [*offsets[1:], len(text)], strict=True)]
        logprobs = {
            "text_offset": offsets,
            "token_logprobs": [None, *(-1.0 for _ in words[1:])],
            "top_logprobs": [None, *({"x": -0.5 if "odd" in word else -1.0} for word in words[1:])],
        }
        send(self, 200, {"choices": [{"text": text, "logprobs": logprobs}]})

    def log_message(self, *_: Any) -> None:
        pass


def test_log_likelihoods_come_where_the_server_gives_them(server: Endpoint) -> None:
    given = ThreadingHTTPServer(("127.0.0.1", 0), Completions)
    threading.Thread(target=given.serve_forever, daemon=True).start()
    endpoint = AnswerEndpoint(f"http://127.0.0.1:{given.server_port}/v1", "m")
    questions = [
        Question("a", "choices", "where is it", (Option(" here"), Option(" in the odd one"))),
        Question("b", "choices", TURNS, (Option("x"),)),
        Question("c", "texts", options=(Option("one two three"),)),
        Question("d", prompt="plain"),
    ]
    try:
        choices, after_turns, text, plain = ask_endpoint(endpoint, questions, 9, "test")
    finally:
        given.shutdown()
        given.server_close()
    assert (choices.log_likelihoods, choices.greedy, choices.counts) == ((-1.0, -4.0), (True, False), (1, 4))
    assert after_turns.unfit == "the endpoint gives no log-likelihoods after a conversation"
    assert text.log_likelihoods == (-2.0,)
    assert (plain.text, plain.finished) == ("after plain", False)
    server.troubles = [lambda handler: send(handler, 404, {"error": "no such route"})]
    (refused,) = ask_endpoint(AnswerEndpoint(server.url, "m"), questions[:1], 9, "test")
    assert refused.unfit == "the endpoint gives no log-likelihoods"


def test_a_url_names_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEPTUNE_ENDPOINT_KEY", "k")
    found = find_endpoint("http://127.0.0.1:8000/v1#heptune")
    assert found is not None
    assert (found.name, found.endpoint.model, found.endpoint.key) == ("heptune at 127.0.0.1:8000", "heptune", "k")
    assert find_endpoint("base") is None
    with pytest.raises(PipelineError, match="write it after the URL: http://x/v1#MODEL"):
        find_endpoint("http://x/v1")
