"""A release's hash follows from its contents and covers the verdict; the card and the page tell what the
files say, the same each time; the baseline holds the candidate's answers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from flows.wiring.params import validate
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_folder, read_json, write_json
from tasks.contracts.records import REQUESTS
from tasks.contracts.tables import read_table
from tasks.deployment.baseline import write_baseline
from tasks.deployment.card import as_table, evaluation_rows, write_card
from tasks.deployment.exports.export import ExportCan
from tasks.deployment.exports.safetensors import Safetensors
from tasks.deployment.merge import Exported
from tasks.deployment.parity import Difference, ParityProof
from tasks.deployment.provenance import Provenance, describe_release, name_base, read_provenance
from tasks.deployment.release import FOLDS, empty_release, keep_fold_answers, read_release, seal_release
from tasks.deployment.report import write_report
from tasks.evaluation.held_out.joined import KEPT
from tasks.model_initialisation.sources.folder import Folder
from tasks.model_initialisation.sources.gguf import Gguf
from tasks.model_initialisation.sources.hub import Hub
from tasks.training.methods.full import Full
from tasks.training.methods.lora import Lora
from tasks.training.plan import load_plan
from tests.tasks.deployment.conftest import ROWS, World, write_plan

PROOF = ParityProof(
    prompts=4,
    left_out=1,
    max_new_tokens=12,
    answer_tokens=40,
    minimum_match=0.5,
    prompts_merged=4,
    prompts_served=4,
    answers_merged=3,
    answers_served=4,
    answers_all=3,
    max_logit_difference=2e-6,
    logit_differences=[1e-6, 2e-6, 0.0, 1e-6],
    differences=[Difference("i1", 3, "a <b>", "a", "a <b>")],
)


def build(world: World, root: Path) -> dict[str, object]:
    """All of the stage but the model, which stands in as the base's folder."""
    provenance = read_provenance(
        world.prepared / "manifest.json", world.initial, world.plan, world.tuned, world.verdict
    )
    release = empty_release(root / "release")
    shutil.copytree(world.initial, release / "model")
    exported = Exported(release / "model", 222, 333)
    write_json(release / "parity.json", {"passed": True})
    write_baseline(world.predictions, exported.folder, "helper", release / "baseline.parquet")
    write_card(provenance, PROOF, "helper", ["en"], release)
    facts = describe_release(provenance, exported, PROOF, "helper", "safetensors")
    manifest = seal_release(release, world.verdict, facts)
    write_report(manifest, provenance, exported, PROOF, root / "index.html", root / "metrics.json")
    return manifest


@pytest.fixture(scope="module")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built")
    build(world, root)
    return root


