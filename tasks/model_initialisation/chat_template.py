"""The chat template: the model's own or a supplied one, examined before anything is trained with it.

Where the answers are is found by writing prompts (`tasks.language_models.templates.chat`), so any template will do that
writes a question and its answer in this order. Marks around the answers, ``{% generation %}`` in the model's own
template or in TRL's edition of it, are a second opinion: where they mark something else, the template is refused.

What differs between the prompt that is served and the text of a whole conversation is said, since the base may know
only one of them, and a template that writes today's date gets a fixed one, written into the template itself: so the
release writes it too, whoever serves it. Arguments of a template (Qwen3's ``enable_thinking``) are written into it the
same way, and so is the folding of turns whose role it does not know into those of the user.

``chatml`` supplies the format of OpenAI's ChatML, each turn ended by the tokenizer's own end-of-text token: base
models were trained with that token, generation stops at it, and no row has to be added to the embeddings.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Literal

import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.language_models.encoding import encode_examples
from tasks.language_models.templates.chat import Chat, chat_of, own_template
from tasks.language_models.templates.rendering import TEMPLATE_DATE, Rendering, find_arguments, find_constants
from tasks.model_initialisation.params import FoldedRole

logger = logging.getLogger(__name__)

Argument = bool | int | float | str
NO_ARGUMENTS: Mapping[str, Argument] = MappingProxyType({})
MarkedBy = Literal["own", "TRL", "chatml", "nothing"]

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
_FOLD = (
    "{%- macro text_of(turn) -%}{%- if turn['content'] is string -%}{{- turn['content'] -}}{%- else -%}"
    "{{- turn['content'] | map(attribute='text') | join('\n') -}}{%- endif -%}{%- endmacro -%}"
    "{%- set folded = namespace(turns=[], open=false) -%}"
    "{%- for turn in messages -%}"
    "{%- set folds = turn['role'] in ROLES -%}"
    "{%- set after_user = folded.turns and folded.turns[-1]['role'] == 'user' -%}"
    "{%- if after_user and (folds or (turn['role'] == 'user' and folded.open)) -%}"
    "{%- set text = text_of(folded.turns[-1]) ~ '\n\n' ~ text_of(turn) -%}"
    "{%- set content = text if turn['content'] is string else [{'type': 'text', 'text': text}] -%}"
    "{%- set folded.turns = folded.turns[:-1] + [{'role': 'user', 'content': content}] -%}"
    "{%- elif folds -%}"
    "{%- set folded.turns = folded.turns + [{'role': 'user', 'content': turn['content']}] -%}"
    "{%- else -%}"
    "{%- set folded.turns = folded.turns + [turn] -%}"
    "{%- endif -%}"
    "{%- set folded.open = folds or (folded.open and turn['role'] == 'user') -%}"
    "{%- endfor -%}"
    "{%- set messages = folded.turns +%}"
)
_DATE_MACRO = "{%- macro strftime_now(format) -%}"
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SHOWN_TOKENS = 2048
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
        marked_by: Where the marks come from that were compared: ``own``, ``TRL``, ``chatml`` or ``nothing``.
        supplied: Template to write in place of the model's, or None to keep the model's.
        end: Text of the token that ends an answer.
        remarks: What an engineer should know about training with it, a sentence each.
    """

    origin: Literal["own", "chatml"]
    marked_by: MarkedBy
    supplied: str | None
    end: str
    remarks: tuple[str, ...]


