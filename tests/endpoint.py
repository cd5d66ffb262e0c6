"""A server of chat completions on this machine that misbehaves as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Trouble = Callable[[BaseHTTPRequestHandler], None]


class Endpoint:
    """Answers by a function, one request after the other in as many threads as there are clients.

    Args:
        answer: The last turn's text to the answer, or to ``content``, ``finish_reason`` and perhaps ``logprobs``.
        counted: Whether tokens are reported: as many as words.

    Attributes:
        asked: The last turn of every request that was answered, in order.
        bodies: The same requests in full.
        tokens: Of all questions and of all answers, as reported.
        troubles: What happens to the next requests instead, one each.
    """

    def __init__(self, answer: Callable[[str], str | dict[str, Any]], counted: bool = True) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.tokens = [0, 0]
        self.troubles: list[Trouble] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.troubles:
                    outer.troubles.pop(0)(self)
                    return
                text = body["messages"][-1]["content"]
                found = outer.answer(text)
                with lock:
                    outer.asked.append(text)
                    outer.bodies.append(body)
                choice = found if isinstance(found, dict) else {"finish_reason": "stop", "content": found}
                message = {"role": "assistant", "content": choice["content"]}
                sent = sum(len(turn["content"].split()) for turn in body["messages"])
                came = len((choice["content"] or "").split())
                with lock:
                    outer.tokens = [outer.tokens[0] + sent, outer.tokens[1] + came]
                usage = {"prompt_tokens": sent, "completion_tokens": came, "total_tokens": sent + came}
                send(self, 200, {
                    "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
                    "choices": [{"index": 0, "finish_reason": choice["finish_reason"], "message": message,
                                 "logprobs": choice.get("logprobs")}],
                    **({"usage": usage} if counted else {}),
                })  # fmt: skip

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, body: Any, **headers: str) -> None:
    """Answer with a status, JSON (or bytes as they are) and headers."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def drop_line(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def busy(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 429, {"error": {"message": "slow down"}}, Retry_After="0")


def broken(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 503, {"error": {"message": "down"}}, Retry_After="0")


def slow(handler: BaseHTTPRequestHandler) -> None:
    """Longer than a client with half a second of patience waits."""
    time.sleep(0.8)
    drop_line(handler)
