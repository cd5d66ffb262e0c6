"""Each request is answered with the adapter that it names, in one batch, as that adapter alone answers; adapters come
and go while the gateway answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, seal, write_json
from tasks.gateway.answering import wait_for_tokens
from tasks.gateway.api.keys import add_key
from tasks.gateway.batching.adapted_model import AdaptedModel
from tasks.gateway.engine import Delta, Event, Finished, GenerationRequest
from tasks.gateway.engines.transformers import Transformers, read_folder
from tasks.gateway.running import RunningGateway
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.weights_hash import hash_weights
from tasks.language_models.generation import generate_answers
from tests.tasks.gateway.conftest import start_gateway

TURNS = [[{"role": "user", "content": text}] for text in ("Where is my parcel?", "stone", "Is the river open today?")]
NAMES = ("invoices", "parcels", "wide")


def make_adapter(store: Path, name: str, model: Path, seed: int, rank: int = 4) -> Path:
    """An adapter of large random updates, sealed as `heptune adapters keep` does."""
    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    adapted = get_peft_model(load_model(model), config)
    for key, weights in adapted.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weights, std=0.5)
    folder = store / name
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink()
    values = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", {**values, "target_modules": sorted(values["target_modules"])})
    seal(folder, list(folder.iterdir()), {"base": hash_weights(model), "made_by": f"rank {rank}"})
    return folder


@pytest.fixture(scope="module")
def store(model: Path, other_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(NAMES):
        make_adapter(store, name, model, seed, rank=8 if name == "wide" else 4)
    make_adapter(store, "elsewhere", other_model, 9)
    return store


@pytest.fixture(scope="module")
def expected(store: Path, model: Path) -> dict[str | None, list[str]]:
    """What each adapter alone answers, through the decoder of evaluation; None: the model without one."""
    answers = {}
    for name in (None, *NAMES):
        loaded, tokenizer = read_folder(model, "float32", "cpu")
        if name is not None:
            loaded = PeftModel.from_pretrained(loaded, store / name).get_base_model().eval()
        answers[name] = [answer.text for answer in generate_answers(loaded, tokenizer, TURNS, 24)]
    assert len({tuple(texts) for texts in answers.values()}) == 4, "the adapters answer alike"
    return answers


def ask(gateway: RunningGateway, model: str, turns: list[dict[str, str]], key: str = "", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "messages": turns, "max_tokens": 24, **more}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def text(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


@pytest.fixture(scope="module")
def gateway(store: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """With one adapter from the start, and one that does not fit."""
    folder = tmp_path_factory.mktemp("gateway")
    add_key(folder / "keys.json", "somebody")
    with start_gateway(folder, model, adapters_folder=store, adapters=["invoices", "elsewhere"]) as running:
        yield running


@pytest.fixture(scope="module")
def keys(gateway: RunningGateway, store: Path) -> dict[str, str]:
    path = gateway.state.keyring._path
    return {"user": add_key(path, "ada"), "admin": add_key(path, "grace", admin=True)}


def call(gateway: RunningGateway, method: str, path: str, key: str, **json: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.request(method, f"{gateway.url}{path}", json=json or None, headers=headers, timeout=60)


def test_every_request_of_one_batch_is_answered_with_its_adapter(
    gateway: RunningGateway, keys: dict[str, str], expected: dict[str | None, list[str]]
) -> None:
    for name in ("parcels", "wide"):
        assert call(gateway, "POST", "/v1/adapters", keys["admin"], name=name).status_code == 200
    listed = call(gateway, "GET", "/v1/models", keys["user"]).json()["data"]
    assert [one["id"] for one in listed] == ["heptune", *(f"heptune:{name}" for name in NAMES)]
    asked = [(name, turn) for turn in range(len(TURNS)) for name in expected] * 2

    def answer(case: tuple[str | None, int]) -> str:
        name, turn = case
        if name is None:
            return text(ask(gateway, "heptune", TURNS[turn], keys["user"]))
        if turn == 0:
            return text(ask(gateway, "heptune", TURNS[turn], keys["user"], metadata={"adapter": name}))
        return text(ask(gateway, f"heptune:{name}", TURNS[turn], keys["user"]))

    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(answer, asked))
    assert answers == [expected[name][turn] for name, turn in asked]
    (histogram,) = gateway.state.metrics.batch.collect()
    steps = {sample.name.rpartition("_")[2]: sample.value for sample in histogram.samples}
    assert steps["sum"] > steps["count"], "nothing was decoded together"


def test_adapters_come_and_go_while_it_answers(
    gateway: RunningGateway, keys: dict[str, str], expected: dict[str | None, list[str]]
) -> None:
    assert call(gateway, "POST", "/v1/adapters", keys["admin"], name="parcels").status_code == 200
    gone = call(gateway, "DELETE", "/v1/adapters/parcels", keys["admin"])
    assert "heptune:parcels" not in [one["model"] for one in gone.json()["data"]]
    for asked in (
        ask(gateway, "heptune:parcels", TURNS[0], keys["user"]),
        ask(gateway, "heptune", TURNS[0], keys["user"], metadata={"adapter": "parcels"}),
        call(gateway, "GET", "/v1/models/heptune:parcels", keys["user"]),
        call(gateway, "DELETE", "/v1/adapters/parcels", keys["admin"]),
    ):
        assert asked.status_code == 404
        assert "invoices" in asked.json()["error"]["message"]
    assert text(ask(gateway, "heptune:invoices", TURNS[1], keys["user"])) == expected["invoices"][1]
    assert call(gateway, "POST", "/v1/adapters", keys["admin"], name="parcels").status_code == 200
    assert text(ask(gateway, "heptune:parcels", TURNS[1], keys["user"])) == expected["parcels"][1]
    both = ask(gateway, "heptune:parcels", TURNS[1], keys["user"], metadata={"adapter": "invoices"})
    assert both.status_code == 400
    assert "name two adapters" in both.json()["error"]["message"]


def test_only_an_administrator_changes_adapters_and_only_to_those_that_fit(
    gateway: RunningGateway, keys: dict[str, str]
) -> None:
    for method, path in (("POST", "/v1/adapters"), ("DELETE", "/v1/adapters/invoices")):
        body = {"name": "parcels"} if method == "POST" else {}
        refused = call(gateway, method, path, keys["user"], **body)
        assert refused.status_code == 403
        assert "heptune keys add NAME --admin" in refused.json()["error"]["message"]
        assert call(gateway, method, path, "hep_none", **body).status_code == 401
    other = call(gateway, "POST", "/v1/adapters", keys["admin"], name="elsewhere")
    assert other.status_code == 400
    assert "adapter elsewhere: was trained on another base" in other.json()["error"]["message"]
    missing = call(gateway, "POST", "/v1/adapters", keys["admin"], name="../../etc")
    assert missing.status_code == 400
    assert "there are elsewhere, invoices" in missing.json()["error"]["message"]


def test_the_log_tells_answers_of_an_adapter_from_those_of_the_release(
    gateway: RunningGateway, keys: dict[str, str]
) -> None:
    found = ask(gateway, "heptune:invoices", TURNS[0], keys["user"])
    gateway.state.writer.flush()
    rows = gateway.state.writer.store.read_window(limit=1000).to_pylist()
    row = next(row for row in rows if row["id"] == found.json()["id"])
    assert (row["model"], row["release"]) == ("heptune:invoices", "release-one:invoices")
    window = gateway.state.writer.store.read_window(limit=1000, release="release-one").to_pylist()
    assert {row["model"] for row in window} <= {"heptune"}


def test_a_new_champion_keeps_the_adapters_that_fit_it(
    store: Path, model: Path, other_model: Path, tmp_path: Path
) -> None:
    champion = ["one", model]
    resolve = lambda: tuple(champion)  # noqa: E731
    with start_gateway(
        tmp_path, model, resolve, adapters_folder=store, adapters=["invoices"], model_name="shop"
    ) as running:
        assert ask(running, "shop:invoices", TURNS[0]).status_code == 200
        assert call(running, "POST", "/v1/adapters", "", name="parcels").status_code == 403
        champion[:] = ["two", other_model]
        deadline = threading.Event()
        while running.state.releases.release != "two":
            assert not deadline.wait(0.05)
        lost = ask(running, "shop:invoices", TURNS[0])
        assert lost.status_code == 404
        assert lost.json()["error"]["message"] == "no model 'shop:invoices'; there are 'shop'"
        assert ask(running, "shop", TURNS[0]).status_code == 200


def test_an_adapter_that_is_taken_away_finishes_its_requests_first(store: Path, model: Path) -> None:
    import queue

    from tasks.training.stored_adapter import read_adapter

    engine = Transformers().load(model, lambda rows: None)
    try:
        engine.load_adapter(read_adapter(store, "invoices"))
        prompt = engine.encode(TURNS[0])

        def submit(adapter: str | None, tokens: int) -> queue.SimpleQueue[Event]:
            events: queue.SimpleQueue[Event] = queue.SimpleQueue()
            engine.submit(GenerationRequest(prompt, tokens, events.put, adapter=adapter))
            return events

        alone = wait_for_tokens(submit("invoices", 60))
        running = submit("invoices", 60)
        assert isinstance(running.get(), (Delta, Finished))
        engine.unload_adapter("invoices")
        assert engine.adapters == frozenset()
        seen = [running.get_nowait() for _ in range(running.qsize())]
        assert isinstance(seen[-1], Finished)
        assert wait_for_tokens(submit(None, 60)) != alone
        with pytest.raises(PipelineError, match="the adapter invoices is not served any more"):
            wait_for_tokens(submit("invoices", 5))
        engine.load_adapter(read_adapter(store, "invoices"))
        assert wait_for_tokens(submit("invoices", 60)) == alone
    finally:
        engine.close()


def test_an_adapter_for_other_layers_leaves_the_model_as_it_was(store: Path, model: Path, tmp_path: Path) -> None:
    plain = load_model(model).eval()
    adapted = AdaptedModel(plain)
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    with torch.no_grad():
        before = adapted(input_ids=ids).logits
        broken = make_adapter(tmp_path, "broken", model, 1)
        values = read_json(broken / "adapter_config.json")
        write_json(broken / "adapter_config.json", {**values, "target_modules": ["no_such_layer"]})
        with pytest.raises(PipelineError, match="adapter broken: does not fit the model"):
            adapted.add("broken", broken)
        assert torch.equal(adapted(input_ids=ids).logits, before)
        adapted.add("wide", store / "wide")
        with pytest.raises(PipelineError, match="adapter broken: does not fit the model"):
            adapted.add("broken", broken)
        with adapted.rows([None, "wide"]):
            mixed = adapted(input_ids=ids).logits
        torch.testing.assert_close(mixed[0], before[0], rtol=0, atol=1e-5)
        assert not torch.allclose(mixed[1], before[1], atol=1e-2)
        adapted.remove("wide")
        assert torch.equal(adapted(input_ids=ids).logits, before)
