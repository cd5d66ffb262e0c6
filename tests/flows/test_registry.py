"""The registry on the real MLflow (SQLite): versions once per release, promotion only on the verdict,
rollback that ends, releases that come back from MLflow unharmed or not at all."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.commands.state.mlflow_store import open_store
from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.releases.registry import Champion, Registry
from flows.wiring.releases.source import freeze_source, open_release
from flows.wiring.runs.releases import read_champion
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file, read_json, write_json
from tasks.deployment.release import seal_release
from tasks.evaluation.decisions.params import HeldOutReuse
from tasks.evaluation.decisions.reuse import HeldOutUse, read_frozen_champion, use_held_out

Make = Callable[..., Path]


@pytest.fixture
def registry(empty_database: Path, tmp_path: Path) -> Registry:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(tracking_uri=uri).create_experiment("heptune", str(tmp_path / "mlartifacts"))
    return Registry("helper", tmp_path / "releases", uri)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Small sealed releases; the text of the weights makes them different."""

    def build(
        weights: str,
        verdict: str = "promote",
        champion: str | None = None,
        merged: bool = True,
        held_out: HeldOutUse | None = None,
    ) -> Path:
        folder = tmp_path / "made" / weights
        (folder / "model").mkdir(parents=True)
        if not merged:
            write_json(folder / "model/tuned/manifest.json", {})
        (folder / "model/weights.txt").write_text(weights)
        decided = tmp_path / "verdict.json"
        values = {"verdict": verdict, "reasons": ["loss is not lower"], "champion": champion}
        write_json(decided, values | ({"held_out": held_out.model_dump()} if held_out else {}))
        facts = {
            "method": "lora",
            "base": {"hub": "org/base"},
            "metrics": {"loss": 0.5},
            "parity": {"parity_prompts": 4},
        }
        seal_release(folder, decided, {"model": "helper", **facts})
        return folder

    return build


def aliases(registry: Registry) -> dict[str, int]:
    found = MlflowClient(tracking_uri=registry.uri).get_registered_model(registry.model).aliases
    return {name: int(version) for name, version in found.items()}


def tags(registry: Registry, version: int) -> dict[str, str]:
    return dict(MlflowClient(tracking_uri=registry.uri).get_model_version(registry.model, str(version)).tags)


def another(registry: Registry) -> Registry:
    """The same registry as a machine sees it that has no release yet."""
    return Registry(registry.model, registry.releases.with_name("elsewhere"), registry.uri)


def test_register_makes_one_version_per_release(registry: Registry, make: Make) -> None:
    folder = make("one")
    first = registry.register(folder, commit="abc123")
    again = registry.register(folder)
    second = registry.register(make("two", verdict="keep"))
    assert (first.version, again, second.version) == (1, first, 2)
    assert aliases(registry) == {"challenger": 2}
    assert tags(registry, 1) == {"release": first.release, "verdict": "promote", "git_commit": "abc123"}
    assert tags(registry, 2)["verdict"] == "keep"
    assert (registry.releases / first.release / "model/weights.txt").read_text() == "one"


def test_register_goes_on_after_being_cut_off(registry: Registry, make: Make) -> None:
    folder = make("one")
    release = read_json(folder / "manifest.json")["release"]
    torn = registry.releases / f".{release}.part" / release
    torn.mkdir(parents=True)
    (torn / "half").write_text("half")
    client = MlflowClient(tracking_uri=registry.uri)
    number = client.get_experiment_by_name("heptune").experiment_id
    tags = {"heptune.release": release, "heptune.kind": "release"}
    begun = client.create_run(number, tags=tags).info.run_id
    assert registry.register(folder).version == 1
    assert [p.name for p in registry.releases.iterdir() if p.is_dir()] == [release]
    assert [run.info.run_id for run in client.search_runs([number])] == [begun]


