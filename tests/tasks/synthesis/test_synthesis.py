"""A teacher that misbehaves: what it writes is verified, every refusal and every token counted, nothing asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES, content_id
from tasks.contracts.tables import write_table
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.sample import Sample
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.gate.measures import describe_splits
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import split_examples
from tasks.language_models.writers.cost import Price
from tasks.language_models.writers.local import Local
from tasks.language_models.writers.openai import OpenAi
from tasks.synthesis.checks.duplicates import DuplicateCheck
from tasks.synthesis.checks.exact import ExactCheck
from tasks.synthesis.checks.length import LengthCheck
from tasks.synthesis.checks.python import PythonCheck
from tasks.synthesis.drafts import SynthesisResult
from tasks.synthesis.estimate import estimate
from tasks.synthesis.params import Limits, Synthesis
from tasks.synthesis.publish import list_figures
from tasks.synthesis.seeds import read_known, read_seeds
from tests.checkout import ROOT
from tests.endpoint import Endpoint, broken, busy, drop_line, send, slow
from tests.tasks.synthesis.teachers import Sums, find_request, find_topic, publish, run, sums

pytest.importorskip("openai", reason="openai is in the extra writers")

TRAIN = [
    ("My card was declined at the supermarket, why?", "Your bank can tell you why.", "card"),
    ("How do I block a card that I lost?", "Open the app and choose Block.", "card"),
    ("When will my parcel arrive at the depot?", "It is there on Monday.", "parcel"),
    ("Can I change the address of a delivery?", "Yes, until it is sent.", "parcel"),
]
HELD = {
    "validation": [("Is there a fee for cash from a machine abroad?", "Yes, two percent.", "card")],
    "test": [("The courier left my parcel with a stranger", "We ask him where it is.", "parcel")],
}


def write_splits(folder: Path) -> dict[str, Path]:
    paths = {}
    for name, rows in {"train": TRAIN, **HELD}.items():
        turns = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            for prompt, answer, _ in rows
        ]
        ids = [content_id(conversation) for conversation in turns]
        values = {
            "id": ids,
            "messages": turns,
            "source": ["shop"] * len(rows),
            "row": range(1, len(rows) + 1),
            "label": [label for *_, label in rows],
            "cluster": ids,
        }
        paths[name] = folder / f"{name}.parquet"
        write_table(
            pa.table({field.name: pa.array(values[field.name], field.type) for field in EXAMPLES}),
            paths[name],
            EXAMPLES,
        )
    return paths


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    servers: list[Endpoint] = []

    def start(answer: Callable[[str], str | dict[str, Any]], counted: bool = True) -> Endpoint:
        servers.append(Endpoint(answer, counted))
        return servers[-1]

    yield start
    for endpoint in servers:
        endpoint.close()


def count_refused(written: SynthesisResult) -> dict[tuple[str, str], int]:
    return dict(Counter((draft.step, str(draft.reason)) for draft in written.refused))


GOOD = {
    "A": "Which machines take my contactless watch?",
    "B": "Why is the tracking page empty since yesterday?",
    "C": "Please tell me who signed for the box",
    "D": "Could a neighbour accept it on my behalf?",
    "E": "What does the sticker with the red arrow mean?",
    "F": "May I collect it myself from your warehouse?",
}


class Clumsy:
    """Answers in every wrong way there is."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __call__(self, order: str) -> str | dict[str, Any]:
        cut = {"finish_reason": "length", "content": "[{"}
        if topic := find_topic(order):
            self.calls[topic] += 1
            if self.calls[topic] == 1:
                return "Of course! Here you are: [{" if topic == "cards" else cut
            return self.propose(topic)
        request = find_request(order)
        name = next(name for name, text in GOOD.items() if text == request)
        if "whole number" in order:
            self.calls["judge " + name] += 1
            if name == "F":
                return "It is fine."
            score = 2 if name == "E" or (name == "D" and "Better" not in order) else 5
            return f'Sure:\n```json\n{{"critique": "Say more.", "score": {score},}}\n```'
        if "Critique:" in order:
            return f"Better answer to {name}, at length."
        return {
            "B": cut,
            "C": "I'm sorry, but as an AI language model I cannot help with that.",
        }.get(name, f"Answer to {name}.")

    @staticmethod
    def propose(topic: str) -> str:
        if topic == "cards":
            items = [
                {"instruction": GOOD["A"], "label": "card"},
                {"instruction": "The courier left my parcel with a stranger!", "label": "parcel"},
                {"instruction": "how do I block a card that I lost", "label": "card"},
                {"question": "What is this?"},
                {"instruction": "Tell me about the weather on Sunday", "label": "weather"},
                {"instruction": "Hi", "label": "card"},
            ]
            return "```json\n" + json.dumps(items)[:-1] + ",]\n```"
        texts = [GOOD["B"], GOOD["A"].upper(), *(GOOD[name] for name in "CDEF")]
        return json.dumps({"instructions": [{"instruction": text, "label": "parcel"} for text in texts]})


