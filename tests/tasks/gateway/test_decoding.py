"""Greedy answers are the same tokens alone, in any batch, and from transformers' own loop."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.gateway.answering import answer_all, wait_for_tokens
from tasks.gateway.engine import Delta, Event, Failed, Finished, GenerationRequest, Sampling
from tasks.gateway.engines.transformers import Transformers, TransformersEngine
from tests.tasks.gateway.conftest import make_talking_model

WORDS = ["stone", "river", "book", "late", "fee", "open", "hours", "help", "order", "box", "red"]


def conversations(count: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """One-turn conversations of very unlike lengths."""
    rng = random.Random(seed)
    return [[{"role": "user", "content": " ".join(rng.choices(WORDS, k=rng.choice([1, 3, 30])))}] for _ in range(count)]


class Answer:
    """Events of one request, and a signal at its end."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.done = threading.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if not isinstance(event, Delta):
            self.done.set()

    @property
    def tokens(self) -> tuple[int, ...]:
        assert self.done.wait(60)
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last.tokens

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))


@pytest.fixture(scope="module")
def engine(model: Path):
    loaded = Transformers(max_batch=4).load(model, on_step=lambda rows: None)
    yield loaded
    loaded.close()


def ask(engine: TransformersEngine, content: str = "stone river", limit: int = 12, **options: object) -> Answer:
    answer = Answer()
    prompt = engine.encode([{"role": "user", "content": content}])
    engine.submit(GenerationRequest(prompt, limit, answer.emit, **options))  # type: ignore[arg-type]
    return answer