def test_a_release_hangs_under_the_run_that_made_it_with_its_figures(registry: Registry, make: Make) -> None:
    folder = make("one")
    release = read_json(folder / "manifest.json")["release"]
    client = MlflowClient(tracking_uri=registry.uri)
    number = client.get_experiment_by_name("heptune").experiment_id
    pipeline = client.create_run(number, run_name="by hand, today").info.run_id
    made_by = {"heptune.stage": "deployment", "heptune.release": release, "mlflow.parentRunId": pipeline}
    client.create_run(number, tags=made_by)
    registry.register(folder)
    version = client.get_model_version("helper", "1")
    run = client.get_run(version.run_id)
    assert run.data.tags["mlflow.parentRunId"] == pipeline
    assert run.data.params == {"method": "lora", "base": "org/base"}
    assert run.data.metrics == {"candidate.loss": 0.5, "parity_prompts": 4.0}
    link = f"http://127.0.0.1:4201/releases/{release}"
    assert link in version.description
    assert link in run.data.tags["mlflow.note.content"]
    assert read_json(registry.releases / "versions.json") == {release: {"model": "helper", "version": 1}}


def test_a_version_is_found_by_the_run_that_made_it(registry: Registry, make: Make) -> None:
    first = registry.register(make("a"), commit="c" * 40)
    registry.register(make("b"), commit="none")
    client = registry._client
    run_id = client.get_model_version(registry.model, str(first.version)).run_id
    assert run_id is not None
    assert registry.find_run(run_id[:8]) == first
    pipeline = client.create_run(client.get_run(run_id).info.experiment_id, tags={"heptune.pipeline_run": "f00dcafe-1"})
    client.set_tag(run_id, "mlflow.parentRunId", pipeline.info.run_id)
    assert registry.find_run("f00dcafe") == registry.find_run(pipeline.info.run_id) == first
    assert [registry.read_commit(version) for version in (1, 2)] == ["c" * 40, "none"]
    with pytest.raises(PipelineError, match=r"run 0badcafe: no version of .* was made by it; `heptune list` shows"):
        registry.find_run("0badcafe")


def test_a_changed_release_is_not_registered(registry: Registry, make: Make) -> None:
    folder = make("one")
    (folder / "model/weights.txt").write_text("oNe")
    with pytest.raises(PipelineError, match="changed since it was written"):
        registry.register(folder)


def test_a_verdict_edited_in_the_release_is_not_believed(registry: Registry, make: Make) -> None:
    folder = make("one", verdict="keep")
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "verdict.json", {"verdict": "promote", "reasons": [], "champion": None})
    entry = {
        "sha256": hash_file(folder / "verdict.json"),
        "bytes": (folder / "verdict.json").stat().st_size,
    }
    write_json(folder / "manifest.json", {**manifest, "files": {**manifest["files"], "verdict.json": entry}})
    with pytest.raises(PipelineError, match="tampered"):
        registry.register(folder)


def test_promote_obeys_the_verdict(registry: Registry, make: Make) -> None:
    registry.register(make("one", verdict="keep"))
    with pytest.raises(PipelineError, match=r"version 1 was not proven better .*loss is not lower") as refused:
        registry.promote()
    assert "\n" not in str(refused.value)
    assert registry.champion() is None
    with pytest.raises(PipelineError, match="--reason"):
        registry.promote(force=True)
    assert registry.promote(force=True, reason="legal asked for it").version == 1
    assert tags(registry, 1)["promoted_because"] == "legal asked for it"
    assert tags(registry, 1)["forced"] == "yes"


def test_promote_wants_a_comparison_with_the_present_champion(registry: Registry, make: Make) -> None:
    first = registry.register(make("one"))
    registry.promote()
    registry.register(make("two"))
    with pytest.raises(PipelineError, match="compared with no champion, but the champion is version 1"):
        registry.promote()
    registry.register(make("three", champion="f" * 64))
    with pytest.raises(PipelineError, match="compared with release ffffffffffff"):
        registry.promote()
    third = registry.register(make("four", champion=first.release))
    assert registry.promote() == third == registry.champion()
    assert aliases(registry) == {"champion": 4, "previous": 1}