def test_the_same_inputs_give_the_same_release(world: World, built: Path, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release/leftover.bin").write_bytes(b"of an earlier run")
    build(world, tmp_path)
    assert hash_folder(tmp_path) == hash_folder(built)
    assert str(tmp_path) not in (tmp_path / "index.html").read_text()


def test_the_hash_covers_every_file_and_the_verdict(world: World, built: Path, tmp_path: Path) -> None:
    manifest = read_release(built / "release")
    assert len(manifest["release"]) == 64
    assert set(manifest["files"]) >= {
        "README.md",
        "parity.json",
        "verdict.json",
        "baseline.parquet",
        "model/config.json",
    }
    assert manifest["verdict"] == "promote"
    assert manifest["metrics"] == {"rouge_l": 0.9}
    assert manifest["weights"] == hash_folder(built / "release/model")
    copy = tmp_path / "release"
    shutil.copytree(built / "release", copy)
    kept = tmp_path / "verdict.json"
    write_json(kept, {**read_json(world.verdict), "verdict": "keep"})
    facts = {key: manifest[key] for key in manifest if key not in ("files", "version", "release", "verdict")}
    assert seal_release(copy, world.verdict, facts)["release"] == manifest["release"]
    resealed = seal_release(copy, kept, facts)
    assert resealed["verdict"] == "keep"
    assert resealed["release"] != manifest["release"]


def test_a_release_that_was_changed_is_refused(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "release"
    shutil.copytree(built / "release", copy)
    (copy / "model/extra.json").write_text("{}")
    with pytest.raises(PipelineError, match=r"1 files are not in the manifest \(model/extra.json\)"):
        read_release(copy)
    (copy / "model/extra.json").unlink()
    write_json(copy / "manifest.json", {**read_json(copy / "manifest.json"), "release": "0" * 64})
    with pytest.raises(PipelineError, match="was tampered with"):
        read_release(copy)


def test_the_card_says_what_the_files_say(built: Path) -> None:
    card = ModelCard.load(built / "release/README.md")
    data = card.data
    assert (data.license, data.language, data.library_name) == ("apache-2.0", ["en"], "transformers")
    assert data.pipeline_tag == "text-generation"
    assert "lora" in data.tags
    assert data.base_model == "models/base"
    assert [(r.metric_type, r.metric_value) for r in data.eval_results] == [("rouge_l", 0.9)]
    text = card.text
    assert "| ROUGE-L | better | 0.900 | 0.250 | 0.650 | 0.600 to 0.700 | 0.0500 |" in text
    assert "98.0% of the reference answers. Answers unlike" in text
    assert "count as wrong (base 7, candidate 1)" in text
    assert f"| train | 300 |\n| test | {ROWS} |\n\n" in text
    assert "LoRA (rank 4, alpha 8; down_proj, q_proj, v_proj)" in text
    assert "ab" * 32 in text
    assert r"| a\|b | jsonl | data/raw/a.jsonl | messages | 400 | 1 |" in text
    assert 'pipeline("text-generation", "path/to/model")' in text
    assert read_release(built / "release")["merged"] is True
    assert "| training loss of the last logged steps, nats per token | 1.5 |" in text
    assert "all prompts and 3 answers are identical token for token" in text
    assert "**promote**" in text
    assert "## Safety and benchmarks\n\nNot measured.\n\n## Data" in text


def test_the_card_has_intervals_slices_and_what_else_was_measured(world: World, tmp_path: Path) -> None:
    """Read back by huggingface_hub, whose own checks of the front matter it passes."""
    files = (world.prepared / "manifest.json", world.initial, world.plan, world.tuned, world.verdict)
    assert read_provenance(*files, tmp_path / "nothing.json").report == {}
    one = {"by": "label", "group": "a|b", "items": 40, "scores": {"candidate": 0.8}, "candidate_low": 0.7}
    one |= {"candidate_high": 0.9, "difference": 0.1, "too_small": False}
    report = {
        "confidence": 0.95,
        "titles": {"rouge_l": "ROUGE-L", "loss": "Loss"},
        "scores": {
            "base": {name: {"value": 0.25, "low": 0.2, "high": 0.3, "items": 60} for name in ("rouge_l", "loss")},
            "candidate": {
                "rouge_l": {"value": 0.9, "low": 0.85, "high": 0.94, "items": 60},
                "loss": {"value": 0.5, "low": None, "high": None, "items": 60},
            },
        },
        "slices": [one, {**one, "group": "tiny", "too_small": True}],
        "blocks": [{"title": "Safety", "summary": "It refuses 9 of 10 harmful requests."}],
    }
    write_json(tmp_path / "report.json", report)
    write_card(read_provenance(*files, tmp_path / "report.json"), PROOF, "helper", ["en"], tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    (result,) = card.data.eval_results
    assert result.metric_args == {"confidence": 0.95, "low": 0.85, "high": 0.94, "items": 60}
    assert (result.metric_name, result.dataset_split) == ("ROUGE-L", "test")
    assert "| ROUGE-L | 0.900 (0.850 to 0.940) | 0.250 (0.200 to 0.300) | 60 |" in card.text
    assert "| Loss | 0.500 (– to –) |" in card.text
    assert r"| label: a\|b | 0.800 | 0.700 to 0.900 | 0.100 | 40 |" in card.text
    assert "tiny" not in card.text
    assert "**Safety.** It refuses 9 of 10 harmful requests." in card.text
    assert "Not measured." not in card.text


def test_the_card_warns_of_a_model_that_was_not_proven_better(world: World, tmp_path: Path) -> None:
    verdict, plan = tmp_path / "verdict.json", tmp_path / "plan"
    write_json(verdict, {**read_json(world.verdict), "verdict": "keep"})
    write_plan(plan, Full())
    provenance = read_provenance(world.prepared / "manifest.json", world.initial, plan, world.full, verdict)
    provenance.initial["licence"] = "see LICENSE.txt"
    provenance.initial["source"] = {"hub": "someone/model", "revision": "abc"}
    provenance = replace(provenance, base=name_base(provenance.initial["source"], world.initial))
    write_card(provenance, PROOF, "helper", ["en"], tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert "it should not replace the model in use" in card.text
    assert "someone/model@abc" in card.text
    assert (card.data.license, card.data.base_model) == ("other", "someone/model")
    assert card.data.to_dict()["license_name"] == "see LICENSE.txt"
    assert "| method | full fine-tuning |" in card.text
    write_card(
        replace(provenance, verdict={**provenance.verdict, "verdict": "undecided"}), PROOF, "helper", ["en"], tmp_path
    )
    assert "is **undecided**: it may be better" in ModelCard.load(tmp_path / "README.md").text
    write_json(verdict, {"verdict": "perhaps"})
    with pytest.raises(PipelineError, match="'perhaps'; expected promote, keep or undecided"):
        read_provenance(world.prepared / "manifest.json", world.initial, plan, world.full, verdict)


@pytest.mark.parametrize(
    ("config", "card", "base"),
    [
        ({}, "---\nlicense: mit\n---\n# Heptune base\n", "Heptune base"),
        ({"_name_or_path": "someone/model"}, "# Another", "someone/model"),
        ({"_name_or_path": "/home/me/model"}, "", "models/mine"),
        ({"_name_or_path": ""}, "no heading", "models/mine"),
    ],
)
def test_the_base_of_a_folder_is_named_by_its_own_files(
    config: dict[str, str], card: str, base: str, tmp_path: Path
) -> None:
    write_json(tmp_path / "config.json", config)
    (tmp_path / "README.md").write_text(card)
    assert name_base({"folder": "models/mine"}, tmp_path) == base


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize(
    ("ends", "result"),
    [((0.1, 0.2), "better"), ((-0.2, -0.1), "worse"), ((-0.1, 0.1), "undecided"), ((0, 0), "undecided")],
)
def test_the_card_says_which_model_is_better(ends: tuple[float, float], result: str, higher_is_better: bool) -> None:
    low, high = ends if higher_is_better else (-ends[1], -ends[0])
    one = {"mean_a": 1, "mean_b": 1, "difference": 0, "low": low, "high": high, "detectable": 0.1,
           "higher_is_better": higher_is_better}  # fmt: skip
    columns, rows = evaluation_rows({"opponent": "base", "comparisons": {"candidate_vs_base": {"loss": one}}})
    assert rows[0][columns.index("result")] == result


def test_the_baseline_holds_the_candidates_answers(built: Path, world: World) -> None:
    rows = read_table(built / "release/baseline.parquet", REQUESTS).to_pylist()
    assert len(rows) == ROWS
    assert all(row["answer"].startswith("candidate answers") for row in rows)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert {(row["received_at"], row["latency_ms"], row["status"], row["model"]) for row in rows} == {
        (0.0, 0.0, 200, "helper")
    }
    assert all(row["prompt_tokens"] > 5 and row["completion_tokens"] > 1 and row["label"] for row in rows)
    assert all(turn["role"] == "user" for row in rows for turn in row["messages"])


def test_a_baseline_without_the_candidate_is_refused(world: World, tmp_path: Path) -> None:
    import pyarrow.compute as pc

    from tasks.contracts.records import PREDICTIONS
    from tasks.contracts.tables import write_table

    table = read_table(world.predictions, PREDICTIONS)
    write_table(table.filter(pc.equal(table["model"], "base")), tmp_path / "p.parquet", PREDICTIONS)
    with pytest.raises(PipelineError, match='no answers of "candidate"'):
        write_baseline(tmp_path / "p.parquet", world.initial, "helper", tmp_path / "baseline.parquet")


def test_the_page_and_the_figures(built: Path) -> None:
    figures = read_json(built / "metrics.json")
    assert figures["parity_prompts"] == 4
    assert figures["parity_answers_identical"] == 3
    assert (figures["promote"], figures["parameters"], figures["model_bytes"]) == (1, 222, 333)
    page = (built / "index.html").read_text()
    assert read_json(built / "release/manifest.json")["release"] in page
    assert "3 of 4" in page
    assert "a &lt;b&gt;" in page
    assert "<svg" in page


def test_a_table_keeps_its_columns() -> None:
    assert as_table(["a", "b"], [[1, "x|y\nz"]]) == "| a | b |\n|---:|---|\n| 1 | x\\|y z |"
    assert as_table(["a"], []) == "None."


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        (Folder(path=Path("models/base")), "models/base"),
        (Gguf(path=Path("models/tiny.gguf")), "models/tiny.gguf"),
        (Gguf(package="carrier"), "package carrier"),
        (Hub(id="house/tiny", revision="0" * 40), f"house/tiny@{'0' * 40}"),
    ],
)
def test_every_source_of_a_base_has_a_name_on_the_card(world: World, source: Any, origin: str) -> None:
    provenance = Provenance({}, {"source": source.origin(world.root)}, load_plan(world.plan), {}, {}, "")
    assert provenance.origin == origin


def test_a_release_that_is_not_merged_says_so(
    world: World, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lora, "can", replace(Lora.can, merging=False))
    build(world, tmp_path)
    assert read_release(tmp_path / "release")["merged"] is False
    card = ModelCard.load(tmp_path / "release/README.md")
    assert card.data.library_name == "heptune"
    assert "`model/base` alone answers as the base does" in card.text
    assert 'load_released(Path("path/to/model"))' in card.text
    told = "weights, so the release holds the base and beside it what was trained"
    assert told in (tmp_path / "index.html").read_text()
    assert told not in (built / "index.html").read_text()


def test_an_export_that_cannot_hold_what_is_trained_is_refused_by_params(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is trained, with the export and the methods that would do."""
    monkeypatch.setattr(Lora, "can", replace(Lora.can, merging=False))
    values = {"training_setup": {"method": {"name": "lora"}}}
    validate(values, "params.yaml")
    monkeypatch.setattr(Safetensors, "can", ExportCan(beside=False))
    with pytest.raises(PipelineError, match=r"release.export: safetensors holds plain weights.* lora .* method full"):
        validate(values, "params.yaml")
    validate({"training_setup": {"method": {"name": "full"}}}, "params.yaml")
    validate({"training_setup": {"method": {"name": "auto"}}}, "params.yaml")


def test_a_release_keeps_the_answers_of_its_folds_where_there_are_any(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.string())])
    for rows in (0, 2):
        release = empty_release(tmp_path / f"release of {rows}")
        answers = tmp_path / "folds.parquet"
        pq.write_table(pa.table({"id": ["a", "b"][:rows]}, schema=schema), answers)
        assert keep_fold_answers(answers, release) == {"rows": rows}
        assert (release / FOLDS).is_file() == bool(rows)
    assert (release / FOLDS).read_bytes() == answers.read_bytes()
    assert FOLDS == KEPT, "where evaluation looks for those of a champion"
