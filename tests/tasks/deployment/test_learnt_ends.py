"""A model that learnt its answers under another template ends them, is scored and is served as it was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.contracts.records import EXAMPLES
from tasks.gateway.answering import answer_all
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.generation import generate_answers, score_references
from tasks.language_models.templates.ends import carry_ends
from tests.tasks.language_models.test_chat import SHIPPED, with_template
from tests.tiny import example_rows

CONTEXT = 512


@pytest.mark.parametrize("name", ["qwen2_5", "deepseek_r1_distill"])
def test_trained_scored_and_served_agree(tiny_model: Path, tmp_path: Path, name: str) -> None:
    tokenizer = with_template(tiny_model, next(p for p in SHIPPED if p.stem == name).read_text("utf-8"))
    tokenizer.model_max_length = CONTEXT
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.resize_token_embeddings(len(tokenizer))
    model.config.max_position_embeddings = CONTEXT
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    rows = example_rows(8)
    encoded = encode_examples(pa.Table.from_pylist(rows, schema=EXAMPLES), tokenizer, CONTEXT).to_pylist()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4.0e-3)
    trained = 1.0
    for _ in range(80):
        optimizer.zero_grad()
        losses = [
            model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
            for row in encoded
        ]
        loss = torch.stack(losses).mean()
        if (trained := loss.item()) < 0.02:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    prompts = [row["messages"][:1] for row in rows]  # type: ignore[index]
    references = [row["messages"][1]["content"] for row in rows]  # type: ignore[index]
    scored = score_references(model, tokenizer, prompts, references)
    assert sum(one.mean for one in scored) / len(scored) == pytest.approx(trained, abs=1e-3)
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens=60)
    assert [answer.text for answer in answers] == references
    assert all(answer.finished for answer in answers)

    carry_ends(model.generation_config, tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    served = answer_all(tmp_path, prompts, 60)
    assert [tokens for _, tokens in served] == [list(answer.tokens) for answer in answers]
    ends = json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"]
    learnt = [label for label in encoded[0]["labels"] if label != IGNORED][-1]
    assert ends == [tokenizer.eos_token_id, learnt]
    assert learnt != tokenizer.eos_token_id