def test_a_dry_run_changes_nothing_and_refuses_as_the_promotion_would(registry: Registry, make: Make) -> None:
    first = registry.register(make("one"))
    assert registry.promote(dry_run=True) == first
    assert aliases(registry) == {"challenger": 1}
    assert "promoted_because" not in tags(registry, 1)
    registry.register(make("two", "keep"))
    with pytest.raises(PipelineError, match="was not proven better"):
        registry.promote(dry_run=True)
    assert registry.promote(force=True, reason="test", dry_run=True).version == 2
    assert aliases(registry) == {"challenger": 2}


def test_status_reads_what_the_client_says(registry: Registry, make: Make) -> None:
    store = open_store(registry.uri)
    assert store.read_versions(registry.model) == []
    registry.register(make("one"))
    registry.promote()
    second = registry.register(make("two", "keep"))
    found = store.read_versions(registry.model)
    assert [(one.version, one.verdict, one.aliases) for one in found] == [
        (1, "promote", ["champion"]), (2, "keep", ["challenger"])
    ]  # fmt: skip
    assert found[1].release == second.release
    client = MlflowClient(tracking_uri=registry.uri)
    created = [client.get_model_version(registry.model, str(n)).creation_timestamp / 1000 for n in (1, 2)]
    assert [one.registered for one in found] == created
    number = client.get_experiment_by_name("heptune").experiment_id
    above = client.create_run(number, tags={"heptune.reason": "try", "heptune.verdict": "keep"}, run_name="pipeline")
    tags = {"mlflow.parentRunId": above.info.run_id, "heptune.stage": "evaluation"}
    below = client.create_run(number, tags=tags, run_name="evaluation", start_time=1000)
    client.set_terminated(below.info.run_id, end_time=4500)
    (run,) = store.read_runs(5)
    assert (run.run, run.name, run.reason, run.status, run.result) == (
        above.info.run_id, "pipeline", "try", "RUNNING", "keep",
    )  # fmt: skip
    assert run.ended is None
    assert store.read_seconds() == {"evaluation": 3.5}


def test_promote_can_be_repeated(registry: Registry, make: Make) -> None:
    with pytest.raises(PipelineError, match="no challenger to promote"):
        registry.promote()
    folder = make("one")
    first = registry.register(folder)
    assert [registry.promote(), registry.promote(), registry.promote(1)] == [first] * 3
    assert registry.register(folder) == first
    assert aliases(registry) == {"champion": 1}
    with pytest.raises(PipelineError, match=r"no version 7; expected one of \[1\]"):
        registry.promote(7)


def test_rollback_goes_further_back_and_ends(registry: Registry, make: Make) -> None:
    with pytest.raises(PipelineError, match="no champion to roll back"):
        registry.rollback()
    for name in ("one", "two", "three"):
        registry.register(make(name))
        registry.promote(force=True, reason="test")
    assert read_champion(registry.releases).version == 3  # type: ignore[union-attr]
    assert registry.rollback("answers in French").version == 2
    assert read_champion(registry.releases).version == 2  # type: ignore[union-attr]
    assert tags(registry, 3)["rolled_back_because"] == "answers in French"
    assert aliases(registry) == {"champion": 2, "previous": 1}
    assert registry.promote().version == 2, "what was rolled back does not come back by itself"
    assert registry.rollback().version == 1
    assert aliases(registry) == {"champion": 1}
    with pytest.raises(PipelineError, match="version 1 is the first champion"):
        registry.rollback()
    assert aliases(registry) == {"champion": 1}


def test_any_order_of_promotions_and_rollbacks_is_a_stack(registry: Registry, make: Make) -> None:
    for number in range(4):
        registry.register(make(f"w{number}"))
    rng, stack = random.Random(5), list[int]()
    for _ in range(25):
        if rng.random() < 0.6:
            version = rng.randint(1, 4)
            registry.promote(version, force=True, reason="walk")
            stack += [version] if stack[-1:] != [version] else []
        elif len(stack) > 1:
            registry.rollback()
            stack.pop()
        else:
            with pytest.raises(PipelineError):
                registry.rollback()
        present = registry.champion()
        assert (present.version if present else None) == (stack[-1] if stack else None)
        assert aliases(registry).get("previous") == (stack[-2] if len(stack) > 1 else None)