def choose_template(
    tokenizer: Any,
    wanted: Literal["own", "chatml"],
    today: date = TEMPLATE_DATE,
    arguments: Mapping[str, Argument] = NO_ARGUMENTS,
    fold_roles: Sequence[FoldedRole] = (),
) -> ChatTemplate:
    """Choose the template, set it on the tokenizer and examine on a test conversation how it writes answers.

    Args:
        tokenizer: The base model's tokenizer; a supplied template is set on it.
        wanted: ``model_initialisation.chat_template``.
        today: ``model_initialisation.template_date``.
        arguments: ``model_initialisation.template_arguments``.
        fold_roles: ``model_initialisation.fold_roles``.

    Raises:
        PipelineError: There is no usable template, or it does not read an argument.
    """
    supplied = None
    if wanted == "chatml":
        if not tokenizer.eos_token:
            raise PipelineError(
                "chat_template: chatml ends each turn with the tokenizer's eos_token, but it has none; "
                "set eos_token in the model's tokenizer_config.json"
            )
        if tokenizer.chat_template:
            logger.warning("chat_template: chatml replaces the model's own template; own is usually better")
        supplied = tokenizer.chat_template = CHATML
    elif not tokenizer.chat_template:
        raise PipelineError(
            "the model has no chat template (a base model?); expected chat_template.jinja in its folder; "
            "set model_initialisation.chat_template: chatml to supply one"
        )
    own = supplied or own_template(tokenizer)
    chat_of(tokenizer)  # one that writes no conversation is told so before TRL looks at it
    marked_by: MarkedBy
    marked_by, marked = ("chatml", CHATML) if supplied else _find_marks(own, tokenizer)
    template = fold_turns(set_arguments(fix_date(own, today), arguments), fold_roles)
    if supplied or template != own:
        supplied = tokenizer.chat_template = template
    chat = chat_of(tokenizer)
    _verify_prompts(chat)
    if marked is not None:
        _verify_marks(tokenizer, write_arguments(fix_date(marked, today), arguments))
    remarks = tuple(_remarks(chat, tokenizer, fix_date(own, today) != own, today, arguments))
    if fold_roles:
        remarks += (f"turns of {' and '.join(sorted(set(fold_roles)))} are written into those of the user, by choice",)
    for remark in remarks:
        logger.warning("chat template: %s", remark)
    return ChatTemplate(wanted, marked_by, supplied, str(tokenizer.convert_ids_to_tokens(chat.form.end)), remarks)


def render_first(examples: pa.Table, tokenizer: Any) -> str:
    """The first training conversation as the model reads it."""
    encoded = encode_examples(examples.slice(0, 1), tokenizer, max_tokens=_SHOWN_TOKENS)
    return str(tokenizer.decode(encoded["input_ids"][0].as_py()))


def fix_date(template: str, today: date) -> str:
    """A template that writes a fixed date where it asks for today's; any other template stays as it is.

    Args:
        template: The chat template's text.
        today: The date.
    """
    if "strftime_now" not in template or _DATE_MACRO in template:  # that of a release has its date already
        return template
    formats = sorted(text for text in find_constants(template) if "%" in text)
    branches = "".join(
        f"{{%- {'elif' if number else 'if'} format == {text!r} -%}}{{{{- {today.strftime(text)!r} -}}}}"
        for number, text in enumerate(formats)
    )
    otherwise = "{{- raise_exception('the template asks for a date in a format that is not known beforehand') -}}"
    body = f"{branches}{{%- else -%}}{otherwise}{{%- endif -%}}" if branches else otherwise
    # The plus keeps the line break that may open the template.
    return f"{_DATE_MACRO}{body}{{%- endmacro +%}}{template}"


def set_arguments(template: str, arguments: Mapping[str, Argument]) -> str:
    """A template with these values for names that it reads.

    Raises:
        PipelineError: It does not read a name, so that its value would change nothing.
    """
    if write_arguments("", arguments) in template:  # that of a release has them already
        return template
    read = find_arguments(template)
    if unread := sorted(arguments.keys() - read):
        names = f"it reads {', '.join(sorted(read))}" if read else "it takes no arguments"
        raise PipelineError(
            f"model_initialisation.template_arguments: the chat template does not read {', '.join(unread)}; {names}; "
            "correct the name or remove it"
        )
    return write_arguments(template, arguments)


def write_arguments(template: str, arguments: Mapping[str, Argument]) -> str:
    """A template that begins by setting names to values; without any it stays as it is."""
    if not arguments:
        return template
    # The plus keeps the line break that may open the template.
    return "".join(f"{{%- set {name} = {value!r} +%}}" for name, value in sorted(arguments.items())) + template


