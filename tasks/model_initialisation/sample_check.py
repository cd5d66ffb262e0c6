"""The chat template on training rows: each renders, keeps every turn, ends its answer, and is trained as it is served.

A template that leaves out a role it does not know trains a model on conversations without their system prompts or tool
results, and nothing fails. It is refused; ``fold_roles`` writes such turns into the user's by choice.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa

from tasks.contracts.errors import raise_all
from tasks.language_models.templates.chat import Chat, chat_of, own_template
from tasks.language_models.templates.rendering import Rendering, TemplateRefusal, Turns
from tasks.model_initialisation.measure import take_evenly
from tasks.model_initialisation.params import FoldedRole

_ROWS = 256


@dataclass(frozen=True)
class SampleCheck:
    """Sampled training rows under the chat template.

    Attributes:
        rows: Rows looked at.
        refused: Rows that the template refuses, which will be left out.
        answered: Rows with an answer, whose end is supervised and whose prompt is that of serving, token by token.
    """

    rows: int
    refused: int
    answered: int

    @property
    def figures(self) -> dict[str, float | int]:
        return dict(vars(self))


def check_sample(examples: pa.Table, tokenizer: Any) -> SampleCheck:
    """Render up to 256 training rows and compare what is trained with what is served.

    Args:
        examples: Training split, schema `EXAMPLES`.
        tokenizer: The base's, with the chat template in use.

    Raises:
        PipelineError: A turn's text is missing from a row, an answer's end carries no loss, or the tokens before an
            answer are not those of its prompt when it is served.
    """
    chat = chat_of(tokenizer)
    rendering = Rendering(own_template(tokenizer), tokenizer.special_tokens_map)
    sample = take_evenly(examples, _ROWS)["messages"].to_pylist()
    faults: Counter[str] = Counter()
    refused = answered = 0
    for turns in sample:
        try:
            faults.update(_lost_roles(rendering, turns))
            found = _compare(chat, tokenizer, turns)
        except TemplateRefusal:
            refused += 1
            continue
        answered += found is not None
        faults.update(found or ())
    raise_all([_describe(fault, count, len(sample)) for fault, count in sorted(faults.items())], "the chat template")
    return SampleCheck(len(sample), refused, answered)


def _lost_roles(rendering: Rendering, turns: Turns) -> set[str]:
    """Roles of turns whose text is not in the rendered conversation; answers aside, which templates shorten."""
    asked = [turn for turn in turns if turn["role"] != "assistant"]
    text = rendering.render(turns, answering=turns[-1]["role"] != "assistant")
    return {turn["role"] for turn in asked if not _is_written((turn["content"] or "").strip(), text)}


def _is_written(content: str, text: str) -> bool:
    """Whether a text has a content in it, as it is or as JSON, as Llama 3.1 writes the results of tools."""
    return content in text or json.dumps(content, ensure_ascii=False)[1:-1] in text


def _compare(chat: Chat, tokenizer: Any, turns: Turns) -> list[str] | None:
    """Faults of the last answer; None without one."""
    last = max((number for number, turn in enumerate(turns) if turn["role"] == "assistant"), default=-1)
    if last < 0:
        return None
    (prompt, answer), *_ = chat.encode([chat.write(turns)])
    learned = [token for token, supervised in answer if supervised]
    faults = []
    if not learned or learned[-1] not in {chat.form.end, *tokenizer.all_special_ids}:
        faults.append("end")
    if last and [token for token, _ in prompt] != chat.prompt_ids(turns[:last]):
        faults.append("prompt")
    return faults


def _describe(fault: str, count: int, rows: int) -> str:
    of_rows = f"{count:,} of {rows:,} sampled training rows"
    chatml = "correct chat_template.jinja or set model_initialisation.chat_template: chatml"
    if fault == "end":
        return f"in {of_rows} the end of the answer carries no loss, so the model would not learn to stop; {chatml}"
    if fault == "prompt":
        return f"in {of_rows} the tokens before the answer are not those of its prompt when it is served; {chatml}"
    way = f"set model_initialisation.fold_roles: [{fault}] to write it into the user's turns, or {chatml}"
    return (
        f"the chat template leaves out the {fault} turn of {of_rows} without a word; expected every turn in the text; "
        f"{way if fault in get_args(FoldedRole) else chatml}"
    )