def test_the_alias_is_the_truth_where_the_history_disagrees(registry: Registry, make: Make) -> None:
    """A process killed inside promote or rollback, and a hand that moved the alias."""
    for name in ("one", "two", "three"):
        registry.register(make(name))
        registry.promote(force=True, reason="test")
    client = MlflowClient(tracking_uri=registry.uri)
    client.set_registered_model_tag("helper", "champions", json.dumps([1, 2]))  # a rollback, cut off
    assert registry.rollback().version == 2
    client.set_registered_model_tag("helper", "champions", json.dumps([1, 2, 3]))  # a promotion, cut off
    assert registry.promote(3, force=True, reason="again").version == 3
    assert registry.rollback().version == 2
    client.set_registered_model_alias("helper", "champion", "1")
    with pytest.raises(PipelineError, match="version 1 is the first champion"):
        registry.rollback()


def test_concurrent_promotions_leave_one_history(registry: Registry, make: Make) -> None:
    for number in range(4):
        registry.register(make(f"w{number}"))

    def promote(version: int) -> Champion:
        return Registry("helper", registry.releases, registry.uri).promote(version, force=True, reason="race")

    with ThreadPoolExecutor(4) as pool:
        assert sorted(c.version for c in pool.map(promote, [1, 2, 3, 4])) == [1, 2, 3, 4]
    history = json.loads(MlflowClient(tracking_uri=registry.uri).get_registered_model("helper").tags["champions"])
    assert sorted(history) == [1, 2, 3, 4]
    assert aliases(registry)["champion"] == history[-1]
    assert aliases(registry)["previous"] == history[-2]


def test_a_release_comes_back_from_mlflow(registry: Registry, make: Make) -> None:
    release = registry.register(make("one")).release
    registry.promote()
    elsewhere = another(registry)
    assert elsewhere.resolve_champion() == (release, elsewhere.releases / release)
    assert (elsewhere.releases / release / "model/weights.txt").read_text() == "one"
    assert [p.name for p in elsewhere.releases.iterdir() if p.is_dir()] == [release]
    with pytest.raises(PipelineError, match="register it on the machine that made it"):
        elsewhere.fetch_release("0" * 64)


def test_a_tampered_release_is_refused(registry: Registry, make: Make, tmp_path: Path) -> None:
    release = registry.register(make("one")).release
    registry.promote()
    (stored,) = (tmp_path / "mlartifacts").rglob("weights.txt")
    stored.write_text("bad")
    with pytest.raises(PipelineError, match="changed since it was written"):
        another(registry).fetch_release(release)
    assert not (another(registry).releases / release).exists()
    (registry.releases / release / "model/extra.py").write_text("import os")
    with pytest.raises(PipelineError, match="not in the manifest"):
        Registry("helper", registry.releases, registry.uri).resolve_champion()


def test_another_release_under_the_name_is_refused(registry: Registry, make: Make) -> None:
    first, second = registry.register(make("one")), registry.register(make("two"))
    shutil.rmtree(registry.releases / first.release)
    shutil.copytree(registry.releases / second.release, registry.releases / first.release)
    with pytest.raises(PipelineError, match=f"is release {second.release[:12]}"):
        registry.fetch_release(first.release)


def test_a_poll_sees_the_alias_move(registry: Registry, make: Make) -> None:
    assert registry.resolve_champion() is None
    gateway = Registry("helper", registry.releases, registry.uri)
    seen = []
    for name in ("one", "two"):
        registry.register(make(name))
        registry.promote(force=True, reason="test")
        seen.append(gateway.resolve_champion())
    registry.rollback()
    seen.append(gateway.resolve_champion())
    assert [folder.joinpath("model/weights.txt").read_text() for _, folder in filter(None, seen)] == [
        "one",
        "two",
        "one",
    ]


