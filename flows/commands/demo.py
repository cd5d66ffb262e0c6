"""What ``heptune demo`` runs: the whole loop on the embedded model, offline.

Seven stages, a promotion, a served model, traffic, drift, a retrain on corrected answers, and a swap under
load that drops no request. Each step is announced with what it does and how long the whole will still take.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.progress import track

from flows.commands.terminal import show_stage
from flows.commands.time_left import TimeLeft
from flows.wiring import artifacts
from flows.wiring.params import read_params
from flows.wiring.releases.serving import list_gateways, stop_gateways, store_url
from flows.wiring.servers.server import free_port
from flows.wiring.settings import configure
from flows.wiring.staleness import STAGES
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import make_private, read_json
from tasks.contracts.records import PREDICTIONS
from tasks.contracts.tables import read_table
from tasks.gateway.request_log.store import open_store
from tasks.sample_shop.traffic import SampleTraffic, generate_traffic

if TYPE_CHECKING:
    from flows.wiring.releases.registry import Champion

logger = logging.getLogger(__name__)

CLIENTS = 16
CALM, NEW = 200, 1500
DRIFT = 0.7
# Seconds between two requests of the client under load: few while the retrain needs the cores, many around the swap.
PAUSE_S, SWAP_PAUSE_S = 1.0, 0.1
START_TIMEOUT_S = 240.0
SWAP_TIMEOUT_S = 60.0
LOG_TIMEOUT_S = 60.0


# What a stage does, in the demo's words.
STAGE_WORK = {
    "data_preparation": "generate the sample, clean it, remove duplicates, split it, check it",
    "model_initialisation": "pin the embedded base model and measure it",
    "training_setup": "count tokens and resolve the training plan for this machine",
    "fine_tuning": "train",
    "evaluation": "answer the held-out items with every model, score, compare",
    "deployment": "export the release and prove that it answers as trained",
    "monitoring": "compare the traffic with the baseline",
}
# Seconds on two idle cores, in the order of the demo; the retrain's stages are marked "again".
USUAL_S = {
    "data_preparation": 12.0,
    "model_initialisation": 10.0,
    "training_setup": 5.0,
    "fine_tuning": 96.0,
    "evaluation": 27.0,
    "deployment": 14.0,
    "monitoring": 3.0,
    "promotion": 3.0,
    "gateway": 7.0,
    "calm traffic": 6.0,
    "calm monitoring": 12.0,
    "new traffic": 50.0,
    "new monitoring": 13.0,
    "data_preparation again": 12.0,
    "model_initialisation again": 10.0,
    "training_setup again": 6.0,
    "fine_tuning again": 153.0,
    "evaluation again": 50.0,
    "deployment again": 15.0,
    "swap": 2.0,
}


@dataclass
class Load:
    """One client that keeps asking until it is stopped.

    Attributes:
        pause_s: Seconds between an answer and the next request.
        answered: Requests answered with 200, by release.
        failed: Requests that were not.
    """

    url: str
    pause_s: float = PAUSE_S
    answered: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        prompt = [{"role": "user", "content": "Where is my order?"}]
        with httpx.Client(timeout=120) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(f"{self.url}/v1/chat/completions", json=request(prompt, max_tokens=8))
                    answer.raise_for_status()
                    release = answer.json()["system_fingerprint"]
                    self.answered[release] = self.answered.get(release, 0) + 1
                except httpx.HTTPError as error:
                    self.failed.append(str(error))
                self._stop.wait(self.pause_s)


class Story:
    """What the demo tells: the time gone by, what it does, and how long it will still take."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = time.monotonic()
        self.left = TimeLeft(USUAL_S)

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        self.console.print(f"[bold cyan]{minutes:2d}:{seconds:02d}[/]  {text}", soft_wrap=True, highlight=False)

    def announce(self, text: str) -> None:
        self.say(f"{text} [dim]({self.left})[/]")

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Announce a step and note what it took."""
        self.announce(text)
        began = time.monotonic()
        yield
        self.left.finish(name, time.monotonic() - began)

    def report_stages(self, names: Sequence[str], mark: str = "") -> Callable[[str, str, float], None]:
        """Announce the first stage; the function returned tells what a stage took and announces the next one.

        Args:
            names: Stages in their order.
            mark: What follows a stage's name in `USUAL_S`.
        """
        following = dict(itertools.pairwise(names))

        def announce(name: str) -> None:
            self.announce(f"{name.replace('_', ' ')}: {STAGE_WORK[name]}")

        def report(name: str, outcome: str, seconds: float) -> None:
            show_stage(name, outcome, seconds)
            self.left.finish(name + mark, seconds, worked=outcome == "Ran")
            if name in following:
                announce(following[name])

        announce(names[0])
        return report


def run_demo(console: Console, stop: bool = False) -> None:
    """Run the loop and say where to look. Where it went through before, the retrained model is served again.

    Args:
        console: Where the story is told.
        stop: End the gateway afterwards instead of leaving it up.

    Raises:
        PipelineError: A step did not do what the demo promises.
    """
    from flows.pipeline import run_pipeline
    from flows.wiring.releases.registry import open_registry

    os.chdir(configure())
    story = Story(console)
    story.say("[bold]Seven stages[/] on the embedded base model and the sample data")
    run_pipeline("demo", report=story.report_stages(STAGES))
    with story.step("promotion", "register the release and make it the champion"):
        registry = open_registry()
        champion = registry.champion()
        if champion is None:
            registry.register()
            champion = registry.promote(reason="demo")
    story.say(f"champion is version {champion.version} (release {champion.release[:12]}): {first_reason()}")
    with story.step("gateway", "start a server for the champion"):
        url = start_gateway()
    story.say(f"serving it at {url}")
    if champion.version == 1:
        improve(url, champion, story)
        for line in accuracy_lines():
            console.print(f"       {line}", soft_wrap=True, highlight=False)
    else:
        story.say("the loop has been through this checkout; `make clean` and `make demo` begin anew")
    if stop:
        stop_gateways()
    story.say("[bold green]done[/]")
    console.print(f"       report    {artifacts.INDEX.resolve().as_uri()}", soft_wrap=True)
    if not stop:
        console.print(f"       model     {url}/v1 (OpenAI-compatible; `heptune stop` ends it)", soft_wrap=True)
    console.print("       Prefect and MLflow   `heptune up` shows every run", soft_wrap=True)


def improve(url: str, first: Champion, story: Story) -> None:
    """Calm traffic, then drifted traffic, a retrain on its corrected answers, and a swap under load."""

    from flows.retraining import retrain

    sources = read_params().data_preparation.sources
    intents = next((source.intents for source in sources if source.name == "sample"), None)
    with story.step("calm traffic", f"{CALM} requests like the training data"):
        since = time.time()
        ask_all(url, generate_traffic(CALM, seed=101, intents=intents), first.release)
    with story.step("calm monitoring", "compare them with the baseline"):
        monitor(since, "demo: calm traffic")
    story.say(f"monitoring: {drift_reason()}")
    text = f"{NEW} requests of a changed world (new products, new intents, slang), answers corrected by people"
    with story.step("new traffic", text):
        since = time.time()
        ask_all(url, generate_traffic(NEW, seed=202, drift=DRIFT, intents=intents), first.release, corrected=True)
    with story.step("new monitoring", "compare them with the baseline"):
        verdict = monitor(since, "demo: new traffic")
    story.say(f"monitoring: {drift_reason()}")
    if verdict["verdict"] != "drift":
        raise PipelineError(f"the demo's traffic drifts, but monitoring says {verdict['verdict']}; see its report")
    with Load(url) as load:
        story.say("[bold]retraining[/] while a client keeps asking")
        report = story.report_stages(STAGES, " again")

        def report_and_press(name: str, outcome: str, seconds: float) -> None:
            if name == "deployment":
                load.pause_s = SWAP_PAUSE_S
            report(name, outcome, seconds)

        decision = retrain(verdict["reasons"][0], "drift", verdict["window"], report_and_press)
        story.say(f"decision: {decision.decision}; {decision.why}")
        if decision.decision != "promoted":
            raise PipelineError(f"the retrain did not bring a new champion: {decision.why}")
        with story.step("swap", "wait until the server answers with the new champion"):
            wait_for_release(url, decision.versions["release"], load)
    if load.failed:
        raise PipelineError(f"{len(load.failed)} requests failed during the swap, the first: {load.failed[0]}")
    version, answered = decision.versions["version"], sum(load.answered.values())
    story.say(f"swapped in version {version} under load: {answered} requests, none dropped")


def monitor(since: float, reason: str) -> dict[str, Any]:
    """Freeze the traffic since a time, seconds since the epoch, and compare it with the baseline; the verdict."""
    from flows.pipeline import run_pipeline
    from flows.wiring.releases.snapshot import snapshot

    snapshot(since=since)
    run_pipeline(reason, ["monitoring"], report=show_stage)
    verdict: dict[str, Any] = read_json(artifacts.DRIFT_VERDICT)
    return verdict


def request(messages: Sequence[dict[str, str]], max_tokens: int = 96) -> dict[str, Any]:
    model = read_params().deployment.release.model
    return {"model": model, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0}


def ask_all(url: str, traffic: SampleTraffic, release: str, corrected: bool = False) -> None:
    """Send traffic with several clients at once, the right answers as feedback where asked, and see it logged."""
    store = open_store(store_url())
    expected = store.count(release) + len(traffic.prompts)
    with httpx.Client(timeout=300, limits=httpx.Limits(max_connections=CLIENTS)) as client:

        def ask(index: int) -> None:
            answer = client.post(f"{url}/v1/chat/completions", json=request(traffic.prompts[index]))
            answer.raise_for_status()
            if corrected:
                feedback = {
                    "request_id": answer.json()["id"],
                    "correction": traffic.answers[index],
                    "label": traffic.intents[index],
                }
                client.post(f"{url}/v1/feedback", json=feedback).raise_for_status()

        with ThreadPoolExecutor(CLIENTS) as clients:
            done = clients.map(ask, range(len(traffic.prompts)))
            for _ in track(done, "traffic", len(traffic.prompts), console=Console(stderr=True), transient=True):
                pass
    deadline = time.monotonic() + LOG_TIMEOUT_S
    while store.count(release) < expected:  # the log is written behind the answers
        if time.monotonic() > deadline:
            raise PipelineError(f"only {store.count(release)} of {expected} requests are in {store.name}; see its log")
        time.sleep(0.1)
    store.close()


def start_gateway() -> str:
    """The gateway in a process of its own that outlives this one; one that is up is used again."""
    if url := running_gateway():
        return url
    port = 8000 if port_is_free(8000) else free_port()
    log = artifacts.STATE / "logs" / "gateway.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    make_private(log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", "serve", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if url := running_gateway():
            return url
        time.sleep(0.2)
    raise PipelineError(f"the gateway did not start; its log is {log.resolve()}")


def running_gateway() -> str | None:
    """Address of a gateway of this checkout that answers."""
    for gateway in list_gateways():
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{gateway.url}/healthz", timeout=5).status_code == 200:
                return gateway.url
    return None


def port_is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def wait_for_release(url: str, release: str, load: Load) -> None:
    """Wait until the gateway answers with a release, and the client under load has seen it."""
    deadline = time.monotonic() + SWAP_TIMEOUT_S
    while time.monotonic() < deadline:
        if any(release.startswith(seen) or seen.endswith(release[:12]) for seen in load.answered):
            return
        time.sleep(0.25)
    raise PipelineError(f"the gateway did not swap to release {release[:12]} in {SWAP_TIMEOUT_S:.0f} s; see its log")


def first_reason() -> str:
    reason: str = read_json(artifacts.EVALUATION_VERDICT)["reasons"][0]
    return reason


def drift_reason() -> str:
    verdict = read_json(artifacts.DRIFT_VERDICT)
    return f"{verdict['verdict'].replace('_', ' ')}; {verdict['reasons'][0]}"


def accuracy_lines() -> list[str]:
    """Intent accuracy of the old and the new champion, on all held-out items and on those of the new traffic."""
    frame = read_table(artifacts.PREDICTIONS, PREDICTIONS).to_pandas()
    frame["right"] = [
        next((score["value"] for score in scores if score["metric"] == "intent_accuracy"), None)
        for scores in frame["scores"]
    ]
    lines = []
    for name, part in (("all held-out items", frame), ("of the new traffic", frame[frame["source"] == "feedback"])):
        means = part.groupby("model")["right"].mean()
        lines.append(
            f"intent accuracy, {name:<20}{means['champion']:.3f} before, {means['candidate']:.3f} after "
            f"({len(part) // part['model'].nunique()} items)"
        )
    return lines
