"""Guards that are causal language models: batches of written prompts to the text they answer and its probabilities.

A guard's prompt is written by the guard's own file, as it was published, and not by the folder's chat template: some
templates need arguments of their own, and that of Llama Guard 3 1B leaves out contents that are plain texts. Control
tokens inside a judged text are broken up by a space, so that no text ends the prompt and speaks for the guard.

A verdict is read where the answer begins, at its first token that is not white space: Llama Guard writes two line
breaks first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tasks.contracts.errors import PipelineError
from tasks.language_models.generation import context_length
from tasks.language_models.guards.guard import Device, GuardedExchange, Precision, find_device

# Names, sizes and times of a folder's files.
Stamp = tuple[tuple[str, int, int], ...]

# Together the words of a verdict have at least this probability where the guard knows them.
KNOWN = 0.5


class GuardReading(NamedTuple):
    """What a guard answered.

    Attributes:
        text: Its answer, without white space around it; None where the prompt is longer than its context.
        probabilities: Of each word that was asked for, as the first token of the answer that is not white space.
    """

    text: str | None
    probabilities: dict[str, float]

    def share(self, word: str) -> float | None:
        """Probability of a word among those asked for; None where the guard expects none of them."""
        total = sum(self.probabilities.values())
        return self.probabilities[word] / total if total >= KNOWN else None


class CausalGuard:
    """A loaded guard model.

    Args:
        path: Its folder.
        user: Name of the guard, for errors.
        device: Where to compute.
        precision: Number format of the weights.

    Raises:
        PipelineError: The folder holds no causal language model.
    """

    def __init__(self, path: str, user: str, device: Device, precision: Precision) -> None:
        if not (Path(path) / "config.json").is_file():
            raise PipelineError(f"guard {user}: {path} holds no config.json; set path to the guard's model folder")
        self._user, self._path = user, path
        self._model, self._tokenizer = _load(path, user, _stamp(path), find_device(device), precision)
        control = {token.content for token in self._tokenizer.added_tokens_decoder.values() if token.content.strip()}
        longest_first = sorted(control, key=lambda token: (-len(token), token))
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def quote(self, text: str) -> str:
        """A text without control tokens: each has a space after its first character."""
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def find_ids(self, words: Sequence[str]) -> dict[str, int]:
        """The first token of each word.

        Raises:
            PipelineError: Two words begin with the same token, so that the guard cannot tell them apart by it.
        """
        vocabulary = self._tokenizer.get_vocab()
        ids = {
            word: vocabulary[word] if word in vocabulary else self._tokenizer.encode(word, add_special_tokens=False)[0]
            for word in words
        }
        if len(set(ids.values())) < len(words):
            raise PipelineError(
                f"guard {self._user}: the tokenizer of {self._path} has no token of its own for each of "
                f"{' and '.join(words)}; expected the guard's tokenizer; set path to its model folder"
            )
        return ids

    def read(
        self, prompts: Sequence[str], new_tokens: int, batch_size: int, words: Sequence[str] = (), begins: bool = True
    ) -> list[GuardReading]:
        """Answer prompts greedily.

        Args:
            prompts: Texts as the guard was published, with their control tokens.
            new_tokens: Longest answer, in tokens.
            batch_size: Prompts at once.
            words: Words whose probability at the beginning of the answer is wanted.
            begins: Put the token that begins a text before each prompt; False where the prompts have it.
        """
        ids = self.find_ids(words)
        if not prompts:
            return []
        begin = self._tokenizer.bos_token_id
        before = [begin] if begins and begin is not None else []
        rows = [before + row for row in self._tokenizer(list(prompts), add_special_tokens=False)["input_ids"]]
        limit = context_length(self._model.config) or math.inf
        found = [GuardReading(None, dict.fromkeys(words, 0.0)) for _ in rows]
        order = sorted(range(len(rows)), key=lambda place: (-len(rows[place]), place))
        order = [place for place in order if len(rows[place]) + new_tokens <= limit]
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            for place, reading in zip(places, self._read([rows[p] for p in places], new_tokens, ids), strict=True):
                found[place] = reading
        return found

    def _read(self, rows: Sequence[Sequence[int]], new_tokens: int, ids: Mapping[str, int]) -> list[GuardReading]:
        import torch

        width = max(map(len, rows))
        tokens = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for number, row in enumerate(rows):
            tokens[number, width - len(row) :] = torch.tensor(row, dtype=torch.long)
            mask[number, width - len(row) :] = 1
        padding = self._tokenizer.pad_token_id
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=tokens.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                max_new_tokens=new_tokens,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                pad_token_id=self._tokenizer.eos_token_id if padding is None else padding,
                return_dict_in_generate=True,
                output_logits=bool(ids),
            )
        readings = []
        for number, answer in enumerate(output.sequences[:, width:].tolist()):
            probabilities = dict.fromkeys(ids, 0.0)
            if ids and (place := self._find_beginning(answer)) is not None:
                spread = torch.softmax(output.logits[place][number].float(), dim=-1)
                probabilities = {word: float(spread[token]) for word, token in ids.items()}
            readings.append(
                GuardReading(self._tokenizer.decode(answer, skip_special_tokens=True).strip(), probabilities)
            )
        return readings

    def _find_beginning(self, answer: Sequence[int]) -> int | None:
        """Place of the first token that is not white space; None where there is none."""
        return next((n for n, token in enumerate(answer) if self._tokenizer.decode([token]).strip()), None)

    def refuse_unknown(self, verdicts: Sequence[Any], readings: Sequence[GuardReading], expected: str) -> None:
        """Stop where most of the answers cannot be read: the folder holds another model.

        Args:
            verdicts: What was read; ``unsafe`` is None where it could not be.
            readings: The answers.
            expected: What the guard should answer.

        Raises:
            PipelineError: More than half of the answers that fit into the context cannot be read.
        """
        answered = [(v, r) for v, r in zip(verdicts, readings, strict=True) if r.text is not None]
        unread = [reading.text for verdict, reading in answered if verdict.unsafe is None]
        if answered and len(unread) > len(answered) / 2:
            raise PipelineError(
                f"guard {self._user}: {self._path} answers {_shorten(unread[0])!r} where {expected} is expected, "
                f"{len(unread)} of {len(answered)} times; set path to the folder of this guard, or choose another guard"
            )


def _stamp(path: str) -> Stamp:
    files = sorted(file for file in Path(path).iterdir() if file.is_file())
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@lru_cache(maxsize=1)
def _load(path: str, user: str, _files: Stamp, device: str, precision: Precision) -> tuple[Any, Any]:
    # Suites that share a guard load it once, and again when a file has changed.
    import torch
    from transformers import AutoTokenizer

    from tasks.language_models.folder.model_folder import load_model

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model = load_model(Path(path), torch.bfloat16 if precision == "bf16" else torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise PipelineError(
            f"guard {user}: {path} cannot be loaded as a causal language model ({why}); give it the guard's "
            "model folder with safetensors and a tokenizer"
        ) from error
    return model.to(device).eval(), tokenizer


def last_request(exchange: GuardedExchange) -> str:
    """The last turn of the user."""
    asked = [str(turn.get("content") or "") for turn in exchange.prompt if turn.get("role") == "user"]
    return asked[-1] if asked else ""


def _shorten(text: str | None, characters: int = 60) -> str:
    return (text or "")[:characters]
