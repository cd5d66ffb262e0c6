"""Adapters are combined as they say, held against every task, and refused where they do not go together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from tasks.adapters.combine import combine_adapters
from tasks.adapters.combining import COMBINATIONS, OF_ANY_RANKS, WITH_DENSITY, Mixer
from tasks.adapters.page import write_interference
from tasks.adapters.store import cut_stored, keep_adapter
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_folder, read_json, seal, write_json
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.weights_hash import hash_weights
from tasks.training.methods.dylora import CONFIG, WEIGHTS
from tasks.training.methods.lora import Lora
from tasks.training.stored_adapter import list_names, read_adapter, refuse_other_base
from tests.tasks.adapters.conftest import TASKS, Shop, keep, train_adapter

IDS = torch.tensor([list(range(90, 112))])
TARGETS = ["q_proj", "v_proj", "down_proj"]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def add_updates(shop: Shop, weights: dict[str, float]) -> Any:
    """The base with the weighted sum of the updates in its weights, computed apart from PEFT."""
    model = load_model(shop.initial)
    for name, weight in weights.items():
        folder = shop.store / name
        config, matrices = read_json(folder / CONFIG), load_file(folder / WEIGHTS)
        scale = config["lora_alpha"] / config["r"]
        for key, a in matrices.items():
            if ".lora_A." in key:
                layer = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                update = weight * scale * matrices[key.replace("lora_A", "lora_B")] @ a
                model.get_submodule(layer).weight.data += update
    return model


def test_an_adapter_is_kept_as_plain_lora_with_the_same_answers(shop: Shop) -> None:
    """The scale of rsLoRA, alpha / sqrt(rank), is written as alpha / rank."""
    assert list_names(shop.store)[:2] == ["polite", "terse"]
    config = read_json(shop.store / "terse" / CONFIG)
    assert (config["use_rslora"], config["lora_alpha"], config["r"]) == (False, 16.0, 4)
    kept = PeftModel.from_pretrained(load_model(shop.initial), shop.store / "terse").eval()
    trained = PeftModel.from_pretrained(load_model(shop.initial), shop.root / "tuned-terse-4/adapter").eval()
    assert torch.equal(logits(kept), logits(trained))
    assert read_adapter(shop.store, "polite").has_task


def test_cat_is_exactly_the_weighted_sum_of_the_updates(shop: Shop, tmp_path: Path) -> None:
    adapters = [read_adapter(shop.store, name) for name in TASKS]
    mixer = Mixer(shop.initial, adapters)
    mixed = logits(mixer.mix("cat", [1.0, 0.5]))
    torch.testing.assert_close(mixed, logits(add_updates(shop, {"polite": 1.0, "terse": 0.5})), rtol=0, atol=1e-5)
    assert not torch.allclose(mixed, logits(mixer.only("polite")), atol=1e-2)
    with mixer.plain() as base:
        assert torch.equal(logits(base), logits(load_model(shop.initial)))
    mixer.mix("cat", [1.0, 0.5])
    for name in ("a", "b"):
        mixer.save(tmp_path / name)
    assert hash_folder(tmp_path / "a") == hash_folder(tmp_path / "b")
    assert torch.equal(logits(PeftModel.from_pretrained(load_model(shop.initial), tmp_path / "a").eval()), mixed)


@pytest.mark.filterwarnings("error:Adapter mixture was active")
def test_every_way_to_combine_gives_an_adapter_and_the_same_one_again(shop: Shop) -> None:
    mixer = Mixer(shop.initial, [read_adapter(shop.store, name) for name in TASKS])
    exact = logits(mixer.mix("cat", [1.0, 1.0]))
    for how in COMBINATIONS:
        density = 0.5 if how in WITH_DENSITY else None
        first = logits(mixer.mix(how, [1.0, 1.0], density, seed=3))
        assert torch.equal(first, logits(mixer.mix(how, [1.0, 1.0], density, seed=3)))
        assert first.isfinite().all()
        assert torch.allclose(first, exact, atol=1e-4) == (how == "cat"), how


def test_a_mixture_is_searched_measured_and_kept(shop: Shop, tmp_path: Path) -> None:
    made_of, mixtures, found = combine_adapters(
        shop.store, "both", list(TASKS), shop.initial, weights=[0.2, 0.2], trials=12, others=["linear"], rows=4
    )
    kept, linear = mixtures
    assert kept.searched is not None
    assert kept.searched.tried <= 12
    assert set(found.losses) == {"base", "polite", "terse", kept.name, linear.name}
    for task in TASKS:
        assert found.losses[task][task] < found.losses["base"][task] - 0.5
        assert found.kept(task, task) == 1
        assert found.kept("base", task) == 0
    assert found.losses["polite"]["terse"] > found.losses["terse"]["terse"]
    start = combine_adapters(shop.store, "start", list(TASKS), shop.initial, weights=[0.2, 0.2], rows=4)[2]
    mean = {name: sum(losses.values()) / 2 for name, losses in [*found.losses.items(), *start.losses.items()]}
    assert mean[kept.name] < mean["cat 0.2, 0.2"] - 0.05
    mixture = read_adapter(shop.store, "both")
    assert (mixture.rank, mixture.has_task, mixture.base) == (8, False, made_of[0].base)
    opened = logits(PeftModel.from_pretrained(load_model(shop.initial), mixture.folder).eval())
    expected = dict(zip(TASKS, kept.weights, strict=True))
    torch.testing.assert_close(opened, logits(add_updates(shop, expected)), rtol=0, atol=1e-5)
    page, table = tmp_path / "index.html", tmp_path / "interference.json"
    write_interference("both", made_of, mixtures, found, page, table)
    assert read_json(table)["losses"]["base"] == dict(found.losses["base"])
    assert read_json(table)["disturbed"] == found.disturbed(kept.name)
    assert "The weights were searched on validation rows" in page.read_text()
    with pytest.raises(PipelineError, match="adapter both: is a mixture, without rows of its own"):
        combine_adapters(shop.store, "three", ["both", "terse"], shop.initial)


def test_what_does_not_go_together_is_refused(shop: Shop, tmp_path: Path) -> None:
    keep(shop, "wide", "polite", train_adapter(shop, "polite", Lora(rank=8, targets=TARGETS)))

    def combine(**changes: Any) -> None:
        values = {"name": "never", "of": ["polite", "wide"], "initial": shop.initial, **changes}
        combine_adapters(shop.store, **values)

    for how in COMBINATIONS:
        if how not in OF_ANY_RANKS:
            with pytest.raises(PipelineError, match=rf"{how} needs adapters of one rank \(found polite 4, wide 8\)"):
                combine(how=how, density=0.5 if how in WITH_DENSITY else None)
    for changes, told in (
        ({"of": ["polite"]}, "1 adapters to combine; expected two or more"),
        ({"of": ["polite", "polite"]}, "one is named twice"),
        ({"of": ["polite", "nobody"]}, "no adapter 'nobody'; there are .*polite, .*terse"),
        ({"weights": [1.0]}, "1 weights for 2 adapters"),
        ({"weights": [1.0, -1.0]}, "weights 1, -1; expected numbers from 0 on"),
        ({"of": ["polite", "terse"], "how": "ties"}, "ties needs a density"),
        ({"density": 0.5}, "cat takes no density"),
        ({"name": "polite"}, "an adapter 'polite' exists"),
        ({"name": "../up"}, "expected 1 to 64 small letters"),
    ):
        with pytest.raises(PipelineError, match=told):
            combine(**changes)  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match="was trained at one rank, so its first rows alone mean nothing"):
        cut_stored(shop.store, "wide", 4, "narrow")
    assert "never" not in list_names(shop.store)


def test_an_adapter_of_another_base_is_refused_by_its_hash(shop: Shop, tmp_path: Path) -> None:
    """The same values in another number format, and a weight written twice, are the same base."""
    weights = load_file(shop.initial / "model.safetensors")
    halves = {name: tensor.bfloat16() for name, tensor in weights.items()}
    for name, tensors in {
        "bf16": halves,
        "fp32": {name: tensor.float() for name, tensor in halves.items()},
        "tied": {**halves, "lm_head.weight": halves["model.embed_tokens.weight"].clone()},
    }.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert len({hash_weights(tmp_path / name) for name in ("bf16", "fp32", "tied")}) == 1
    other = hash_weights(tmp_path / "fp32")
    assert other != hash_weights(shop.initial)
    with pytest.raises(PipelineError, match=f"was trained on another base .*this one is {other[:12]}"):
        refuse_other_base(read_adapter(shop.store, "polite"), other)
    shutil.copytree(shop.initial, tmp_path / "moved")
    changed = {**weights, "model.norm.weight": weights["model.norm.weight"] + 1}
    save_file(changed, tmp_path / "moved/model.safetensors", metadata={"format": "pt"})
    manifest = read_json(tmp_path / "moved/manifest.json")
    facts = {key: value for key, value in manifest.items() if key not in ("files", "version")}
    seal(tmp_path / "moved", [tmp_path / "moved" / name for name in manifest["files"]], facts)
    with pytest.raises(PipelineError, match="adapter polite: was trained on another base"):
        combine_adapters(shop.store, "never", list(TASKS), tmp_path / "moved")


def test_only_plain_lora_is_kept(shop: Shop, tmp_path: Path) -> None:
    tuned = train_adapter(shop, "terse", Lora(rank=2, targets=TARGETS, dora=True))
    with pytest.raises(PipelineError, match=r"use_dora: True; adapters that are combined .* are plain LoRA"):
        keep(shop, "dora", "terse", tuned)
    (tmp_path / "full").mkdir()
    write_json(tmp_path / "full/some.json", {})
    base = read_json(tuned / "manifest.json")["base"]
    seal(tmp_path / "full", [tmp_path / "full/some.json"], {"base": base, "method": {"name": "full"}})
    with pytest.raises(PipelineError, match="holds full fine-tuning, no LoRA adapter; train with method lora or"):
        keep_adapter(shop.store, "full", shop.initial, tmp_path / "full", tmp_path, tmp_path)
    assert not {"dora", "full"} & set(list_names(shop.store))