def test_batched_answers_are_those_of_one_by_one_and_of_transformers(model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    asked = conversations(10)
    batched = answer_all(model, asked, 20, Transformers(max_batch=4, prefill_tokens=64))
    alone = answer_all(model, asked, 20, Transformers(max_batch=1))
    assert batched == alone
    oracle = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    for prompt, answer in batched[:4]:
        ids = torch.tensor([prompt])
        expected = oracle.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
        assert answer == expected[0, len(prompt) :].tolist()
    assert len({tuple(answer) for _, answer in batched}) == len({turns[0]["content"] for turns in asked})


def test_exact_ties_are_decided_alike_in_any_batch(tiny_model: Path, tmp_path: Path) -> None:
    tied = make_talking_model(tmp_path, tiny_model, seed=0, ties=True)
    asked = conversations(6, seed=2)
    batched = answer_all(tied, asked, 12, Transformers(max_batch=6))
    assert batched == answer_all(tied, asked, 12, Transformers(max_batch=1))
    # Of two equal logits the first is taken, as transformers does.
    assert all(token < 300 for _, answer in batched for token in answer)


def test_rows_that_join_and_leave_at_any_step_get_the_tokens_they_get_alone(engine: TransformersEngine) -> None:
    rng = random.Random(3)
    asked = [(turns[0]["content"], rng.randint(1, 12)) for turns in conversations(10, seed=5)]
    alone = [ask(engine, *one).tokens for one in asked]
    together = []
    for content, limit in asked:
        together.append(ask(engine, content, limit))
        threading.Event().wait(rng.choice([0, 0, 0.01]))
    assert [answer.tokens for answer in together] == alone
    assert len(set(alone)) > 5


def test_a_step_holds_several_requests(model: Path) -> None:
    sizes: list[int] = []
    loaded = Transformers(max_batch=3).load(model, on_step=sizes.append)
    answers = [ask(loaded) for _ in range(5)]
    for answer in answers:
        assert len(answer.tokens) == 12
    loaded.close()
    assert max(sizes) == 3


def test_text_comes_in_pieces_that_join_to_the_decoded_tokens(engine: TransformersEngine, model: Path) -> None:
    from transformers import AutoTokenizer

    answer = ask(engine, limit=20)
    tokens = answer.tokens
    assert answer.text == AutoTokenizer.from_pretrained(model).decode(tokens, skip_special_tokens=True)
    assert len(answer.events) > 3


def test_a_stop_text_ends_the_answer_before_it(engine: TransformersEngine) -> None:
    whole = ask(engine, limit=20)
    assert whole.tokens
    stop = whole.text[len(whole.text) // 2 :][:3]
    cut = ask(engine, limit=20, stops=(stop,))
    assert len(cut.tokens) < len(whole.tokens)
    assert cut.text == whole.text[: whole.text.index(stop)]
    last = cut.events[-1]
    assert isinstance(last, Finished)
    assert last.reason == "stop"


def test_a_seed_repeats_a_sampled_answer_and_tiny_top_p_is_greedy(engine: TransformersEngine) -> None:
    def sampled(seed: int) -> tuple[int, ...]:
        return ask(engine, sampling=Sampling(temperature=1.5, top_p=0.95, seed=seed)).tokens

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)
    greedy = ask(engine).tokens
    assert ask(engine, sampling=Sampling(temperature=1.5, top_p=1e-9, seed=1)).tokens == greedy
    assert ask(engine, sampling=Sampling(temperature=1e-300, seed=1)).tokens == greedy


def test_sampled_frequencies_are_the_probabilities_of_the_nucleus() -> None:
    import torch

    from tasks.gateway.batching.sampling import make_generator, sample_token

    # Probabilities 0.5, 0.3, 0.2; top_p 0.6 keeps the first two: 0.625 and 0.375.
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    sampling = Sampling(temperature=1.0, top_p=0.6, seed=4)
    generator = make_generator(sampling)
    drawn = [sample_token(logits, sampling, generator) for _ in range(4000)]
    assert 0 not in drawn
    # Four standard deviations of a share of 4,000 draws are 0.031.
    assert drawn.count(1) / 4000 == pytest.approx(0.625, abs=0.031)


def test_cancelling_gives_the_place_away(model: Path) -> None:
    loaded = Transformers(max_batch=1).load(model, on_step=lambda rows: None)
    answer = Answer()
    first = threading.Event()

    def emit(event: Event) -> None:
        answer.emit(event)
        request.cancelled = True
        first.set()

    request = GenerationRequest(loaded.encode([{"role": "user", "content": "stone"}]), 200, emit)
    loaded.submit(request)
    assert first.wait(60)
    assert len(ask(loaded, limit=3).tokens) == 3
    assert not answer.done.is_set()
    loaded.close()


def test_closing_finishes_what_was_submitted_and_refuses_what_comes_later(model: Path) -> None:
    loaded = Transformers(max_batch=2).load(model, on_step=lambda rows: None)
    answers = [ask(loaded) for _ in range(5)]
    loop = loaded._loop
    assert loop is not None
    loaded.close()
    assert all(answer.done.is_set() and len(answer.tokens) == 12 for answer in answers)
    late = Answer()
    loop.submit(GenerationRequest([0, 3], 1, late.emit))
    assert late.events == [Failed("the engine is closed")]
    assert not loaded.alive


def test_a_failing_step_ends_its_requests_and_not_the_engine(model: Path) -> None:
    loaded = Transformers(max_batch=2).load(model, on_step=lambda rows: None)
    broken = Answer()
    # No embedding has this id: the model raises inside the decoding thread.
    loaded.submit(GenerationRequest([10**6], 4, broken.emit))
    assert broken.done.wait(60)
    assert isinstance(broken.events[-1], Failed)
    assert len(ask(loaded, limit=3).tokens) == 3
    loaded.close()


def test_a_model_that_mixes_rows_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def without_mask(self, *args, attention_mask=None, **kwargs):
        return forward(self, *args, **kwargs)

    without_mask.__signature__ = __import__("inspect").signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(LlamaForCausalLM, "forward", without_mask)
    with pytest.raises(PipelineError, match="cannot be batched"):
        Transformers().load(model, on_step=lambda rows: None)


def test_folders_that_cannot_be_served_are_refused_with_the_reason(model: Path, tmp_path: Path) -> None:
    import shutil

    def load(folder: Path) -> None:
        Transformers().load(folder, on_step=lambda rows: None)

    with pytest.raises(PipelineError, match=r"no config\.json"):
        load(tmp_path)
    torn = shutil.copytree(model, tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PipelineError, match="cannot be loaded"):
        load(torn)
    silent = shutil.copytree(model, tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(PipelineError, match="no chat template"):
        load(silent)


def test_a_conversation_longer_than_the_context_is_named(model: Path) -> None:
    with pytest.raises(PipelineError, match=r"conversation 1: \d+ tokens"):
        answer_all(model, [*conversations(1), [{"role": "user", "content": "box " * 400}]], 4)


def test_an_engine_failure_is_a_pipeline_error() -> None:
    import queue

    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    events.put(Failed("broke"))
    with pytest.raises(PipelineError, match="broke"):
        wait_for_tokens(events)


def test_logits_that_are_no_numbers_fail_their_row_alone() -> None:
    import math

    import torch

    from tasks.gateway.batching.batch import Batch
    from tasks.gateway.batching.decoding import DecodeLoop, Row
    from tasks.gateway.batching.text import AnswerText

    def decode(ids: list[int]) -> str:
        return "x" * len(ids)

    loop = DecodeLoop(torch.nn.Identity(), Batch(torch.nn.Identity(), 64), decode, (0,), 4, 0.0, lambda rows: None)
    events: list[list[Event]] = [[], [], []]
    rows = [Row(GenerationRequest([1], 9, found.append), AnswerText(decode), None, []) for found in events]
    logits = torch.tensor([[1.0, 2.0], [math.nan, 1.0], [-math.inf, -math.inf]])
    done = loop._choose(rows, logits)
    loop.close()
    assert done == {id(rows[1]), id(rows[2])}
    assert rows[0].tokens == [1]
    assert [isinstance(found[0], Failed) for found in events[1:]] == [True, True]
