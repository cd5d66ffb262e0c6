"""Every member of the union is what it says it is: its sums, its facts, and a run from the plan to the merged model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft.utils.integrations import dequantize_module_weight
from transformers import GPT2Config, GPT2LMHeadModel

from tasks.contracts.machine import Machine
from tasks.contracts.manifest import hash_folder
from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape, read_shape
from tasks.pages.page import show
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.adapters.tokens import TrainableTokens
from tasks.training.methods.hooks import RunFacts, make_hooks
from tasks.training.methods.memory_tuning import MemoryTuning
from tasks.training.methods.method import ChangesArchitecture, Method, PutsTokens
from tasks.training.methods.mixture_of_experts import MixtureOfExperts
from tasks.training.methods.parts import Changing
from tasks.training.methods.prompts.prompt import PromptMethod
from tasks.training.optimizers.adamw import AdamW
from tasks.training.plan import Plan
from tasks.training.quantization.nf4 import Nf4
from tasks.training.quantization.none import Unquantized
from tasks.training.tuned import load_tuned, merge_tuned
from tasks.training.weights import list_trained_weights
from tasks.training_setup.counts import Counts, count_tokens
from tasks.training_setup.memory import list_moments
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.report import list_settings
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.fine_tuning.small import make_initial
from tests.tasks.training.methods.members import MEMBERS
from tests.tiny import example_rows

# Of these only what they do themselves is tried, not what the base is held in.
ALIKE = {"pissa_fast", "olora", "patterns", "road_4", "frozen_a", "tinylora", "unilora"}
# From a plan to the merged model methods of PEFT differ in its layers alone, so some of them stand for all.
STANDING_FOR_PEFT = {"adalora", "dora", "lora", "prefix_tuning", "prompt_tuning"}
WHOLE_WAY = {
    name: one
    for name, one in MEMBERS.items()
    if name in STANDING_FOR_PEFT or (not isinstance(one, (Adapter, PromptMethod)) and name != "few_experts")
}


def members(some: Mapping[str, Method] = MEMBERS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", some.values(), ids=some)


LONG, SHORT = list(range(90, 104)), list(range(200, 209))
END = 2
LEARNING_RATE = 1e-2  # large, so that few steps are seen


@pytest.fixture
def resolved(method: Method, shape: ModelShape) -> Method:
    return method.resolve(shape)


def adapt(method: Method, initial: Path) -> Any:
    """The tiny base as the method trains it, in fp32."""
    torch.manual_seed(0)
    return method.adapt(load_model(initial))


def train(model: Any, steps: int) -> tuple[torch.optim.AdamW, list[float]]:
    """Some steps on one sequence; gradients stay. Gives the losses too."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], LEARNING_RATE, weight_decay=0.0)
    ids, losses = torch.tensor([[*LONG, *SHORT, END]]), []
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        scores = model(input_ids=ids, use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(scores[:-1], ids[0, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return optimizer, losses


@dataclass(frozen=True)
class Trained:
    """A model after four steps: what starts at zero gives its neighbour no gradient in the first."""

    model: Any
    before: dict[str, torch.Tensor]
    start: torch.Tensor
    losses: list[float]


_TRAINED: dict[str, Trained] = {}


@pytest.fixture
def trained(resolved: Method, initial: Path) -> Trained:
    """The same for all tests of a member; nobody trains it further."""
    key = repr(resolved)
    if key not in _TRAINED:
        model = adapt(resolved, initial)
        before = {name: weights.clone() for name, weights in model.state_dict().items()}
        start = logits(model.eval(), LONG)
        _TRAINED[key] = Trained(model, before, start, train(model, 4)[1])
    return _TRAINED[key]


def logits(model: Any, ids: list[int], **inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False, **inputs).logits[0]


def size(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def held_beside(model: Any, initial: Path) -> int:
    """Bytes of a method's tensors that are no parameters: buffers, and what modules keep in dictionaries."""
    base = {name.rpartition(".")[2] for name, _ in load_model(initial).named_buffers()}
    beside = {id(one): one for name, one in model.named_buffers() if name.rpartition(".")[2] not in base}
    for module in model.modules():
        for name, kept in vars(module).items():
            if isinstance(kept, dict) and not name.startswith("_") and name != "prompt_tokens":
                beside |= {id(one): one for one in kept.values() if torch.is_tensor(one)}
    return size(beside.values())


@members()
def test_it_fits_this_model_and_not_one_without_weights(method: Method, shape: ModelShape) -> None:
    assert method.problems(shape) == []
    assert method.trainable(shape) > 0
    nothing = replace(shape, parameters=0, linear={}, layers=0)
    problems = method.problems(nothing)
    assert problems
    assert all(problem.startswith("method") and "; " in problem for problem in problems), "no key or no next step"


@members()
def test_what_is_resolved_stays_so_and_survives_json(method: Method, resolved: Method, shape: ModelShape) -> None:
    assert type(resolved) is type(method)
    assert resolved.resolve(shape) == resolved
    assert resolved.problems(shape) == []
    assert resolved.trainable(shape) == method.trainable(shape)
    values = json.loads(json.dumps(resolved.model_dump(mode="json")))  # type: ignore[attr-defined]
    read = TrainingSetup.model_validate({"method": values}).method
    assert read == resolved
    assert json.dumps(read.model_dump(mode="json")) == json.dumps(values)
    assert resolved.describe()
    assert resolved.describe()[-1] not in ".\n"


def train_largest_part(resolved: Method, model: Any, initial: Path) -> None:
    """Leave to be trained what is trained in the step that trains the most."""
    if isinstance(resolved, Changing):
        hooks, sizes = make_hooks(resolved, model, RunFacts(6, 3, 0), initial), dict(model.named_parameters())
        parts = [hooks.trained(step) or frozenset() for step in range(1, 7)]
        largest = max(parts, key=lambda names: sum(sizes[name].numel() for name in names))
        for name, weights in model.named_parameters():
            assert weights.requires_grad or name not in largest
            weights.requires_grad_(name in largest)


@members()
def test_memory_is_what_torch_holds(resolved: Method, initial: Path, shape: ModelShape) -> None:
    model = adapt(resolved, initial)
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == resolved.trainable(shape)
    inner = [p for name, p in model.named_parameters() if p.requires_grad and p.ndim == 2 and ".layers." in name]
    assert sorted(p.shape for p in inner) == sorted(resolved.trained_matrices(shape))
    assert list_trained_weights(resolved, shape).total == resolved.trainable(shape)
    train_largest_part(resolved, model, initial)
    optimizer, _ = train(model, 1)
    memory = list_moments(
        shape,
        resolved,
        Unquantized().resolve(resolved.can.frozen_base, "fp32"),
        batch_size=1,
        max_tokens=len(LONG + SHORT) + 1,
        packed=False,
        supervised_share=1.0,
        precision="fp32",
        optimizer=AdamW(),
        gradient_checkpointing=False,
        device="cpu",
    )["backward"]
    assert memory.weights == size(model.parameters()) + held_beside(model, initial)
    assert memory.gradients == size(p.grad for p in model.parameters() if p.grad is not None)
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert memory.optimizer == size(moments)


@members()
def test_steps_change_what_is_trainable_and_nothing_else(resolved: Method, trained: Trained, initial: Path) -> None:
    model, before = trained.model, trained.before
    trainable = {name for name, weights in model.named_parameters(remove_duplicate=False) if weights.requires_grad}
    assert {name for name, weights in model.state_dict().items() if not torch.equal(weights, before[name])} == trainable
    base = list(load_model(initial).parameters())
    kept = [
        any(weights.shape == own.shape and torch.equal(weights, own) for own in model.parameters()) for weights in base
    ]
    assert all(kept) == resolved.can.frozen_base


@members()
def test_it_begins_at_the_bases_answers_and_learns(resolved: Method, trained: Trained, initial: Path) -> None:
    if not isinstance(resolved, PutsTokens):
        torch.testing.assert_close(trained.start, logits(load_model(initial), LONG), rtol=0, atol=1e-2)
    assert trained.losses[-1] < trained.losses[0] - 1e-3


@members({name: one for name, one in MEMBERS.items() if one.can.frozen_base and name not in ALIKE})
def test_it_trains_in_16_bits_over_a_base_in_16_bits(resolved: Method, initial: Path, shape: ModelShape) -> None:
    torch.manual_seed(0)
    model = resolved.adapt(Unquantized().resolve(True, "bf16").load(initial, "bf16", "cpu"))
    own = [weights for weights in model.parameters() if weights.requires_grad]
    assert sum(weights.numel() for weights in own) == resolved.trainable(shape)
    assert {weights.dtype for weights in own} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        _, losses = train(model, 4)
    assert losses[-1] < losses[0]


@members({name: one for name, one in MEMBERS.items() if one.can.quantized_base and name not in ALIKE})
def test_it_trains_over_four_bits_as_over_the_weights_they_stand_for(
    resolved: Method, trained: Trained, initial: Path
) -> None:
    """The same weights of the method's give the same answers and gradients over both."""
    held = Nf4().resolve(True, "fp32")
    models, ids = [], torch.tensor([LONG])
    decoded = {
        name: dequantize_module_weight(module).float()
        for name, module in held.load(initial, "fp32", "cpu").named_modules()
        if isinstance(module, Linear4bit)
    }
    for in_bits in (True, False):
        base = held.load(initial, "fp32", "cpu") if in_bits else load_model(initial)
        for name, weights in {} if in_bits else decoded.items():
            base.get_submodule(name).weight.data = weights
        torch.manual_seed(0)
        models.append(resolved.adapt(base))
    learned = {name: weights for name, weights in trained.model.named_parameters() if weights.requires_grad}
    for model in models:
        own = dict(model.named_parameters())
        assert {name for name, weights in own.items() if weights.requires_grad} == learned.keys()
        for name, weights in learned.items():
            own[name].data.copy_(weights)
        torch.nn.functional.cross_entropy(model(input_ids=ids, use_cache=False).logits[0, :-1], ids[0, 1:]).backward()
    torch.testing.assert_close(logits(models[0], LONG), logits(models[1], LONG), rtol=0, atol=1e-5)
    gradients = [{name: p.grad for name, p in model.named_parameters() if name in learned} for model in models]
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def transposed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2, whose linear layers are stored transposed and have biases."""
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(vocab_size=600, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return make_initial(folder)


@members()
def test_trainable_weights_of_another_architecture(method: Method, transposed: Path) -> None:
    shape = read_shape(transposed)
    if method.problems(shape) or isinstance(method, TrainableTokens):
        pytest.skip("is not for this architecture, and says so, or wants a tokenizer")
    resolved = method.resolve(shape)
    model = adapt(resolved, transposed)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == method.trainable(shape)
    assert list_trained_weights(resolved, shape).total == method.trainable(shape)


@members()
def test_what_is_saved_loads_to_the_same_logits(
    resolved: Method, trained: Trained, initial: Path, tmp_path: Path
) -> None:
    model = trained.model
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files = resolved.save(model, tmp_path / name)
        assert sorted(files) == sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        assert not any(str(tmp_path).encode() in path.read_bytes() for path in files)
        assert not any(str(initial).encode() in path.read_bytes() for path in files)
    assert hash_folder(tmp_path / "a") == hash_folder(tmp_path / "b")
    expected = logits(model, LONG)
    assert not torch.allclose(expected, logits(load_model(initial), LONG), atol=1e-3)
    loaded = resolved.load(initial, tmp_path / "a").eval()
    assert torch.equal(logits(loaded, LONG), expected)
    assert {weights.dtype for weights in loaded.parameters()} == {torch.float32}
    if resolved.can.merging:
        merged, base = resolved.merge(initial, tmp_path / "a").eval(), load_model(initial)
        if isinstance(resolved, ChangesArchitecture):
            assert type(merged).__name__ == resolved.released_as
            assert sum(w.numel() for w in merged.parameters()) == sum(w.numel() for w in model.parameters())
        else:
            assert type(merged) is type(base)
            assert {n: w.shape for n, w in merged.state_dict().items()} == {
                n: w.shape for n, w in base.state_dict().items()
            }
        torch.testing.assert_close(logits(merged, LONG), expected, rtol=0, atol=3e-6)


@members()
def test_packed_conversations_do_not_see_each_other(resolved: Method, trained: Trained) -> None:
    model = trained.model
    positions = torch.tensor([[*range(len(LONG)), *range(len(SHORT))]])
    packed = logits(model, LONG + SHORT, position_ids=positions)
    if not resolved.can.packing:
        # The plan refuses it, rightly.
        assert not torch.allclose(packed[len(LONG) :], logits(model, SHORT), rtol=0, atol=1e-2)
        return
    torch.testing.assert_close(packed[: len(LONG)], logits(model, LONG), rtol=0, atol=1e-5)
    torch.testing.assert_close(packed[len(LONG) :], logits(model, SHORT), rtol=0, atol=1e-5)


class Interrupted(Exception):
    """Stands for the end of a machine."""


def interrupt_at(step: int) -> Callable[[int, Mapping[str, float]], None]:
    def on_metrics(reached: int, _: Mapping[str, float]) -> None:
        if reached == step:
            raise Interrupted

    return on_metrics


@members()
def test_the_page_of_its_plan_has_all_that_was_chosen(method: Method, initial: Path, shape: ModelShape) -> None:
    plan = make_plan(method, shape, initial)
    counts = Counts(40, 40, 0, [30], [30], 30, 15, 8)
    shown = {name: show(value) for name, value in list_settings(plan, counts)}
    for name, value in plan.method.model_dump(exclude={"name"}).items():
        if isinstance(value, dict):
            assert {key: shown[f"method.{name}.{key}"] for key in value} == {key: show(value[key]) for key in value}
        else:
            assert shown[f"method.{name}"] == (", ".join(map(show, value)) if isinstance(value, list) else show(value))


def make_plan(method: Method, shape: ModelShape, initial: Path) -> Plan:
    """Six steps on the tiny base, a checkpoint after the third, every step logged."""
    settings = TrainingSetup.model_validate(
        {
            "method": method.model_dump(),  # type: ignore[attr-defined]
            "packing": "bfd" if method.can.packing else "none",
            "max_tokens": 96,
            "max_steps": 6,
            "learning_rate": LEARNING_RATE,
            "threads": 1,
            "checkpoint_every": {"steps": 3},
            "evaluate_every": {"steps": 3},
            "log_every_steps": 1,
        }
    )
    rows = pa.Table.from_pylist(example_rows(40), schema=EXAMPLES)
    counts = count_tokens(rows, rows.slice(0, 8), initial, settings.max_tokens)
    machine = Machine(device="cpu", cores=1, memory_bytes=2**33, bf16=True)
    plan = resolve_plan(settings, shape, counts, machine).plan
    # The machine of the tests may have less.
    return plan.model_copy(update={"predicted_memory_bytes": 2**20})


@members(WHOLE_WAY)
def test_from_plan_to_merged_model(method: Method, initial: Path, shape: ModelShape, tmp_path: Path) -> None:
    """Planned, trained, interrupted and taken up again to the same bytes, opened with the reported validation loss."""
    plan = make_plan(method, shape, initial)
    rows = pa.Table.from_pylist(example_rows(48), schema=EXAMPLES)
    splits = tokenize_splits(rows.slice(0, 40), rows.slice(40), initial, plan.max_tokens, 8)

    def run(folder: Path, on_metrics: Callable[[int, Mapping[str, float]], None] | None = None) -> Run:
        return fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned", on_metrics=on_metrics)

    whole = run(tmp_path / "whole")
    assert whole.trained == plan.trainable_parameters
    with pytest.raises(Interrupted):
        run(tmp_path / "halves", interrupt_at(5))
    halves = run(tmp_path / "halves")
    assert (whole.resumed_at, halves.resumed_at) == (0, 3)
    assert whole.curve == halves.curve
    assert whole.outcome == halves.outcome
    if isinstance(method, MemoryTuning):
        assert whole.outcome["tokens of answers with an expert"] == "100.00%"
    if isinstance(method, MixtureOfExperts):
        shares = whole.outcome["tokens by expert, block 1"].split(", ")
        assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.3)
        assert {"load_balance", "largest_expert"} <= whole.curve[1].figures.keys()
    assert hash_folder(tmp_path / "whole/tuned") == hash_folder(tmp_path / "halves/tuned")

    model, tokenizer = load_tuned(initial, tmp_path / "whole/tuned")
    assert not model.training
    assert tokenizer.chat_template
    watched, total = splits.validation, 0.0
    for index in range(len(watched)):
        tokens, labels = (torch.from_numpy(part) for part in watched.row(index))
        scores = logits(model, tokens.tolist())
        total += torch.nn.functional.cross_entropy(scores[:-1], labels[1:], reduction="sum").item()
    losses = [point.eval_loss for point in whole.curve if point.eval_loss is not None]
    # The run computes in bf16, the opened model in fp32.
    assert losses[-1] == pytest.approx(total / watched.supervised, abs=0.01)
    assert losses[-1] < losses[0]
    if method.can.merging:
        merged, _ = merge_tuned(initial, tmp_path / "whole/tuned")
        torch.testing.assert_close(logits(merged, LONG), logits(model, LONG), rtol=0, atol=3e-6)
