"""The chat template: the model's own or a supplied one, with the answers marked for the loss.

Computing the loss on the answers alone needs a template that marks them with ``{% generation %}``. Three cases:

* the model's own template has the marks: it is used as it is;
* it has none, but TRL has a marked version of it: that is written beside the model's files and used to tokenize
  training rows, while the model's own stays unchanged for inference;
* any other template is refused, since guessing where an answer begins would train on the wrong tokens.

``chatml`` supplies the format of OpenAI's ChatML, each turn ended by the tokenizer's own end-of-text token: base
models were trained with that token, generation stops at it, and no row has to be added to the embeddings.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from tasks.contracts.errors import PipelineError

logger = logging.getLogger(__name__)

CHATML = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ('system', 'user', 'assistant', 'tool') -%}"
    "{{- raise_exception('unknown role: ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] + eos_token -}}"
    "{%- endif -%}"
    "{{- '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_TEST_CONVERSATION = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "First."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Second."},
]


@dataclass(frozen=True)
class ChatTemplate:
    """How conversations are rendered.

    Attributes:
        origin: ``own`` or ``chatml``.
        marked_by: Where the marks come from: ``own``, ``TRL`` or ``chatml``.
        supplied: Template to write in place of the model's, or None to keep the model's.
        training: Template to tokenize training rows with, or None when the template in use has the marks.
        trains_stop: Whether the token that ends an answer is supervised.
    """

    origin: Literal["own", "chatml"]
    marked_by: Literal["own", "TRL", "chatml"]
    supplied: str | None
    training: str | None
    trains_stop: bool


def choose_template(tokenizer: Any, wanted: Literal["own", "chatml"]) -> ChatTemplate:
    """Choose the template, set it on the tokenizer and verify on a test conversation that it marks every answer.

    Args:
        tokenizer: The base model's tokenizer; a supplied template is set on it.
        wanted: ``model_initialisation.chat_template``.

    Raises:
        PipelineError: There is no usable template.
    """
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    supplied = training = None
    marked_by: Literal["own", "TRL", "chatml"] = "own"
    if wanted == "chatml":
        if not tokenizer.eos_token:
            raise PipelineError(
                "chat_template: chatml ends each turn with the tokenizer's eos_token, but it has none; "
                "set eos_token in the model's tokenizer_config.json"
            )
        if own:
            logger.warning("chat_template: chatml replaces the model's own template; own is usually better")
        supplied, marked_by = CHATML, "chatml"
        tokenizer.chat_template = supplied
    elif not own:
        raise PipelineError(
            "the model has no chat template (a base model?); expected chat_template.jinja in its folder; "
            "set model_initialisation.chat_template: chatml to supply one"
        )
    elif not _MARK.search(own):
        training, marked_by = _load_marked_template(tokenizer), "TRL"
    return ChatTemplate(wanted, marked_by, supplied, training, _verify_marks(tokenizer, training))


def render_first(examples: pa.Table, tokenizer: Any) -> str:
    """The first training conversation as the model reads it."""
    turns = examples["messages"][0].as_py()
    return str(tokenizer.apply_chat_template(turns, tokenize=False))


def _load_marked_template(tokenizer: Any) -> str:
    from trl.chat_template_utils import get_training_chat_template

    try:
        marked = get_training_chat_template(tokenizer)
    except ValueError as error:
        raise PipelineError(
            "the model's chat template does not mark the answers and TRL has no marked version of it; expected "
            "{% generation %} ... {% endgeneration %} around the assistant's content; add them to a copy of the "
            "folder's chat_template.jinja, or set model_initialisation.chat_template: chatml"
        ) from error
    return str(marked)


def _verify_marks(tokenizer: Any, training: str | None) -> bool:
    """Whether the end of an answer is marked too; refuses a template that does not mark both test answers alone."""
    output = tokenizer.apply_chat_template(
        _TEST_CONVERSATION, chat_template=training, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    pairs = zip(output["input_ids"], output["assistant_masks"], strict=True)
    marked = [token for token, is_marked in pairs if is_marked]
    text = tokenizer.decode(marked)
    if "First." not in text or "Second." not in text or "One?" in text or "Two?" in text:
        raise PipelineError(
            f"the chat template marks {text!r} of a test conversation as answers; expected both answers and no "
            "question; correct its {% generation %} marks or set model_initialisation.chat_template: chatml"
        )
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    while marked and not tokenizer.decode([marked[-1]]).strip():
        marked.pop()
    stops = bool(marked) and marked[-1] in special
    if not stops:
        logger.warning(
            "the chat template excludes the end of the answer from the loss, so the model may not learn to "
            "stop; put the end-of-turn token inside {%% generation %%}, or set chat_template: chatml"
        )
    return stops
