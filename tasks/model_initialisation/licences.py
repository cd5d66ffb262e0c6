"""The licence of a base model, as its card, its configuration or its licence file states it, and the deny list.

``licenses: {deny: ["cc-by-nc-*", llama2]}`` stops at a licence that matches a pattern (``*`` stands for anything, case
does not matter). Names are those of the model card, which are the hub's (https://huggingface.co/docs/hub/repositories-licenses).
A licence that is not stated cannot be denied; it is warned of.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, find_json
from tasks.model_initialisation.checks import CheckedModel

logger = logging.getLogger(__name__)

UNKNOWN = "not stated"
_KEYS = ("license", "license_name")


def find_licence(folder: Path, config: Mapping[str, Any]) -> str:
    """What the files say: names, separated by commas, else the licence file, else `UNKNOWN`.

    A card may say ``other`` and give its own name beside it, which is then the one that counts.

    Args:
        folder: The model's folder; of a release its card stands above it.
        config: Content of ``config.json``.
    """
    cards = [folder / "README.md"]
    if "release" in find_json(folder.parent / NAME):
        cards.append(folder.parent / "README.md")
    for card in cards:
        if names := join_names(read_front_matter(card)):
            return names
    if isinstance(config.get("license"), str):
        return str(config["license"])
    files = sorted(path.name for path in folder.iterdir() if path.name.upper().startswith("LICENSE"))
    return f"see {files[0]}" if files else UNKNOWN


def join_names(card: Mapping[str, Any]) -> str:
    """The names of a card's metadata, separated by commas; ``other`` only where nothing else is given."""
    found = [card.get(key) for key in _KEYS]
    names = [str(name) for value in found for name in (value if isinstance(value, list | tuple) else [value]) if name]
    told = [name for name in names if name != "other"]
    return ", ".join(dict.fromkeys(told or names))


def read_front_matter(card: Path) -> dict[str, list[str]]:
    """Keys of the card's front matter to their texts; lists in both of YAML's notations."""
    lines = card.read_text("utf-8", errors="replace").splitlines() if card.is_file() else []
    if not lines or lines[0].strip() != "---":
        return {}
    content: dict[str, list[str]] = {}
    key = ""
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if line.lstrip().startswith("- "):
            content.setdefault(key, []).extend(_texts(line.lstrip()[2:]))
        elif not line.startswith((" ", "\t", "#")) and ":" in line:
            key, _, value = line.partition(":")
            content[key] = list(_texts(value))
    return content


def _texts(value: str) -> Iterator[str]:
    value = value.strip()
    parts = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
    yield from (text for part in parts if (text := part.strip().strip("\"'")))


def check_licence(base: CheckedModel, deny: Sequence[str]) -> str:
    """The licence of a checked model, if it is allowed.

    Args:
        base: The model.
        deny: ``model_initialisation.licenses.deny``.

    Raises:
        PipelineError: It is on the deny list.
    """
    licence = find_licence(base.folder, base.config)
    refuse_denied(str(base.folder), licence, deny)
    return licence


def refuse_denied(model: str, licence: str, deny: Sequence[str]) -> None:
    """Refuse a licence on the deny list; warn of one that is not stated.

    Raises:
        PipelineError: A name of it matches a pattern.
    """
    for name in licence.split(", "):
        for pattern in deny:
            if fnmatch.fnmatchcase(name.lower(), pattern.lower()):
                raise PipelineError(
                    f"{model}: its licence is {name}, which model_initialisation.licenses.deny ({pattern}) rules out; "
                    "take another model, or correct the list"
                )
    if deny and (licence == UNKNOWN or licence.startswith("see ")):
        logger.warning(
            "%s: its licence is %s, so model_initialisation.licenses.deny says nothing about it; find it out before "
            "you distribute what is trained",
            model,
            licence,
        )
