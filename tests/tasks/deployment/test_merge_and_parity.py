"""Merging keeps the function that was trained, and the parity proof notices when it does not: a weight
moved, a tokenizer changed, an engine that answers otherwise, a rounded export."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_folder, read_json, read_manifest, seal
from tasks.contracts.tables import read_examples
from tasks.deployment.exports.safetensors import Safetensors
from tasks.deployment.merge import export_model
from tasks.deployment.parity import ParityProof, choose_prompts, prove_parity
from tasks.evaluation.items import Item
from tasks.evaluation.outcomes import AnswerSettings, answer_with_candidate, answer_with_champion
from tasks.fine_tuning.train import fine_tune
from tasks.gateway.answering import answer_all
from tasks.gateway.engines.transformers import Transformers
from tasks.language_models.encoding import encode_prompt
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.generation import generate_answers
from tasks.training.methods.lora import Lora
from tasks.training.quantization.nf4 import Nf4
from tasks.training.released import load_released
from tasks.training.tuned import load_tuned, merge_tuned
from tests.tasks.deployment.conftest import World
from tests.tasks.fine_tuning.small import make_plan, make_splits

Turns = list[dict[str, str]]
Prove = Callable[..., ParityProof]


@pytest.fixture(scope="module")
def exported(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter merged in fp32; copy it before changing it."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(world.initial, world.tuned, Safetensors(), folder)
    return folder


@pytest.fixture
def changed(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def prove(world: World, tmp_path: Path) -> Prove:
    def run(
        folder: Path, serve: Callable[..., list[tuple[list[int], list[int]]]] = served, **options: float
    ) -> ParityProof:
        settings = {"prompts": 6, "max_new_tokens": 12, "minimum_match": 1.0, **options}
        return prove_parity(
            world.initial, world.tuned, folder, world.test, serve, proof=tmp_path / "parity.json", **settings
        )  # type: ignore[arg-type]

    return run


def served(folder: Path, conversations: list[Turns], max_new_tokens: int) -> list[tuple[list[int], list[int]]]:
    """A stand-in for an engine, over the shared decoder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = generate_answers(model, tokenizer, conversations, max_new_tokens)
    return [(encode_prompt(tokenizer, c), list(a.tokens)) for c, a in zip(conversations, answers, strict=True)]


def perturb(folder: Path, amount: float) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(9)
    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] += amount * torch.randn_like(weights[name])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_the_merged_folder_is_complete(world: World, exported: Path) -> None:
    names = {p.name for p in exported.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert names >= {"tokenizer_config.json", "chat_template.jinja"}
    assert (exported / "chat_template.jinja").read_text() == (world.initial / "chat_template.jinja").read_text()
    assert (exported / "tokenizer.json").read_bytes() == (world.initial / "tokenizer.json").read_bytes()
    assert {w.dtype for w in load_file(exported / "model.safetensors").values()} == {torch.float32}


def test_the_merged_weight_is_base_plus_scaled_update(world: World, exported: Path) -> None:
    """W + alpha / rank x B A, computed apart from PEFT; alpha / rank is 2."""
    name = "model.layers.0.mlp.down_proj"
    adapter = load_file(world.tuned / "adapter/adapter_model.safetensors")
    a = adapter[f"base_model.model.{name}.lora_A.weight"]
    b = adapter[f"base_model.model.{name}.lora_B.weight"]
    expected = load_file(world.initial / "model.safetensors")[f"{name}.weight"] + 2.0 * (b @ a)
    merged = load_file(exported / "model.safetensors")[f"{name}.weight"]
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=1e-6)


def test_the_export_is_the_same_bytes_anywhere(world: World, exported: Path, tmp_path: Path) -> None:
    again = export_model(world.initial, world.tuned, Safetensors(), tmp_path / "elsewhere")
    assert hash_folder(again.folder) == hash_folder(exported)
    assert str(world.root) not in "".join(p.read_text() for p in again.folder.glob("*.json"))


def test_full_weights_go_as_they_are(world: World, tmp_path: Path) -> None:
    export_model(world.initial, world.full, Safetensors(), tmp_path / "model")
    trained = load_file(world.full / "weights/model.safetensors")
    written = load_file(tmp_path / "model/model.safetensors")
    assert trained.keys() == written.keys()
    assert all(torch.equal(trained[name], written[name]) for name in trained)