def test_every_refusal_token_and_call_is_counted(serve: Any, tmp_path: Path) -> None:
    endpoint = serve(Clumsy())
    endpoint.troubles = [busy, broken, slow, drop_line]
    settings = Synthesis(
        teacher=OpenAi(url=endpoint.url, model="t", timeout_s=0.5),
        seeds=Jsonl(path="seeds.jsonl"),
        rows=20,
        topics=("cards", "parcels"),
        labels=("card", "parcel"),
        instructions_per_call=6,
        teacher_price=Price(prompt=1000.0, completion=3000.0),
    )
    lines = [{"prompt": p, "completion": a, "label": label} for p, a, label in (*TRAIN, *HELD["test"])]
    (tmp_path / "seeds.jsonl").write_text("\n".join(map(json.dumps, lines)))
    written = run(settings, tmp_path, write_splits(tmp_path))
    assert endpoint.troubles == []
    assert [draft.instruction for draft in written.accepted] == [GOOD["A"], GOOD["D"]]
    assert [(draft.answer, draft.score, draft.rewrites, draft.label) for draft in written.accepted] == [
        ("Answer to A.", 5, 0, "card"),
        ("Better answer to D, at length.", 5, 1, "parcel"),
    ]
    assert written.ended == "no new row in 3 rounds"
    # Round 1 has six prompts that pass, rounds 2 to 4 repeat themselves.
    assert count_refused(written) == {
        ("instructions", "too similar to a row of test"): 4,
        ("instructions", "too similar to a training row"): 4,
        ("instructions", 'wrong schema: no "instruction"'): 4,
        ("instructions", "label not in the set"): 4,
        ("instructions", "prompt shorter than 8 characters"): 4,
        ("instructions", "too similar to another written row"): 1 + 3 * 7,
        ("answers", "cut off"): 1,
        ("answers", "the teacher refuses"): 1,
        ("critique", "no score: bad JSON"): 1,
        ("critique", "score below 4"): 1,
    }
    steps = written.steps
    assert {name: (spent.calls, spent.usable, dict(spent.unusable)) for name, spent in steps.items()} == {
        "topics": (0, 0, {}),
        "instructions": (10, 8, {"bad JSON": 1, "cut off": 1}),
        "answers": (8, 5, {"cut off": 3}),
        "critique": (8, 5, {"bad JSON": 3}),
        "rewrite": (2, 2, {}),
    }
    figures = list_figures(written)
    assert figures["calls"] == len(endpoint.asked) == 28
    assert [figures["prompt_tokens"], figures["completion_tokens"]] == endpoint.tokens
    assert figures["cost"] == pytest.approx((endpoint.tokens[0] * 1000 + endpoint.tokens[1] * 3000) / 1e6)
    assert figures["acceptance_rate"] == round(2 / 48, 6)
    # A held-out row is no example, even if it is among the seeds.
    held = [prompt for rows in HELD.values() for prompt, *_ in rows]
    shown = "\n".join(body["messages"][-1]["content"] for body in endpoint.bodies)
    assert not any(f"- {prompt}" in shown for prompt in held)
    assert f"- {TRAIN[0][0]}" in shown
    publish(settings, written, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert set(rows[1]) == {
        "id", "messages", "label", "topic", "teacher", "judge", "score", "rewrites", "checks", "prompts", "seeds",
    }  # fmt: skip
    refused = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert Counter((row["step"], row["reason"]) for row in refused) == count_refused(written)
    page = (tmp_path / "index.html").read_text()
    assert "too similar to a row of test" in page
    assert GOOD["D"] in page


def test_wrong_sums_are_refused_and_the_judge_is_another_model(serve: Any, tmp_path: Path) -> None:
    endpoint = serve(Sums())
    settings = sums(endpoint.url, rows=25, system="You add.")
    written = run(settings, tmp_path)
    assert len(written.accepted) == 25
    assert written.ended == "enough rows"
    assert written.topics == ("shop sums", "kitchen sums", "zoo sums")
    refused = count_refused(written)
    wrong = [d for d in written.refused if d.reason == "a wrong equation"]
    assert wrong
    assert all(d.instruction.split()[1].endswith("7") for d in wrong)
    assert not any(d.instruction.split()[1].endswith("7") for d in written.accepted)
    assert refused["topics", "too similar to another topic"] == refused["topics", "wrong schema: not text"] == 1
    assert all(d.answer.startswith(d.instruction.split()[1]) for d in written.accepted)
    asked = Counter(body["model"] for body in endpoint.bodies)
    steps = written.steps
    assert asked["j"] == steps["critique"].calls == 25
    judged = [b for b in endpoint.bodies if b["model"] == "j"]
    assert steps["critique"].cost == pytest.approx(
        (sum(len(b["messages"][-1]["content"].split()) for b in judged) + 25 * 4) / 1e6
    )
    assert {b["messages"][0]["content"] for b in endpoint.bodies if b["messages"][0]["role"] == "system"} == {
        "You add."
    }
    row = json.loads(publish(settings, written, tmp_path).splitlines()[0])
    assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]
    assert (row["teacher"], row["judge"]) == ("t", "j")
    # Without the check of sums, the check of results finds the same rows.
    less = run(sums(endpoint.url, rows=25, checks=(LengthCheck(), DuplicateCheck(), ExactCheck())), tmp_path / "less")
    assert Counter(d.reason for d in less.refused)["result differs from the expected one"] == len(wrong)


