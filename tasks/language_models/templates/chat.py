"""How a conversation becomes tokens: one function for training, evaluation, the parity proof and the gateway.

What is trained is what will be served. An answer is trained after the prompt that the template writes when it asks for
it (``add_generation_prompt``), and the tokens of that prompt are the same in both places:

* the prompt of the last answer is written as it is when served, then follow the answer and its end;
* what the template writes between prompt and answer only in training (Qwen3's empty ``<think>`` block) is left out,
  and what it writes only when served (DeepSeek-R1's ``<think>``) stays;
* an earlier answer is trained where the last prompt begins with the prompt of that answer. Templates that write the
  past differently, such as those that drop earlier reasoning, train the answers for which that holds and the last;
* answers that a row marks as not to be learned are context only;
* texts are cut at the beginning of every answer before they are tokenized, so that no token spans prompt and answer;
* control tokens inside a content are text (`tasks.language_models.templates.control_tokens`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from tasks.contracts.errors import PipelineError
from tasks.language_models.templates.control_tokens import ControlTokens
from tasks.language_models.templates.rendering import Rendering, TemplateRefusal, Turns

_PROBES = ("\ue000a\ue001", "\ue000b\ue001", "\ue000c\ue001")
# Of more answers in one conversation only so many prompts are written again to compare them, half of them the first.
_COMPARED = 64
# Places where an earlier answer may begin, tried before it counts as not found.
_TRIED = 8


class Span(NamedTuple):
    """A stretch of text that is tokenized on its own.

    Attributes:
        text: The text, with marks around control tokens that are data.
        supervised: Whether its tokens, up to the first end of an answer, carry loss.
        context: What stands before it: a control token, a line break where it continues a text, or nothing.
    """

    text: str
    supervised: bool = False
    context: str = ""


@dataclass(frozen=True)
class Written:
    """A conversation as the template writes it, ready to be tokenized.

    Attributes:
        prompt: Parts up to the last answer.
        answer: The last answer with what the template writes after it; None where there is no answer.
    """

    prompt: tuple[Span, ...]
    answer: Span | None


@dataclass(frozen=True)
class AnswerForm:
    """What a template writes around an answer, found on a test conversation.

    Attributes:
        inserted: Between the prompt that is served and the answer, in a whole conversation only.
        served_only: The end of the prompt that a whole conversation does not have before an answer.
        header: Before an answer of the past, from its last control token on.
        past_end: After an answer of the past, through the first control token; empty where there is none.
        after: After the last answer.
        end: Id of the token that ends an answer.
        writes_end: The template writes that token after the last answer; otherwise it is added.
        ends_past: The template writes a control token after answers of the past.
    """

    inserted: str
    served_only: str
    header: str
    past_end: str
    after: str
    end: int
    writes_end: bool
    ends_past: bool


class Chat:
    """A tokenizer with its chat template.

    Args:
        tokenizer: A fast tokenizer.

    Raises:
        PipelineError: It has no chat template, the template writes no answers, or nothing can end an answer.
    """

    def __init__(self, tokenizer: Any) -> None:
        template = own_template(tokenizer)
        self._tokenizer = tokenizer
        self._rendering = Rendering(template, tokenizer.special_tokens_map)
        self._control = ControlTokens(tokenizer, template)
        line_break = self._plain(["\n"])[0]
        # Such tokenizers, SentencePiece's above all, write a space before whatever they get.
        self._adds_space = self._plain(["\na"])[0] != [*line_break, *self._plain(["a"])[0]]
        self.form = self._find_form()

    @property
    def ends(self) -> frozenset[int]:
        """Ids that end an answer as it is trained."""
        return frozenset({self.form.end})

    def prompt_ids(self, turns: Turns) -> list[int]:
        """Token ids of a conversation up to where the model answers.

        Raises:
            TemplateRefusal: The template refuses the conversation.
        """
        marked = [self._control.mark(turn) for turn in turns]
        parts = self._cut(self._rendering.render(marked, answering=True), marked)
        return [token for ids in self._tokenize(parts) for token in ids]

    def answer_ids(self, turns: Turns) -> tuple[list[int], list[int]]:
        """Token ids of the prompt and of the last turn, an answer, with its end.

        Raises:
            TemplateRefusal: The template refuses the conversation.
        """
        (prompt, answer), *_ = self.encode([self.write(turns)])
        supervised = [token for token, marked in answer if marked]
        return [token for token, _ in prompt], supervised

    def ids_after(self, turns: Turns) -> list[int] | None:
        """Token ids from after the end of an answer, through turns that follow it, to where the model answers next.

        Args:
            turns: Those that follow the answer.

        Returns:
            The ids; None where the template does not write such turns after an answer.
        """
        asked, answered, _ = _PROBES
        before = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        marked = [self._control.mark(turn) for turn in turns]
        try:
            text = self._rendering.render([*before, *marked], answering=True)
        except TemplateRefusal:
            return None
        _, found, after = text.partition(answered)
        if not found or any(str(turn["content"]).strip() not in after for turn in marked):
            return None
        (tokens,) = self._tokenize([Span(after, False, self._context(answered))])
        return tokens[tokens.index(self.form.end) + 1 :] if self.form.end in tokens else tokens

    def write(self, turns: Turns, untrained: Collection[int] = ()) -> Written:
        """A conversation as text; turns after the last learned answer are left out, since they teach nothing.

        Args:
            turns: The conversation.
            untrained: Places of answers that are only context and carry no loss.

        Raises:
            TemplateRefusal: The template refuses the conversation, or writes the answer elsewhere.
        """
        answers = [
            number for number, turn in enumerate(turns) if turn["role"] == "assistant" and number not in untrained
        ]
        marked = [self._control.mark(turn) for turn in turns]
        if not answers:
            return Written(tuple(self._cut(self._rendering.render(marked, answering=False), marked)), None)
        prompt, answer = self._last_answer(marked[: answers[-1] + 1])
        past = self._cut(prompt, marked[: answers[-1]], self._trained_past(prompt, marked, answers[:-1]))
        return Written(tuple(past), Span(answer, True, self._context(prompt)))

    def encode(self, conversations: Sequence[Written]) -> list[tuple[list[tuple[int, bool]], list[tuple[int, bool]]]]:
        """Tokens of prompt and answer of each conversation, each token with whether it carries loss."""
        parts = [[*written.prompt, *([written.answer] if written.answer else [])] for written in conversations]
        ids = iter(self._tokenize([part for row in parts for part in row]))
        encoded = []
        for written in conversations:
            prompt = [pair for part in written.prompt for pair in self._supervise(part, next(ids), min)]
            answer: list[tuple[int, bool]] = []
            if written.answer is not None:
                tokens = next(ids)
                if not self.form.writes_end:
                    tokens = [*tokens, self.form.end]
                answer = self._supervise(written.answer, tokens, max)
            encoded.append((prompt, answer))
        return encoded

    def _supervise(self, part: Span, tokens: list[int], which: Callable[..., int]) -> list[tuple[int, bool]]:
        """Mark the tokens up to the end of an answer, or else up to the special token that ``which`` picks."""
        if not part.supervised:
            return [(token, False) for token in tokens]
        if self.form.end in tokens:
            last = tokens.index(self.form.end)
        else:
            # The end of a turn of another kind, such as a call of a tool; without one it ends with its text.
            special = (number for number, token in enumerate(tokens) if token in self._control.special_ids)
            last = which(special, default=len(tokens) - 1)
        return [(token, number <= last) for number, token in enumerate(tokens)]

    def _last_answer(self, turns: list[dict[str, Any]]) -> tuple[str, str]:
        """The prompt before the last turn as it is served, and the answer with what follows it."""
        number, content = len(turns), turns[-1].get("content")
        whole = self._rendering.render(turns, answering=False)
        if number == 1:  # nothing was asked, so the prompt is what the template writes before any answer
            before, after = self._around_answer(turns)
            if not whole.startswith(before):
                raise TemplateRefusal("turn 1 (assistant): what is written before the answer depends on the answer")
            return before, self._without_tail(whole[len(before) :], after)
        prompt = self._rendering.render(turns[:-1], answering=True)
        plain = not self.form.inserted and not self.form.served_only
        if plain and whole.startswith(prompt):
            return prompt, self._without_tail(whole[len(prompt) :], self.form.after)
        before, after = self._around_answer(turns)
        shared = _shared_beginning(prompt, before)
        # The answer may itself have what the prompt opens, such as <think>.
        opened = prompt[shared:].strip() or self._control.at_end(prompt.rstrip())
        opens = bool(opened) and isinstance(content, str) and content.startswith(opened)
        for beginning in (prompt,) if opens else (before, prompt):
            if whole.startswith(beginning) and not (opens and whole.startswith(before)):
                return prompt, self._without_tail(whole[len(beginning) :], after)
        if not isinstance(content, str):
            raise TemplateRefusal(f"turn {number} (assistant): the template writes the answer before its prompt ends")
        # The template rewrites answers of this kind, as if they were asked for by another prompt.
        text = content.removeprefix(opened).removeprefix("\n") if opens else content
        return prompt, self._without_tail(text + after, after)

    def _around_answer(self, turns: list[dict[str, Any]]) -> tuple[str, str]:
        """What the template writes before and after the last turn's content."""
        probe = _PROBES[0]
        text = self._rendering.render([*turns[:-1], {**turns[-1], "content": probe}], answering=False)
        before, found, after = text.rpartition(probe)
        if not found:
            raise TemplateRefusal(f"turn {len(turns)} (assistant): the template does not write the answer")
        return before, after

    def _without_tail(self, answer: str, after: str) -> str:
        """The answer without what follows it, where the template writes no end and one is added."""
        return answer if self.form.writes_end else answer.removesuffix(after)

    def _trained_past(self, prompt: str, turns: list[dict[str, Any]], answers: Sequence[int]) -> set[int]:
        """Places in the last prompt where the prompts of earlier answers end, as far as it begins with them."""
        half = _COMPARED // 2
        compared = answers if len(answers) <= _COMPARED else [*answers[:half], *answers[-half:]]
        places = set()
        for number in compared:
            if number:
                earlier = self._rendering.render(turns[:number], answering=True)
                if prompt.startswith(earlier):
                    places.add(len(earlier))
        if len(compared) < len(answers) and len(places) == len(compared):
            return {start for number, start, _ in self._past_answers(prompt, turns) if number in answers}
        return places

    def _cut(self, text: str, turns: list[dict[str, Any]], trained: Iterable[int] = ()) -> list[Span]:
        """A prompt in parts, each beginning with an earlier answer; those in ``trained`` carry loss."""
        places = set(trained)
        parts, done, supervised = [], 0, False
        for _, start, end in self._past_answers(text, turns):
            parts.append(Span(text[done:start], supervised, self._context(text[:done])))
            done, supervised = start, start in places
            if not self.form.ends_past:
                parts.append(Span(text[start:end], supervised, self._context(text[:start])))
                done, supervised = end, False
        parts.append(Span(text[done:], supervised, self._context(text[:done])))
        return [part for part in parts if part.text]

    def _past_answers(self, text: str, turns: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
        """Number, begin and end of the contents of earlier answers that stand where the template writes answers."""
        header = self.form.header
        spans: list[tuple[int, int, int]] = []
        place = 0
        for number, turn in enumerate(turns):
            content = turn.get("content")
            if turn["role"] != "assistant" or not isinstance(content, str) or not header:
                continue
            # Any text begins with a blank answer; only what ends it tells where it stands.
            is_blank = not content.strip()
            end = self.form.past_end if is_blank else ""
            if is_blank and not end:
                continue
            found = place
            for _ in range(_TRIED):
                found = text.find(header, found)
                if found < 0:
                    break
                found += len(header)
                fitting = next((c for c in (content, content.strip()) if text.startswith(c + end, found)), None)
                if fitting is not None:
                    spans.append((number, found, found + len(fitting)))
                    place = found + len(fitting)
                    break
        return spans

    def _context(self, before: str) -> str:
        """What a part continues: the control token in front of it, or a line break for any other text."""
        if not before or not self._adds_space:
            return ""
        return self._control.at_end(before) or "\n"

    def _tokenize(self, parts: Sequence[Span]) -> list[list[int]]:
        pieces = [(self._control.split(part.text), part.context) for part in parts]
        plain: dict[tuple[str, str], list[int]] = {}
        for texts, context in pieces:
            for number, (text, is_data) in enumerate(texts):
                if not is_data:
                    plain["\n" if number and self._adds_space else context, text] = []
        for key, ids in zip(plain, self._continued(list(plain)), strict=True):
            plain[key] = ids
        tokens = []
        for texts, context in pieces:
            row: list[int] = []
            for number, (text, is_data) in enumerate(texts):
                key = "\n" if number and self._adds_space else context, text
                row += self._control.as_text(text) if is_data else plain[key]
            tokens.append(row)
        return tokens

    def _continued(self, pieces: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Ids of texts that come after a context; the context's own are left out."""
        if not self._adds_space:
            return self._plain([text for _, text in pieces])
        contexts = {context: self._plain([context])[0] for context in {c for c, _ in pieces} if context}
        rows = self._plain([context + text for context, text in pieces])
        alone = self._plain([text for _, text in pieces])
        return [
            ids[len(before) :] if (before := contexts.get(context)) and ids[: len(before)] == before else own
            for (context, _), ids, own in zip(pieces, rows, alone, strict=True)
        ]

    def _plain(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        # The template has written the special tokens already.
        ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False)[
            "input_ids"
        ]
        return ids

    def _find_form(self) -> AnswerForm:
        asked, answered, again = _PROBES
        pair = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        prompt = self._rendering.render(pair[:1], answering=True)
        whole = self._rendering.render(pair, answering=False)
        past = self._rendering.render([*pair, {"role": "user", "content": again}], answering=True)
        before, found, after = whole.partition(answered)
        if not found or asked not in before or asked not in prompt:
            raise PipelineError(
                "the chat template does not write both turns of a question and its answer, in this order; expected "
                "every content in the text; set model_initialisation.chat_template: chatml"
            )
        shared = _shared_beginning(prompt, before)
        lead, past_found, follow = past.partition(answered)
        lead = lead.rpartition(asked)[2] if past_found else ""
        follow = follow.partition(again)[0] if past_found else ""
        end, follows = self._first_control(after), self._first_control(follow)
        token = end if end is not None else follows if follows is not None else self._tokenizer.eos_token_id
        if token is None:
            raise PipelineError(
                "the chat template writes no control token after an answer and the tokenizer has no eos_token, so the "
                "model cannot learn to stop; set eos_token in the model's tokenizer_config.json"
            )
        return AnswerForm(
            inserted=before[shared:],
            served_only=prompt[shared:],
            header=self._distinct_end(lead, follow),
            past_end=self._control.through_first(follow),
            after=after,
            end=int(token),
            writes_end=end is not None,
            ends_past=follows is not None,
        )

    def _distinct_end(self, lead: str, other: str) -> str:
        """The shortest end of a lead, from a control token on, that does not lead to a turn of another role too."""
        ends = [lead[start:] for start in reversed(self._control.starts(lead))]
        return next((end for end in ends if not other.endswith(end)), lead)

    def _first_control(self, text: str) -> int | None:
        return next((token for token in self._plain([text])[0] if token in self._control.ids), None) if text else None


def chat_of(tokenizer: Any) -> Chat:
    """The chat of a tokenizer as it is now, its template examined once.

    Raises:
        PipelineError: As `Chat`.
    """
    return _examined(tokenizer, own_template(tokenizer), len(tokenizer), str(tokenizer.special_tokens_map))


@lru_cache(maxsize=4)
def _examined(tokenizer: Any, _template: str, _tokens: int, _special: str) -> Chat:
    return Chat(tokenizer)


def own_template(tokenizer: Any) -> str:
    """The text of a tokenizer's chat template, of several the default.

    Raises:
        PipelineError: It has none.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise PipelineError(
            f"{tokenizer.name_or_path}: no chat template, so a conversation cannot be rendered; "
            "choose a base model that has one (an instruct or chat model)"
        )
    return str(template)


def _shared_beginning(left: str, right: str) -> int:
    """Length of the longest common beginning."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