def test_trained_merged_and_served_are_the_same(world: World, exported: Path, prove: Prove, tmp_path: Path) -> None:
    """With the gateway's own engine, and against answers that are not those of the base."""
    proof = prove(exported, answer_all)
    assert (proof.prompts, proof.answers_merged, proof.answers_served, proof.answers_all) == (6, 6, 6, 6)
    assert (proof.prompts_merged, proof.prompts_served) == (6, 6)
    assert 0 < proof.max_logit_difference < 1e-4
    assert proof.answer_tokens > 0
    written = read_json(tmp_path / "parity.json")
    assert written["passed"] is True
    assert written["differences"] == []
    with pytest.raises(PipelineError, match="answered identically by the export"):
        prove(world.initial)


def test_a_moved_weight_fails_the_proof(changed: Path, prove: Prove, tmp_path: Path) -> None:
    perturb(changed, 0.3)
    with pytest.raises(PipelineError, match=r"expected all prompts and 100% of the answers") as failed:
        prove(changed)
    assert "\n" not in str(failed.value)
    written = read_json(tmp_path / "parity.json")
    assert written["passed"] is False
    assert written["max_logit_difference"] > 0.01
    first = written["differences"][0]
    assert first["trained"] != first["merged"] == first["served"]


def test_a_small_damage_shows_in_the_logits(exported: Path, changed: Path, prove: Prove) -> None:
    perturb(changed, 1e-3)
    assert prove(changed, minimum_match=0.0).max_logit_difference > 10 * prove(exported).max_logit_difference


def test_another_chat_template_fails_whatever_is_allowed(changed: Path, prove: Prove) -> None:
    template = changed / "chat_template.jinja"
    template.write_text("Note. " + template.read_text())
    with pytest.raises(PipelineError, match="of 6 prompts 0 are rendered"):
        prove(changed, minimum_match=0.0)


def test_an_engine_that_answers_otherwise_fails(exported: Path, prove: Prove, tmp_path: Path) -> None:
    def forgetful(*arguments: object) -> list[tuple[list[int], list[int]]]:
        answers = served(*arguments)  # type: ignore[arg-type]
        prompt, answer = answers[2]
        return [*answers[:2], (prompt, answer[:-1]), *answers[3:]]

    with pytest.raises(PipelineError, match="6 answered identically by the export and 5 by the gateway"):
        prove(exported, forgetful)
    (difference,) = read_json(tmp_path / "parity.json")["differences"]
    assert difference["token"] == 11
    assert prove(exported, forgetful, minimum_match=5 / 6).answers_all == 5
    with pytest.raises(PipelineError, match="6 prompts went in, 5 served answers came back"):
        prove(exported, lambda *arguments: served(*arguments)[1:])