def test_the_champion_is_frozen_into_a_file(registry: Registry, make: Make, tmp_path: Path) -> None:
    path = tmp_path / "champion.json"
    registry.freeze_champion(path)
    assert read_json(path) == {"release": None, "version": None}
    first = registry.register(make("one"))
    registry.promote()
    registry.freeze_champion(path)
    assert read_json(path) == {"release": first.release, "version": 1}


def test_decisions_on_the_held_out_items_are_frozen_and_a_promotion_knows_of_all(
    registry: Registry, make: Make, tmp_path: Path
) -> None:
    """A retrain freezes what earlier ones decided; a candidate judged without knowing of another is not promoted."""
    path = tmp_path / "champion.json"
    ids = [f"item{place}" for place in range(100)]

    def judge(name: str) -> Path:
        frozen = read_frozen_champion(path)
        use = use_held_out(ids, name, frozen.decisions, HeldOutReuse(), 0.95)
        return make(name, champion=frozen.release, held_out=use)

    registry.freeze_champion(path)
    registry.register(judge("one"))
    registry.promote()
    registry.freeze_champion(path)
    assert [one.candidate for one in read_frozen_champion(path).decisions] == ["one"]
    # Two candidates are made from what was frozen, and each takes itself for the second decision.
    second, third = judge("two"), judge("three")
    assert read_json(third / "verdict.json")["held_out"]["decision"] == 2
    registry.register(second)
    version = registry.register(third).version
    with pytest.raises(PipelineError, match=r"judged as decision 2 on its held-out items, but 2 were made before .*"):
        registry.promote(version)
    # The one that was the second in truth may be; made again from the same files, it is the same.
    assert registry.promote(version - 1).version == version - 1
    before = read_json(second / "verdict.json")
    registry.freeze_champion(path)
    assert [one.candidate for one in read_frozen_champion(path).decisions] == ["one", "two", "three"]
    again = use_held_out(ids, "two", read_frozen_champion(path).decisions, HeldOutReuse(), 0.95)
    assert again.model_dump() == before["held_out"]


def test_what_training_starts_from_is_frozen_until_a_retrain(
    registry: Registry, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Params.model_validate({"model_initialisation": {"source": {"name": "registry", "alias": "champion"}}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.wiring.releases.source.read_params", lambda: params)
    monkeypatch.setattr("flows.wiring.releases.registry.open_registry", lambda: registry)
    with pytest.raises(PipelineError, match="no version with the alias champion; train the first release"):
        freeze_source()
    first, second = (registry.register(make(weights)) for weights in ("one", "two"))
    registry.promote(first.version)
    freeze_source()
    assert read_json(artifacts.SOURCE) == {"alias champion": {"release": first.release, "version": 1}}
    registry.promote(second.version, force=True, reason="better")
    freeze_source()
    assert open_release("alias champion") == registry.releases / first.release / "model"
    freeze_source(anew=True)
    assert open_release("alias champion") == registry.releases / second.release / "model"
    with pytest.raises(PipelineError, match=r"says nothing of version 1, which .*`heptune run`"):
        open_release("version 1")
    third = registry.register(make("three", merged=False))
    registry.promote(third.version, force=True, reason="better still")
    freeze_source(anew=True)
    with pytest.raises(PipelineError, match=r"alias champion: release \w{12} is a base with what was trained"):
        open_release("alias champion")
    assert registry.find_version(version=1) == first
    with pytest.raises(PipelineError, match=r"no version 9; expected one of \[1, 2, 3\]"):
        registry.find_version(version=9)


def test_a_server_that_is_gone_is_one_line(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = Registry("helper", tmp_path / "releases", "http://127.0.0.1:9")
    for call in (lambda: gone.register(make("one")), gone.promote, gone.rollback, gone.champion):
        with pytest.raises(PipelineError, match="check MLFLOW_TRACKING_URI") as refused:
            call()
        assert "\n" not in str(refused.value)
