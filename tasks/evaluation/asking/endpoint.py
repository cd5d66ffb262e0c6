"""Ask a model behind a URL: any server that speaks OpenAI's chat completions and completions, such as vLLM.

Answers are asked for greedily, conversations through ``/chat/completions`` and plain text through ``/completions``.
Log-likelihoods come from completions that echo their prompt (``echo``, ``logprobs``), which vLLM gives and most hosted
models do not: what they were asked for is then left out, with that reason. Status 408, 409, 425, 429 and 5xx, a timeout
and a lost connection are tried again, after what ``Retry-After`` says or twice as long each time.

Example:
    ``heptune evaluate base http://127.0.0.1:8000/v1#heptune``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tasks.contracts.progress import progress
from tasks.evaluation.asking.ask import cut_at
from tasks.evaluation.asking.question import Question, Reply

AGAIN = {408, 409, 425, 429}
# A server that has no such route, or refuses what it does not know.
UNKNOWN = {400, 404, 405, 422, 501}
NO_LIKELIHOODS = "the endpoint gives no log-likelihoods"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
# OpenAI takes no more; the rest is cut off here.
MOST_STOPS = 4


@dataclass(frozen=True)
class AnswerEndpoint:
    """A model behind a URL.

    Attributes:
        url: Base URL, such as ``http://127.0.0.1:8000/v1``.
        model: Name of the model at the server.
        key: Sent as a bearer token; empty for none.
        timeout_s: Longest time of one attempt, in seconds.
        retries: Attempts after the first.
        concurrency: Most requests at once.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout_s: float = 120.0
    retries: int = 4
    concurrency: int = 4


class _Refused(Exception):
    """The server gave no usable answer."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


def ask_endpoint(
    endpoint: AnswerEndpoint, questions: Sequence[Question], max_new_tokens: int, title: str
) -> list[Reply]:
    """Replies to questions, in their order; one that does not come has the reason in ``problem``.

    Args:
        endpoint: The model.
        questions: What to ask.
        max_new_tokens: Longest answer where a question does not say, in tokens.
        title: Name beside the progress bar.
    """
    import httpx

    headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}

    def ask(question: Question) -> Reply:
        try:
            if question.kind == "answer":
                return _answer(client, endpoint, question, question.max_new_tokens or max_new_tokens)
            return _score(client, endpoint, question)
        except _Refused as refusal:
            return Reply(problem=str(refusal))
        finally:
            advance(1)

    with (
        httpx.Client(headers=headers, timeout=endpoint.timeout_s) as client,
        ThreadPoolExecutor(endpoint.concurrency) as pool,
        progress(title, len(questions)) as advance,
    ):
        return list(pool.map(ask, questions))


def _post(client: Any, endpoint: AnswerEndpoint, route: str, body: dict[str, Any]) -> Any:
    """The JSON of an answer.

    Raises:
        _Refused: No attempt gave one.
    """
    import httpx

    wait, reason = FIRST_WAIT_S, ""
    for attempt in range(endpoint.retries + 1):
        asked_to_wait: float | None = None
        try:
            response = client.post(f"{endpoint.url.rstrip('/')}/{route}", json={"model": endpoint.model, **body})
        except httpx.TransportError as error:
            reason = f"{type(error).__name__} after {endpoint.timeout_s:g} s at most"
        else:
            if response.status_code < 400:
                try:
                    return response.json()
                except ValueError as error:
                    raise _Refused("its answer is no JSON") from error
            reason = f"status {response.status_code}"
            if response.status_code in UNKNOWN or (response.status_code < 500 and response.status_code not in AGAIN):
                raise _Refused(f"{reason} ({response.text[:160]})", response.status_code)
            after = response.headers.get("Retry-After", "")
            asked_to_wait = float(after) if after.replace(".", "", 1).isdigit() else None
        if attempt < endpoint.retries:
            time.sleep(min(LONGEST_WAIT_S, wait if asked_to_wait is None else asked_to_wait))
            wait *= 2
    raise _Refused(f"{reason} in {endpoint.retries + 1} attempts")


def _answer(client: Any, endpoint: AnswerEndpoint, question: Question, most: int) -> Reply:
    body: dict[str, Any] = {"temperature": 0, "max_tokens": most}
    stops = [stop for stop in question.stops if stop]
    if stops:
        body["stop"] = stops[:MOST_STOPS]
    plain = isinstance(question.prompt, str)
    asked = {"prompt": question.prompt} if plain else {"messages": list(question.prompt)}
    found = _post(client, endpoint, "completions" if plain else "chat/completions", {**body, **asked})
    try:
        choice = found["choices"][0]
        text = choice["text"] if plain else choice["message"]["content"]
        finished = choice.get("finish_reason") != "length"
        tokens = int((found.get("usage") or {}).get("completion_tokens") or 0)
        text = "" if text is None else str(text)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _Refused("its answer has no text where chat completions have it") from error
    cut = cut_at(text, stops)
    return Reply(cut, tokens, finished or len(cut) < len(text))


def _score(client: Any, endpoint: AnswerEndpoint, question: Question) -> Reply:
    sums, greedy, counts = [], [], []
    for option in question.options:
        before = "" if question.kind == "texts" else question.prompt if option.context is None else option.context
        if not isinstance(before, str):
            return Reply(unfit=f"{NO_LIKELIHOODS} after a conversation")
        whole = {"prompt": before + option.text, "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
        try:
            found = _post(client, endpoint, "completions", whole)
        except _Refused as refusal:
            if refusal.status in UNKNOWN:
                return Reply(unfit=NO_LIKELIHOODS)
            raise
        try:
            logprobs = found["choices"][0]["logprobs"]
            columns = (logprobs[name] for name in ("text_offset", "token_logprobs", "top_logprobs"))
            tokens = [
                (float(one), max((top or {}).values(), default=one))
                for offset, one, top in zip(*columns, strict=True)
                if offset >= len(before.rstrip()) and one is not None
            ]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return Reply(unfit=NO_LIKELIHOODS)
        if not tokens:
            return Reply(unfit=NO_LIKELIHOODS)
        sums.append(sum(one for one, _ in tokens))
        greedy.append(all(one >= best for one, best in tokens))
        counts.append(len(tokens))
    return Reply(log_likelihoods=tuple(sums), greedy=tuple(greedy), counts=tuple(counts))