def test_a_bf16_export_says_how_much_it_rounds(world: World, prove: Prove, tmp_path: Path) -> None:
    folder = tmp_path / "bf16"
    export_model(world.initial, world.tuned, Safetensors(dtype="bf16"), folder)
    assert {w.dtype for w in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    proof = prove(folder, minimum_match=0.0)
    assert proof.prompts_merged == proof.prompts
    assert proof.max_logit_difference > 1e-3
    assert proof.passed
    assert replace(proof, minimum_match=(proof.answers_all + 1) / proof.prompts).passed is False


def test_what_was_trained_over_4_bits_is_released_like_any_other(world: World, tmp_path: Path) -> None:
    """Evaluated, merged, exported and served over the base in full precision."""
    plan = make_plan(quantization=Nf4(weights="bf16"), precision="bf16", steps=8, evaluate_every_steps=8)
    tuned, folder, proof = tmp_path / "tuned", tmp_path / "model", tmp_path / "parity.json"
    fine_tune(plan, make_splits(world.initial), world.initial, tmp_path / "checkpoints", tuned)
    export_model(world.initial, tuned, Safetensors(), folder)
    found = prove_parity(world.initial, tuned, folder, world.test, answer_all, 6, 12, 1.0, proof)
    assert (found.prompts, found.answers_all) == (6, 6)
    assert 0 < found.max_logit_difference < 1e-4
    base, merged = load_file(world.initial / "model.safetensors"), load_file(folder / "model.safetensors")
    kept = "model.layers.0.self_attn.k_proj.weight"  # no target of the adapter: quantised weights would be rounded
    assert torch.equal(base[kept], merged[kept])


def test_nothing_to_compare_is_no_proof(world: World, prove: Prove, exported: Path) -> None:
    with pytest.raises(PipelineError, match="40 leave no room for 250 tokens in a context of 256"):
        prove(exported, max_new_tokens=250)


def test_prompts_are_distinct_and_do_not_depend_on_row_order(world: World, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    _, tokenizer = load_tuned(world.initial, world.tuned)
    table = pq.read_table(world.test)
    doubled = tmp_path / "test.parquet"
    pq.write_table(table.take([*reversed(range(table.num_rows)), 0, 1, 2]), doubled)
    chosen = choose_prompts(world.test, tokenizer, 256, 10, 12)
    again = choose_prompts(doubled, tokenizer, 256, 10, 12)
    assert chosen == again
    assert len({str(c) for c in chosen.conversations}) == 10
    assert chosen.names == sorted(chosen.names)


def test_what_does_not_merge_is_released_beside_its_base(
    world: World, prove: Prove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release opens through the method: in the proof, in the gateway's engine, and as evaluation's champion."""
    monkeypatch.setattr(Lora, "can", replace(Lora.can, merging=False))
    with pytest.raises(PipelineError, match=r"LoRA \(rank 4, .*\) cannot be merged; train with method full or"):
        merge_tuned(world.initial, world.tuned)
    folder = tmp_path / "model"
    exported = export_model(world.initial, world.tuned, Safetensors(), folder)
    assert {path.name for path in folder.iterdir()} == {"base", "tuned"}
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (folder / "base" / name).read_bytes() == (world.initial / name).read_bytes()
    (adapter,) = folder.rglob("adapter_model.safetensors")
    assert adapter.read_bytes() == (world.tuned / "adapter/adapter_model.safetensors").read_bytes()
    own = sum(weights.numel() for weights in load_file(adapter).values())
    assert exported.parameters == own + sum(p.numel() for p in load_model(folder / "base").parameters())
    proof = prove(folder, answer_all)
    assert (proof.answers_merged, proof.answers_served, proof.max_logit_difference) == (6, 6, 0)
    rows = read_examples(world.test).to_pylist()[:3]
    items = [Item(row["id"], "tiny", None, "", tuple(row["messages"][:-1]), "of course") for row in rows]
    candidate = answer_with_candidate(items, world.initial, world.tuned, AnswerSettings(12, 3, device="cpu"))
    champion = answer_with_champion(items, folder, AnswerSettings(12, 3, device="cpu"))
    assert champion is not None
    assert (champion.answers, champion.losses.tolist()) == (candidate.answers, candidate.losses.tolist())
    again = export_model(world.initial, world.tuned, Safetensors(), tmp_path / "elsewhere")
    assert hash_folder(again.folder) == hash_folder(folder)
    export_model(world.initial, world.tuned, Safetensors(dtype="bf16"), tmp_path / "bf16")
    assert {w.dtype for w in load_file(tmp_path / "bf16/base/model.safetensors").values()} == {torch.bfloat16}
    assert prove(tmp_path / "bf16", answer_all, minimum_match=0.0).max_logit_difference > 1e-4


def test_a_release_with_another_base_or_without_its_training_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lora, "can", replace(Lora.can, merging=False))
    folder = tmp_path / "model"
    export_model(world.initial, world.tuned, Safetensors(), folder)
    perturb(folder / "base", 0.1)
    with pytest.raises(PipelineError, match="was trained on another base than"):
        load_released(folder)
    with pytest.raises(PipelineError, match="was trained on another base than"):
        Transformers().load(folder, lambda rows: None)
    shutil.rmtree(folder / "tuned")
    with pytest.raises(PipelineError, match=r"no config.json; expected a transformers model folder"):
        Transformers().load(folder, lambda rows: None)


def test_an_adapter_with_broken_weights_is_not_merged(world: World, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(world.tuned, tuned)
    weights = load_file(tuned / "adapter/adapter_model.safetensors")
    weights["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"][0, 0] = torch.nan
    save_file(weights, tuned / "adapter/adapter_model.safetensors", metadata={"format": "pt"})
    manifest = read_manifest(world.tuned)
    facts = {key: manifest[key] for key in ("base", "method")}
    seal(tuned, (tuned / name for name in manifest["files"]), facts)
    with pytest.raises(PipelineError, match=r"the adapter cannot be merged \(NaNs detected.*; train again"):
        export_model(world.initial, tuned, Safetensors(), tmp_path / "model")
