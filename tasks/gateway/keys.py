"""API keys: generated here, shown once, stored as hashes.

A key is ``hep_<id>_<secret>``. The file has the id in clear text and a SHA-256 of the whole key: the secret
has 256 random bits, so a slow hash would add nothing and would slow every request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json

KEY = re.compile(r"hep_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
NAME = re.compile(r"[\w.@-][\w.@ -]{0,63}")


@dataclass(frozen=True)
class Key:
    """A stored key.

    Attributes:
        id: First part of the key, 8 hex digits; identifies a key without revealing it.
        name: Name of its owner.
        sha256: Hash of the whole key.
    """

    id: str
    name: str
    sha256: str

    @property
    def logged_as(self) -> str:
        """Identifier of the key in the request log: 16 hex digits of its hash."""
        return self.sha256[:16]


def read_keys(path: Path) -> list[Key]:
    """Keys of a file; none where there is no file.

    Raises:
        PipelineError: The file is not a list of keys.
    """
    if not path.is_file():
        return []
    rows: Any = read_json(path)
    try:
        return [Key(str(row["id"]), str(row["name"]), str(row["sha256"])) for row in rows]
    except (KeyError, TypeError) as error:
        raise PipelineError(f"{path}: not a list of keys; delete it and run `heptune keys add NAME`") from error


def write_keys(path: Path, keys: list[Key]) -> None:
    """Replace the file; only its owner may read it."""
    write_json(path, [{"id": key.id, "name": key.name, "sha256": key.sha256} for key in keys])
    path.chmod(0o600)


def add_key(path: Path, name: str) -> str:
    """Generate a key.

    Returns:
        The key, which is stored as a hash only: show it now.

    Raises:
        PipelineError: The name is in use or invalid.
    """
    keys = read_keys(path)
    if not NAME.fullmatch(name):
        raise PipelineError(f"key name {name!r}; expected 1 to 64 letters, digits, spaces or . _ @ -")
    if any(key.name == name for key in keys):
        raise PipelineError(f'a key named "{name}" exists; choose another name or run `heptune keys remove "{name}"`')
    number = secrets.token_hex(4)
    while any(key.id == number for key in keys):
        number = secrets.token_hex(4)
    key = f"hep_{number}_{secrets.token_urlsafe(32)}"
    write_keys(path, [*keys, Key(number, name, hash_key(key))])
    return key


def remove_key(path: Path, name: str) -> None:
    """Revoke a key; a running gateway rejects it from the next request on.

    Raises:
        PipelineError: There is no such key.
    """
    keys = read_keys(path)
    if all(key.name != name for key in keys):
        names = ", ".join(sorted(key.name for key in keys)) or "none"
        raise PipelineError(f'no key named "{name}"; there are: {names}')
    write_keys(path, [key for key in keys if key.name != name])


def hash_key(key: str) -> str:
    """SHA-256 of a key, 64 hex digits."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keyring:
    """The keys of a running gateway; reloads the file when it changes.

    Args:
        path: File written by `add_key`.
        required: Require a key even when there is none, which rejects every request.
    """

    def __init__(self, path: Path, required: bool) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._reload()
        # Revoking the last key must not turn authentication off.
        self.required = required or bool(self._keys)

    def is_empty(self) -> bool:
        """Whether there are no keys."""
        return not self._keys

    def find(self, given: str) -> Key | None:
        """The key that a client sent, if it is valid; compared in constant time."""
        self._reload()
        matched = KEY.fullmatch(given)
        known = self._keys.get(matched[1]) if matched else None
        expected = known.sha256 if known else hash_key("")
        same = hmac.compare_digest(hash_key(given), expected)
        return known if same else None

    def _reload(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
        except FileNotFoundError:
            stamp = (0, 0)
        with self._lock:
            if stamp != self._stamp:
                self._keys = {key.id: key for key in read_keys(self._path)}
                self._stamp = stamp
