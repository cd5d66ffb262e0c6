"""Stores that fsspec knows: which paths lie in one, the secrets of its options, and its errors as one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from tasks.contracts.errors import PipelineError, raise_all

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+(::|://)", re.IGNORECASE)


class Stored(Protocol):
    """What a source says about its store; its params are those of `Files`."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def storage(self) -> dict[str, Any]: ...
    @property
    def storage_secrets(self) -> dict[str, str]: ...


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return _SCHEME.match(path) is not None


def is_web(path: str) -> bool:
    """Whether a path is a URL of the web."""
    return path.partition(":")[0].lower() in ("http", "https") and is_remote(path)


def read_secrets(names: Mapping[str, str], title: str) -> dict[str, str]:
    """Options whose values stand in environment variables.

    Args:
        names: Option to the name of its variable.
        title: Name of the source, for messages.

    Raises:
        PipelineError: Variables that are not set, all at once.
    """
    missing = [variable for variable in names.values() if not os.environ.get(variable)]
    raise_all([f'source "{title}": the environment variable {name} is not set; export it' for name in missing], title)
    return {option: os.environ[variable] for option, variable in names.items()}


def hide_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """A message without the values of the secrets, and on one line."""
    for variable in secrets.values():
        if os.environ.get(variable):
            text = text.replace(os.environ[variable], "***")
    return " ".join(text.split())[:300]


@contextmanager
def explain_store(source: Stored, place: str) -> Iterator[None]:
    """Turn what a store raises into one line."""
    try:
        yield
    except PipelineError:
        raise
    except ImportError as error:
        raise PipelineError(
            f'source "{source.title or source.name}": {source.place} needs a package ({error}); install it, '
            "for s3:// with `pip install 'heptune[s3]'`"
        ) from error
    except Exception as error:
        # Every store raises errors of its own, with no common base.
        reason = hide_secrets(f"{type(error).__name__}: {error}", source.storage_secrets)
        raise PipelineError(
            f'source "{source.title or source.name}": {place} cannot be read ({reason}); '
            "check the URL, storage and storage_secrets"
        ) from error
