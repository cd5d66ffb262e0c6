"""The commit that a branch of the Hugging Face hub is at, for who wrote the branch where a commit belongs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 3.0
HUB = "https://huggingface.co"


def describe_commit(section: Mapping[str, Any], revision: str) -> str:
    """Which commit to write, or where it stands.

    Args:
        section: A model (``{name: hub, id: owner/model}``) or a data set (``{name: hugging_face, path: owner/data}``).
        revision: The branch or tag.
    """
    is_model = section.get("name") == "hub"
    name = str(section.get("id" if is_model else "path") or "OWNER/NAME")
    revision = revision if re.fullmatch(r"[\w./-]+", revision) else "main"
    if found := find_commit(name, revision, is_model, section.get("endpoint")):
        return f"a commit, 40 hex digits; {revision} of {name} is at {found} now"
    endpoint = section.get("endpoint") or os.environ.get("HF_ENDPOINT") or HUB
    address = f"{endpoint}/{'' if is_model else 'datasets/'}{name}"
    return f"a commit, 40 hex digits, as `git ls-remote {address} {revision}` or {address}/commits/{revision} shows it"


def find_commit(name: str, revision: str, is_model: bool, endpoint: str | None = None) -> str | None:
    """The commit of a branch or tag; None where the hub does not say so within seconds."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return None
    from httpx2 import HTTPError  # the hub client's HTTP library, whose errors it does not wrap
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi(endpoint=endpoint)
    ask = hub.model_info if is_model else hub.dataset_info
    try:
        found = ask(name, revision=revision, timeout=TIMEOUT_S).sha
    except (HTTPError, HfHubHTTPError, HFValidationError, OSError):
        return None
    return str(found) if found else None
