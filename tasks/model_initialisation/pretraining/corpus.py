"""The pretraining corpus: novels, news posts and general dialogue, as token windows.

Text comes from JSON Lines files (plain, gz or xz) with a ``text`` or a ``body`` field. Documents are
held out by the hash of their ``id``, so that every run has the same held-out set.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import Tokenizer

from tasks.contracts.errors import PipelineError
from tasks.model_initialisation.pretraining.dialogue import sample_dialogue
from tasks.model_initialisation.pretraining.tokenizer import END, ROLES, START

HELD_OUT_PER_MILLE = 20
SHORTCODE = re.compile(r"\{\{[<%].*?[%>]\}\}", re.DOTALL)
MARKDOWN_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
TAG = re.compile(r"<[^>]{1,200}>")


def read_documents(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ``(id, text)`` of every row of a JSON Lines file.

    Raises:
        PipelineError: The file is missing, or a row has neither ``text`` nor ``body``.
    """
    if not path.is_file():
        raise PipelineError(f"{path}: no such corpus file; give --corpus the folder that holds it")
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            row = orjson.loads(line)
            text = row.get("text", row.get("body"))
            if text is None:
                raise PipelineError(f'{path}:{number}: neither "text" nor "body"; expected one of them')
            if text := plain_text(text):
                yield str(row.get("id", number)), text


def plain_text(text: str) -> str:
    """Plain text without Markdown and Hugo markup."""
    text = SHORTCODE.sub(" ", text)
    text = MARKDOWN_LINK.sub(r"\1", text)
    text = TAG.sub(" ", text)
    return re.sub(r"[ \t]+", " ", text.replace("\\", "")).strip()


def is_held_out(document_id: str) -> bool:
    digest = hashlib.sha256(document_id.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 1000 < HELD_OUT_PER_MILLE


def frequent_words(texts: list[str], limit: int = 6000) -> list[str]:
    """Lower-case words of 3 to 10 letters, most frequent first, as fillers for dialogues."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(re.findall(r"\b[a-z]{3,10}\b", text[:200_000]))
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]]


def render_dialogue(messages: list[dict[str, str]]) -> str:
    """A dialogue exactly as the chat template of the base model writes it."""
    return "".join(f"{ROLES[m['role']]}{m['content']}{END}" for m in messages)


def sample_dialogues(count: int, seed: int, words: list[str]) -> list[str]:
    rng = random.Random(seed)
    return [render_dialogue(sample_dialogue(rng, words)) for _ in range(count)]


def encode(texts: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """All documents concatenated as uint16 token ids, each after a start token."""
    ids: list[np.ndarray] = []
    for offset in range(0, len(texts), 256):
        batch = [START + text for text in texts[offset : offset + 256]]
        ids += [np.asarray(e.ids, dtype=np.uint16) for e in tokenizer.encode_batch(batch)]
    return np.concatenate(ids)


def split_long(text: str, limit: int = 20_000) -> list[str]:
    """Long documents split at line ends, so that they are encoded in parallel."""
    pieces, start = [], 0
    while len(text) - start > limit:
        end = text.rfind("\n", start, start + limit)
        end = end if end > start else start + limit
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]