def test_more_rows_later_keep_those_that_are_there(serve: Any, tmp_path: Path) -> None:
    endpoint = serve(Sums())
    first = publish(sums(endpoint.url, rows=6), run(sums(endpoint.url, rows=6), tmp_path), tmp_path)
    calls = len(endpoint.asked)
    same = run(sums(endpoint.url, rows=6), tmp_path)
    assert publish(sums(endpoint.url, rows=6), same, tmp_path) == first
    assert len(endpoint.asked) == calls
    more = run(sums(endpoint.url, rows=15), tmp_path)
    assert publish(sums(endpoint.url, rows=15), more, tmp_path).startswith(first)
    assert list_figures(more)["calls"] == len(endpoint.asked) > calls


SCRIPT = """
import sys, json
from pathlib import Path
from tests.tasks.synthesis.teachers import publish, run, sums
folder, url = Path(sys.argv[1]), sys.argv[2]
settings = sums(url, rows=12)
publish(settings, run(settings, folder), folder)
"""


def start(folder: Path, url: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), url], env=environment, cwd=folder)


def test_a_killed_run_goes_on_without_asking_again(serve: Any, tmp_path: Path) -> None:
    unbroken = serve(Sums())
    settings = sums(unbroken.url, rows=12)
    publish(settings, run(settings, tmp_path / "unbroken"), tmp_path / "unbroken")
    calls = len(unbroken.asked)
    teacher = Sums()
    endpoint = serve(teacher)
    reached, killed = threading.Event(), threading.Event()

    def hang_once() -> None:
        if len(endpoint.asked) == calls // 2 and not reached.is_set():
            reached.set()
            killed.wait(60)
            # Nobody hears this answer.
            raise ConnectionError

    teacher.pause = hang_once
    # The server has another port, and its address is part of what an answer is kept under.
    process = start(tmp_path / "killed", endpoint.url)
    assert reached.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed.set()
    assert not (tmp_path / "killed/rows.jsonl").exists()
    assert len(endpoint.asked) == calls // 2
    assert start(tmp_path / "killed", endpoint.url).wait(60) == 0
    assert endpoint.asked == unbroken.asked
    for name in ("rows.jsonl", "refused.jsonl", "metrics.json", "index.html"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name


def test_limits_end_a_run_and_more_goes_on(serve: Any, tmp_path: Path) -> None:
    endpoint = serve(Sums())
    some = run(sums(endpoint.url, rows=30, limits=Limits(calls=20)), tmp_path)
    assert some.ended == "limit of 20 calls reached"
    assert list_figures(some)["calls"] == len(endpoint.asked) == 20
    assert 0 < len(some.accepted) < 10
    assert any(str(draft.reason).endswith("limit of 20 calls reached") for draft in some.refused)
    dear = run(sums(endpoint.url, rows=30, limits=Limits(cost=0.015)), tmp_path)
    assert dear.ended == "limit of cost 0.015 reached"
    assert list_figures(dear)["cost"] <= 0.015
    # What is left would not have paid for one more long answer.
    assert list_figures(dear)["cost"] > 0.015 - (512 * 8.0 + 400 * 2.0) / 1e6
    whole = run(sums(endpoint.url, rows=30), tmp_path)
    assert whole.accepted[: len(dear.accepted)] == dear.accepted[: len(dear.accepted)]
    assert list_figures(whole)["calls"] == len(endpoint.asked)


def test_tokens_that_the_server_does_not_count_are_estimated(serve: Any, tmp_path: Path) -> None:
    written = run(sums(serve(Sums(), counted=False).url, rows=3), tmp_path)
    assert all(spent.estimated == spent.calls for spent in written.steps.values())
    assert list_figures(written)["prompt_tokens"] > 0
    publish(sums("http://x", rows=3), written, tmp_path)
    assert "did not count the tokens" in (tmp_path / "index.html").read_text()


def test_a_server_that_says_when_to_come_back_is_heard(serve: Any, tmp_path: Path) -> None:
    endpoint = serve(Sums())
    endpoint.troubles = [lambda handler: send(handler, 429, {"error": {"message": "slow down"}}, Retry_After="2")]
    began = time.monotonic()
    run(sums(endpoint.url, rows=1, topics=("sums",), least_score=None), tmp_path)
    assert time.monotonic() - began >= 2
    assert endpoint.troubles == []


def test_a_teacher_that_fails_is_one_line_and_answers_are_kept(serve: Any, tmp_path: Path) -> None:
    endpoint = serve(Sums())
    settings = sums(endpoint.url, rows=4, teacher=OpenAi(url=endpoint.url, model="t", concurrency=1, retries=0))
    endpoint.troubles = [lambda handler: send(handler, 401, {"error": {"message": "bad key"}})]
    with pytest.raises(PipelineError, match=r"status 401 .*bad key.*received answers are cached") as caught:
        run(settings, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(run(settings, tmp_path).accepted) == 4
    nothing = serve(lambda order: "No idea.")
    with pytest.raises(PipelineError, match=r"no topic in 15 calls \(bad JSON 15\); list topics"):
        run(sums(nothing.url), tmp_path)
    empty = sums(nothing.url, topics=("a topic",), attempts=1)
    written = run(empty, tmp_path)
    assert (written.accepted, written.ended) == ((), "no new row in 3 rounds")
    assert written.steps["instructions"].unusable == {"bad JSON": 3}
    (tmp_path / "rows.jsonl").write_text("earlier")
    with pytest.raises(PipelineError, match=r"no row was accepted .*was usable: bad JSON \(instructions\)"):
        publish(empty, written, tmp_path)
    assert (tmp_path / "rows.jsonl").read_text() == "earlier"


class Coder:
    """Functions, of which some are wrong, do not end, or look around."""

    ANSWERS = (
        "```python\ndef f(x):\n    return 2 * x\n```",
        "```python\ndef f(x):\n    return x\n```",
        "```python\nwhile True:\n    pass\n```",
        "Multiply by two.",
        "```python\nimport os\nos._exit(0)\n```",
        "```python\nimport socket\nsocket.create_connection(('127.0.0.1', PORT), 1)\n```",
        "```python\nopen('CANARY', 'w')\n```",
        "```python\nx = bytearray(10**9)\n```",
    )
    TEXTS = (
        "Double a number", "Give twice what comes in", "Write f that scales by two", "A function f, two times x",
        "Return x plus x in f", "Have f add its argument to itself", "Let f be the doubling map", "f: 1 to 2, 2 to 4",
    )  # fmt: skip

    def __init__(self, canary: Path) -> None:
        self.port, self.canary = 0, canary

    def __call__(self, order: str) -> str:
        if find_topic(order):
            return json.dumps([{"instruction": text, "tests": "assert f(2) == 4"} for text in self.TEXTS])
        answer = self.ANSWERS[self.TEXTS.index(find_request(order))]
        return answer.replace("PORT", str(self.port)).replace("CANARY", str(self.canary))


def has_namespaces() -> bool:
    try:
        return PythonCheck().run("x = 1", "assert x == 1") is None
    except PipelineError as error:
        return "does not allow namespaces" not in str(error)


def test_code_is_run_shut_in(serve: Any, tmp_path: Path) -> None:
    teacher = Coder(tmp_path / "canary")
    endpoint = serve(teacher)
    teacher.port = endpoint.server.server_port
    settings = sums(
        endpoint.url,
        rows=8,
        topics=("doubling",),
        instructions_per_call=8,
        least_score=None,
        checks=(PythonCheck(seconds=1),),
        limits=Limits(calls=9),
    )
    if not has_namespaces():
        pytest.skip("this machine gives a process no namespaces")
    written = run(settings, tmp_path)
    assert [draft.answer for draft in written.accepted] == [Coder.ANSWERS[0]]
    assert Counter(draft.reason for draft in written.refused if draft.step == "answers") == {
        "its code fails: AssertionError": 1,
        "its code takes too long": 1,
        "no code block": 1,
        "its code ends the process": 1,
        "its code fails: PermissionError": 1,  # no sockets
        "its code fails: FileNotFoundError": 1,  # the folder is not there
        "its code fails: MemoryError": 1,
    }
    assert not (tmp_path / "canary").exists()


def test_the_estimate_is_near_the_run(serve: Any, tmp_path: Path) -> None:
    settings = sums(serve(Sums()).url, rows=40)
    known = read_known(settings, [], {}, tmp_path)
    planned = {found.step: found for found in estimate(settings, [], known, tmp_path, 1.0)}
    assert {name: found.calls for name, found in planned.items()} == {
        "topics": 1, "instructions": 10, "answers": 40, "critique": 40, "rewrite": 0,
    }  # fmt: skip
    half = {found.step: found.calls for found in estimate(settings, [], known, tmp_path, 0.5)}
    assert half == {"topics": 1, "instructions": 40, "answers": 80, "critique": 120, "rewrite": 40}
    written = run(settings, tmp_path)
    sent = list_figures(written)["prompt_tokens"]
    # The server here counts words; there are four tokens to three of them.
    assert 0.5 < sum(found.prompt_tokens for found in planned.values()) / (sent * 4 / 3) < 2
    assert planned["answers"].cost == pytest.approx(
        (planned["answers"].prompt_tokens * 2 + planned["answers"].completion_tokens * 8) / 1e6
    )


def test_the_file_goes_through_the_stage(serve: Any, tmp_path: Path) -> None:
    settings = sums(serve(Sums()).url, rows=60)
    publish(settings, run(settings, tmp_path), tmp_path)
    params = DataPreparation(
        sources=(Sample(rows=400, title="sample"), Jsonl(path="rows.jsonl", title="synthetic")),
        split=Split(train_only=("synthetic",), validation=0.1),
    )
    rows = read_sources(params.sources, params.on_bad_row, tmp_path)
    assert [(origin.shape, origin.rows) for origin in rows.origins][1] == ("messages", 60)
    rows = clean_rows(rows, params.cleaning)
    rows = remove_duplicates(rows, params.duplicates)
    rows = split_examples(rows, params.split, params.duplicates)
    kept = Counter(rows.table["source"].to_pylist())["synthetic"]
    gone = Counter(
        (row["step"], row["reason"]) for row in rows.dropped.to_pylist() if row["source"].startswith("synthetic")
    )
    assert kept + sum(gone.values()) == 60
    assert kept >= 50
    placed = Counter(zip(rows.table["source"].to_pylist(), rows.table["split"].to_pylist(), strict=True))
    assert placed["synthetic", "train"] == kept
    assert placed["sample", "test"] > 20
    wanted = dict(describe_splits(rows, params.split).select(["split", "wanted_share"]).to_pandas().values)
    assert wanted["test"] == pytest.approx(0.1 * (1 - kept / rows.table.num_rows))
    assert sum(wanted.values()) == pytest.approx(1)
    with pytest.raises(PipelineError, match='train_only names "synthetics", but the sources are sample, synthetic'):
        split_examples(rows, Split(train_only=("synthetics",)), params.duplicates)


def test_the_embedded_model_can_be_the_teacher(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/instructions.txt").write_text("{% if count %}{% endif %}Tell me about {{ topic }}.")
    (tmp_path / "prompts/answers.txt").write_text("{{ instruction }}")
    settings = Synthesis(
        teacher=Local(path=str(ROOT / "models/base"), max_tokens=24),
        seeds=None,
        topics=("the house", "a parcel", "the river", "my order"),
        rows=2,
        instructions_per_call=1,
        least_score=None,
        checks=(LengthCheck(prompts=(1, 2000)), DuplicateCheck()),
        prompts="prompts",
    )
    written = run(settings, tmp_path)
    assert written.steps["instructions"].calls == 4
    assert written.steps["instructions"].prompt_tokens > 20
    proposed = written.steps["instructions"].usable
    assert proposed + sum(written.steps["instructions"].unusable.values()) == 4
    assert len(written.accepted) + sum(draft.step != "topics" for draft in written.refused) >= proposed
    again = run(settings, tmp_path)
    assert (again.accepted, again.refused) == (written.accepted, written.refused)


def test_a_seed_must_be_a_request_and_an_answer(tmp_path: Path) -> None:
    (tmp_path / "seeds.jsonl").write_text(
        json.dumps({"text": "A text without a question, long enough to be one."}) + "\n"
    )
    settings = sums("http://x", seeds=Jsonl(path="seeds.jsonl", shape="plain_text"))
    with pytest.raises(PipelineError, match=r"of 1 rows of seeds\.jsonl none has one request with one answer"):
        read_seeds(settings, {}, tmp_path)
    labels = partial(Synthesis, teacher=OpenAi(url="http://x", model="t"), task="x")
    with pytest.raises(ValueError, match="labels: seeds needs seeds"):
        labels(seeds=None, labels="seeds")
    with pytest.raises(ValueError, match="without seeds the teacher has no information"):
        Synthesis(teacher=OpenAi(url="http://x", model="t"), seeds=None)
    with pytest.raises(ValueError, match="the check exact is listed twice"):
        labels(checks=(ExactCheck(), ExactCheck()))
