"""A release of vectors before the rows is served in batches, with the answers of evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import seal
from tasks.gateway.answering import answer_all
from tasks.gateway.decodings.speculative import SpeculativeDecoding
from tasks.gateway.engines.transformers import Transformers
from tasks.language_models.encoding import encode_prompt
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.generation import generate_answers
from tasks.training.methods import AnyMethod
from tasks.training.methods.prompts.p_tuning import PTuning
from tasks.training.methods.prompts.prefix_tuning import PrefixTuning
from tasks.training.methods.prompts.prompt_tuning import PromptTuning
from tasks.training.released import load_released, put_beside

TURNS = [[{"role": "user", "content": text}] for text in ("Where is my parcel?", "stone", "Is the river open today?")]


@pytest.mark.parametrize(
    "method", [PrefixTuning(), PromptTuning(), PTuning(encoder_width=64)], ids=lambda method: method.name
)
def test_answers_are_those_of_evaluation(method: AnyMethod, model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    torch.manual_seed(3)
    adapted = method.adapt(load_model(model))
    for weights in adapted.parameters():
        if weights.requires_grad:
            torch.nn.init.normal_(weights, std=1.0)
    tuned, folder = tmp_path / "tuned", tmp_path / "model"
    tuned.mkdir()
    seal(tuned, method.save(adapted.eval(), tuned), {})
    folder.mkdir()
    (folder / "base").symlink_to(model)
    put_beside(method, tuned, folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    served = answer_all(folder, TURNS, 16)
    assert [prompt for prompt, _ in served] == [encode_prompt(tokenizer, turns) for turns in TURNS]
    expected = [list(answer.tokens) for answer in generate_answers(load_released(folder), tokenizer, TURNS, 16)]
    assert [answer for _, answer in served] == expected
    with pytest.raises(PipelineError, match="which decoding speculative does not read; set"):
        answer_all(folder, TURNS, 16, Transformers(decoding=SpeculativeDecoding(draft=model)))
    plain = [list(answer.tokens) for answer in generate_answers(load_model(model).eval(), tokenizer, TURNS, 16)]
    assert expected != plain
