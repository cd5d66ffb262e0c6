"""Figures of tokenizer and base are what a slow count and the model's own loss say."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES, UNTRAINED
from tasks.language_models.probes.bias_probe import probe_bias
from tasks.model_initialisation.candidates import BaseChoice
from tasks.model_initialisation.chat_template import choose_template, render_first
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tasks.model_initialisation.measure import measure_loss, measure_tokenizer, open_base, take_evenly
from tasks.model_initialisation.needs import count_parts, estimate_needs
from tasks.model_initialisation.report import Findings, write_report
from tasks.model_initialisation.sample_check import check_sample
from tasks.model_initialisation.sources.folder import Folder
from tasks.model_initialisation.vocabulary import describe_padding
from tasks.training.methods.last_layers import LastLayers
from tasks.training.methods.lora import Lora
from tests.tiny import example_rows


def table(count: int = 40) -> pa.Table:
    return pa.Table.from_pylist(example_rows(count), schema=EXAMPLES)


def one(question: str, answer: str) -> pa.Table:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    row = {"id": "a", "messages": messages, "source": "s", "row": 1, "label": None, "cluster": "a"}
    return pa.Table.from_pylist([row], schema=EXAMPLES)


def test_rows_are_taken_evenly() -> None:
    numbers = pa.table({"n": list(range(10))})
    assert take_evenly(numbers, 4)["n"].to_pylist() == [0, 2, 5, 7]
    assert take_evenly(numbers, 99).num_rows == 10


def test_tokens_per_word_and_longest(tiny_model: Path) -> None:
    # Digits are single tokens, so four digits are four tokens in one word of four bytes.
    tokenizer = open_tokenizer(tiny_model)
    fit = measure_tokenizer(one("1234", "5678"), tokenizer, context=10)
    assert fit.words == 2
    assert fit.tokens_per_word == 4
    assert fit.bytes_per_token == 1
    # <start> <user> 4 digits <end> <assistant> 4 digits <end>
    assert fit.longest == 13
    assert fit.over_context == 1.0
    assert fit.byte_share == fit.unknown_share == 0


def test_refused_rows_are_counted_with_the_step_that_repairs_them(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = open_tokenizer(tiny_model)
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message['content'] == '1234' %}{{ raise_exception('no sums') }}{% endif %}"
        "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    with caplog.at_level(logging.WARNING):
        fit = measure_tokenizer(pa.concat_tables([one("1234", "5678"), one("12", "56")]), tokenizer, context=10)
    (line,) = [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()]
    assert line.startswith("the chat template refuses 1 of 2 sampled training rows (turn 1 (user): no sums)")
    assert "cleaning step template" in line
    assert fit.longest == 8
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        measure_tokenizer(one("12", "56"), tokenizer, context=10)
    assert "refuses" not in caplog.text


def test_pieces_of_characters_are_counted(tiny_model: Path) -> None:
    # The tokenizer saw no snowman: its three UTF-8 bytes are three tokens; the digits are whole.
    tokenizer = open_tokenizer(tiny_model)
    fit = measure_tokenizer(one("☃", "1"), tokenizer, context=0)
    assert fit.byte_share == 0.75
    assert fit.over_context == 0


def test_base_loss_is_the_model_s_own_on_the_answers(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = open_tokenizer(tiny_model)
    found = measure_loss(open_base(check_folder(tiny_model), 10**9), table(), tokenizer, 256, rows=3)
    assert found is not None
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    nats, tokens, size = 0.0, 0, 0
    for turns in take_evenly(table(), 3)["messages"].to_pylist():
        prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True)["input_ids"]
        whole = tokenizer.apply_chat_template(turns)["input_ids"]
        labels = torch.tensor([[-100] * len(prompt) + whole[len(prompt) :]])
        count = len(whole) - len(prompt)
        with torch.inference_mode():
            nats += float(model(input_ids=torch.tensor([whole]), labels=labels).loss) * count
        tokens += count
        size += len(turns[1]["content"].encode())
    assert found.tokens == tokens
    assert found.nats_per_token == pytest.approx(nats / tokens, abs=1e-4)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / size, abs=1e-4)


def test_base_loss_leaves_out_answers_that_are_not_to_be_learned(tiny_model: Path) -> None:
    tokenizer = open_tokenizer(tiny_model)
    turns = [
        {"role": role, "content": content}
        for role, content in (("user", "Where?"), ("assistant", "Nowhere at all."), ("user", "No?"), ("assistant", "1"))
    ]
    row = {"id": "a", "messages": turns, "source": "s", "row": 1, "label": None, "cluster": "a", "untrained": [1]}
    rows = pa.Table.from_pylist([row], schema=EXAMPLES.append(UNTRAINED))
    found = measure_loss(open_base(check_folder(tiny_model), 10**9), rows, tokenizer, 256, rows=1)
    assert found is not None
    # One digit, which is a byte and a token, and the end of the answer.
    assert found.tokens == 2
    assert found.bits_per_byte == pytest.approx(found.nats_per_token * 2 / math.log(2), abs=1e-3)


def test_a_large_base_is_not_loaded(tiny_model: Path) -> None:
    assert open_base(check_folder(tiny_model), 1000) is None
    assert measure_loss(None, table(), open_tokenizer(tiny_model), 256, 3) is None


def test_weights_of_another_configuration_are_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"num_hidden_layers": 3}
    config.pop("layer_types", None)
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match="lack 9 tensors"):
        open_base(check_folder(model), 10**9)


def test_no_rows_is_refused(tiny_model: Path) -> None:
    with pytest.raises(PipelineError, match="no rows"):
        measure_tokenizer(table(0), open_tokenizer(tiny_model), 256)


def test_the_description_is_that_of_the_files(model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    description = describe_model(check_folder(model), open_tokenizer(model))
    assert description.licence == "mit"
    assert (description.context, description.hidden, description.layers, description.heads) == (256, 64, 2, 2)


def test_report_is_the_same_twice_and_says_the_figures(tiny_model: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        base, tokenizer = check_folder(tiny_model), open_tokenizer(tiny_model)
        template = choose_template(tokenizer, "own")
        fit = measure_tokenizer(table(), tokenizer, 256)
        model = open_base(base, 10**9)
        loss = measure_loss(model, table(), tokenizer, 256, rows=2)
        page, metrics = tmp_path / name / "index.html", tmp_path / name / "metrics.json"
        findings = Findings(
            base,
            describe_model(base, tokenizer),
            {"gguf": "models/tiny.gguf"},
            {"weights in the file": "Q4_1 (210), F32 (61)"},
            False,
            template,
            check_sample(table(), tokenizer),
            fit,
            loss,
            probe_bias(model, tokenizer),
            ("XK-42",),
            describe_padding(tokenizer),
            render_first(table(), tokenizer),
            BaseChoice(Folder(path=tiny_model)),
        )
        figures = write_report(findings, page, metrics)
        assert json.loads(metrics.read_text()) == figures
        assert all(isinstance(value, int | float) for value in figures.values())
        pages.append((page.read_text(), metrics.read_bytes()))
    assert pages[0] == pages[1]
    assert "not stated" in pages[0][0]
    assert "&lt;|start|&gt;" in pages[0][0]
    for text in (
        "The output layer shares its weights",
        "LoRA (rank 32",
        "Full fine-tuning",
        "social class",
        "XK-42",
        "such as LoRA",
    ):
        assert text in pages[0][0]


def test_parameters_are_counted_by_part(tiny_model: Path) -> None:
    base = check_folder(tiny_model)
    # Two layers of 4 x 64 x 64 attention, 3 x 64 x 128 feed-forward and two norms of 64, and the last norm.
    assert count_parts(base.weights.shapes) == {
        "feed-forward": 2 * 3 * 64 * 128,
        "embeddings": 600 * 64,
        "attention": 2 * 4 * 64 * 64,
        "norms": 5 * 64,
    }
    names = {
        "transformer.wte.weight": [7, 2],
        "transformer.h.0.ln_1.weight": [2],
        "transformer.h.0.attn.c_attn.weight": [2, 6],
        "transformer.h.0.mlp.c_fc.weight": [2, 8],
        "lm_head.weight": [7, 2],
        "model.layers.0.self_attn.q_norm.weight": [1],
        "model.vision.patch": [5],
    }
    assert count_parts(names) == {
        "feed-forward": 16,
        "embeddings": 14,
        "output layer": 14,
        "attention": 12,
        "other": 5,
        "norms": 3,
    }


def test_needs_are_those_of_the_methods(tiny_model: Path) -> None:
    shape = describe_model(check_folder(tiny_model), open_tokenizer(tiny_model)).shape
    needs = estimate_needs(shape)
    # Not the first of the largest: beside so small a base the experts of memory tuning are more.
    (full,) = (one for one in needs if one.method == "full fine-tuning")
    others = [one for one in needs if one is not full]
    # 16 bytes a weight: itself, its gradient, and AdamW's two moments.
    assert (full.trained, full.total) == (shape.parameters, 16 * shape.parameters)
    assert {one.method for one in others} >= {Lora().describe(), LastLayers().describe()}
    assert len({one.base for one in others if one.method == Lora().describe()}) == 3
    assert {one.base for one in others if one.method == LastLayers().describe()} == {full.base}
    assert [one.total for one in needs] == sorted((one.total for one in needs), reverse=True)
    assert min(one.weights for one in others) < 4 * shape.parameters


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_a_base_with_a_weight_that_is_no_number_is_refused(tiny_model: Path, tmp_path: Path, number: float) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 5] = number
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PipelineError, match=f"{name} with numbers that are infinite or not a number; expected finite"):
        open_base(check_folder(folder), 1 << 30)


def test_a_base_whose_loss_is_no_number_is_refused(tiny_model: Path) -> None:
    """Its weights are finite; what it computes with them is not."""
    model = open_base(check_folder(tiny_model), 1 << 30)
    assert model is not None
    model.model.norm.weight.data.fill_(3e38)
    with pytest.raises(PipelineError, match=r"the loss of the base on 8 training rows is (nan|inf); expected a"):
        measure_loss(model, table(), open_tokenizer(tiny_model), 256, 8)