def fold_turns(template: str, roles: Sequence[FoldedRole]) -> str:
    """A template that first writes the turns of some roles into those of the user.

    The text of a system turn goes before that of the user's next turn; the result of a tool becomes a turn of the
    user's, together with what the user says next to it. Without roles the template stays as it is.

    Args:
        template: The chat template's text.
        roles: Roles that it does not write.
    """
    fold = _FOLD.replace("ROLES", repr(sorted(set(roles))))
    if not roles or fold in template:  # that of a release folds already
        return template
    # The plus keeps the line break that may open the template.
    return fold + template


def _find_marks(own: str, tokenizer: Any) -> tuple[MarkedBy, str | None]:
    """A template that marks the answers, where there is one, and whose it is."""
    if _MARK.search(own):
        return "own", own
    from trl.chat_template_utils import get_training_chat_template

    try:
        return "TRL", get_training_chat_template(tokenizer)
    except ValueError:  # TRL has no edition of this template
        return "nothing", None


def _verify_prompts(chat: Chat) -> None:
    """Refuse a template under which the tokens before a trained answer are not those of its prompt when served.

    Raises:
        PipelineError: It refuses a plain conversation, or names the turn whose prompt differs.
    """
    written = chat.encode([chat.write(_TEST_CONVERSATION)])
    tokens = [pair for part in written[0] for pair in part]
    starts = {n for n, (_, marked) in enumerate(tokens) if marked and not (n and tokens[n - 1][1])}
    for number in (1, 3):
        prompt = chat.prompt_ids(_TEST_CONVERSATION[:number])
        if number == 1 and len(prompt) not in starts:
            continue  # an answer of the past that this template writes differently, which carries no loss
        if [token for token, _ in tokens[: len(prompt)]] != prompt or len(prompt) not in starts:
            raise PipelineError(
                f"the tokens before the answer of turn {number + 1} of a test conversation are not those of its prompt "
                "when it is served; correct chat_template.jinja or set model_initialisation.chat_template: chatml"
            )


def _verify_marks(tokenizer: Any, marked: str) -> None:
    """Refuse a template whose marks are not around both test answers alone."""
    output = tokenizer.apply_chat_template(
        Rendering(marked, tokenizer.special_tokens_map).as_messages(_TEST_CONVERSATION),
        chat_template=marked,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    pairs = zip(output["input_ids"], output["assistant_masks"], strict=True)
    text = tokenizer.decode([token for token, is_marked in pairs if is_marked])
    if "First." not in text or "Second." not in text or "One?" in text or "Two?" in text:
        raise PipelineError(
            f"the chat template marks {text!r} of a test conversation as answers; expected both answers and no "
            "question; correct its {% generation %} marks or set model_initialisation.chat_template: chatml"
        )


def _remarks(chat: Chat, tokenizer: Any, dated: bool, today: date, arguments: Mapping[str, Argument]) -> Iterator[str]:
    form = chat.form
    end = tokenizer.convert_ids_to_tokens(form.end)
    if form.inserted.strip():
        yield (
            f"before an answer it writes {form.inserted!r} in a whole conversation, but not in the prompt that is "
            "served; answers are trained and served without it"
        )
    if form.served_only.strip():
        yield (
            f"the prompt that is served ends with {form.served_only!r}, which a whole conversation has not; answers "
            "are trained and served after it"
        )
    supervised = sum(marked for _, marked in chat.encode([chat.write(_TEST_CONVERSATION)])[0][0])
    if not supervised:
        yield (
            "it writes earlier answers of a conversation differently from the prompt they answered, so only the last "
            "answer of a conversation carries loss"
        )
    if not form.writes_end:
        yield f"it writes no end after the last answer; {end!r} is trained as the end"
    if dated:
        yield f"it writes today's date, which is fixed to {today}; model_initialisation.template_date sets another"
    if arguments:
        yield f"it is given {', '.join(f'{name}={value!r}' for name, value in sorted(arguments.items()))}"
