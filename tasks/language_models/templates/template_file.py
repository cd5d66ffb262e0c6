"""A chat template as text, from a model's folder or a ``.jinja`` file, without loading a tokenizer.

A folder's template is ``chat_template.jinja``, else ``chat_template`` in ``tokenizer_config.json``; of several there it
is the one called ``default``, as transformers takes it. Special tokens are those of the config beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.contracts.errors import PipelineError

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"


@dataclass(frozen=True)
class TemplateFile:
    """A chat template and where it is.

    Attributes:
        path: The file that has it.
        text: The template.
        sha256: Hash of the template's bytes.
        special_tokens: Names such as ``eos_token`` to their texts.
    """

    path: Path
    text: str
    sha256: str
    special_tokens: Mapping[str, str]


def read_template(place: Path) -> TemplateFile:
    """The chat template of a model.

    Args:
        place: Folder of a model, or a file with a template.

    Raises:
        PipelineError: There is no template, or its file cannot be read.
    """
    folder = place if place.is_dir() else place.parent
    file = place / TEMPLATE_FILE if place.is_dir() else place
    config = _read_config(folder / CONFIG_FILE)
    special_tokens = {name: text for name, value in config.items() if (text := _token_text(name, value)) is not None}
    if file.is_file():
        content = file.read_bytes()
    elif place.is_dir() and (own := _default_template(config.get("chat_template"))) is not None:
        file, content = folder / CONFIG_FILE, own.encode()
    else:
        there = "a folder without" if place.is_dir() else "nothing there, so no"
        raise PipelineError(
            f"{place}: {there} chat template; expected a folder with {TEMPLATE_FILE} or with chat_template in "
            f"{CONFIG_FILE}, or a .jinja file; put one there or name another place"
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise PipelineError(f"{file}: not UTF-8 text ({error.reason}); expected a Jinja template") from error
    return TemplateFile(file, text, hashlib.sha256(content).hexdigest(), special_tokens)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise PipelineError(f"{path}: not JSON ({error}); save the tokenizer again with transformers") from error
    if not isinstance(config, dict):
        raise PipelineError(f"{path}: {type(config).__name__}, expected a JSON object; save the tokenizer again")
    return config


def _token_text(name: str, value: object) -> str | None:
    """The text of a special token, written as text or as an object with ``content``; None for any other setting."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if name.endswith("_token") and isinstance(text, str) else None


def _default_template(value: object) -> str | None:
    if isinstance(value, list):
        named = {each.get("name"): each.get("template") for each in value if isinstance(each, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None
