"""Answers of writers in the cache: asked again when anything that determines them changed, and when there was none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.language_models.writers.answers import REFUSED, AnswerCache, ask_fully
from tasks.language_models.writers.local import Local, load_model
from tasks.language_models.writers.openai import OpenAi
from tests.endpoint import Endpoint, Trouble, broken, busy, drop_line, send, slow

PROMPT = [{"role": "user", "content": "hello"}]
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
         "special_tokens_map.json", "model.safetensors", "added/vocab.txt")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*FILES, "README.md", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_a_model_is_part_of_the_key(folder: Path, name: str) -> None:
    def name_answer() -> str:
        return AnswerCache(None, Local(path=str(folder)).identity).name(PROMPT)

    before = name_answer()
    (folder / name).write_text("another text")
    changed = name_answer()
    (folder / name).unlink()
    assert len({before, changed, name_answer()}) == 3


def test_documents_and_hidden_files_are_not(folder: Path) -> None:
    before = Local(path=str(folder)).identity
    (folder / "README.md").write_text("more")
    (folder / ".git/HEAD").write_text("more")
    assert Local(path=str(folder)).identity == before
    assert Local(path=str(folder), max_tokens=9).identity != before


def test_another_chat_template_is_asked_anew(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    shutil.copytree(tiny_model, folder)
    asked: list[int] = []

    def ask() -> None:
        ask_fully(Local(path=str(folder), max_tokens=4), [PROMPT], tmp_path / "cache", lambda: asked.append(1))

    ask()
    ask()
    assert len(asked) == 1
    _, tokenizer = load_model(str(folder), "test")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} please{% endfor %}"
    tokenizer.save_pretrained(folder)
    ask()
    assert len(asked) == 2
    assert "please" in load_model(str(folder), "test")[1].chat_template


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint(lambda text: f"answer to {text}")
    yield made
    made.close()


def fail(status: int) -> Trouble:
    return lambda handler: send(handler, status, {"error": {"message": "no"}}, Retry_After="0")


@pytest.mark.parametrize(
    "trouble", [*map(fail, (408, 409, 500, 502, 504)), broken, busy, drop_line, slow],
    ids=["408", "409", "500", "502", "504", "503", "429", "reset", "timeout"],
)  # fmt: skip
def test_no_answer_is_never_kept(trouble: Trouble, endpoint: Endpoint, tmp_path: Path) -> None:
    writer = OpenAi(url=endpoint.url, model="m", retries=1, timeout_s=0.5)
    endpoint.troubles = [trouble] * 2
    with pytest.raises(PipelineError, match="received answers are cached"):
        ask_fully(writer, [PROMPT], tmp_path)
    assert not list(tmp_path.rglob("*.json"))
    endpoint.troubles = [trouble]
    assert ask_fully(writer, [PROMPT], tmp_path)[0].text == "answer to hello"


def test_a_refusal_by_content_policy_is_kept(endpoint: Endpoint, tmp_path: Path) -> None:
    writer = OpenAi(url=endpoint.url, model="m", retries=0)
    body = {"error": {"message": "filtered", "code": "content_filter"}}
    endpoint.troubles = [lambda handler: send(handler, 400, body)]
    for _ in range(2):
        (answer,) = ask_fully(writer, [PROMPT], tmp_path)
        assert (answer.text, answer.why) == (None, REFUSED)
    assert endpoint.asked == []
    (kept,) = tmp_path.rglob("*.json")
    assert json.loads(kept.read_bytes())["why"] == REFUSED
    endpoint.answer = lambda text: {"content": None, "finish_reason": "content_filter"}
    assert ask_fully(writer, [[{"role": "user", "content": "other"}]], tmp_path)[0].why == REFUSED
