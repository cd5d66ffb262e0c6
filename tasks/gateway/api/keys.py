"""API keys: generated here, shown once, stored as hashes.

A key is ``hep_<id>_<secret>``. The file has the id in clear text and a SHA-256 of the whole key: the secret
has 256 random bits, so a slow hash would add nothing and would slow every request.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json

logger = logging.getLogger(__name__)

KEY = re.compile(r"hep_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
HASH = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[\w.@-][\w.@ -]{0,63}")
REPAIR = "restore it, or delete it and run `heptune keys add NAME`"
# Seconds between two attempts to read a broken file.
RETRY_S = 1.0


@dataclass(frozen=True)
class Key:
    """A stored key.

    Attributes:
        id: First part of the key, 8 hex digits; identifies a key without revealing it.
        name: Name of its owner.
        sha256: Hash of the whole key.
        admin: Whether it may change what the gateway serves.
    """

    id: str
    name: str
    sha256: str
    admin: bool = False

    @property
    def logged_as(self) -> str:
        """Identifier of the key in the request log: 16 hex digits of its hash."""
        return self.sha256[:16]


def read_keys(path: Path) -> list[Key]:
    """Keys of a file; none where there is no file.

    Raises:
        PipelineError: The file is unreadable or not a list of keys.
    """
    try:
        rows: Any = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
    except orjson.JSONDecodeError as error:
        raise PipelineError(f"{path}: not JSON ({error}); {REPAIR}") from error
    if not isinstance(rows, list) or not all(map(_is_key, rows)):
        raise PipelineError(f"{path}: not a list of keys; {REPAIR}")
    return [Key(row["id"], row["name"], row["sha256"], row.get("admin") is True) for row in rows]


def _is_key(row: object) -> bool:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("id", "name", "sha256")):
        return False
    return HASH.fullmatch(row["sha256"]) is not None


def write_keys(path: Path, keys: list[Key]) -> None:
    """Replace the file; only its owner may read it."""
    rows = [{"id": k.id, "name": k.name, "sha256": k.sha256, **({"admin": True} if k.admin else {})} for k in keys]
    write_json(path, rows, private=True)


def add_key(path: Path, name: str, admin: bool = False) -> str:
    """Generate a key.

    Args:
        path: File of the keys.
        name: Name of its owner.
        admin: Whether it may change what the gateway serves.

    Returns:
        The key, which is stored as a hash only: show it now.

    Raises:
        PipelineError: The name is in use or invalid.
    """
    if not NAME.fullmatch(name):
        raise PipelineError(f"key name {name!r}; expected 1 to 64 letters, digits, spaces or . _ @ -")
    with changing(path):
        keys = read_keys(path)
        if any(key.name == name for key in keys):
            raise PipelineError(
                f'a key named "{name}" exists; choose another name or run `heptune keys remove "{name}"`'
            )
        number = secrets.token_hex(4)
        while any(key.id == number for key in keys):
            number = secrets.token_hex(4)
        key = f"hep_{number}_{secrets.token_urlsafe(32)}"
        write_keys(path, [*keys, Key(number, name, hash_key(key), admin)])
    return key


def changing(path: Path) -> FileLock:
    """A lock for reading the file and writing it again, so that two commands at once lose no key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f"{path.name}.lock"), timeout=10)


def remove_key(path: Path, name: str) -> None:
    """Revoke a key; a running gateway rejects it from the next request on.

    Raises:
        PipelineError: There is no such key.
    """
    with changing(path):
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

    A file that cannot be read any more leaves the keys as they were, and `problem` says why. Once there was a key, or
    where the file exists, keys stay required: neither revoking the last one nor a restart opens the gateway.

    Args:
        path: File written by `add_key`; without one, keys are not required.
        required: Require a key even without a file, which rejects every request.

    Raises:
        PipelineError: The file is broken from the start.
    """

    def __init__(self, path: Path, required: bool) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._required = required
        self._keys: dict[str, Key] = {}
        self._retry_at = 0.0
        self.problem = ""
        try:
            self._stamp = self._read_stamp()
        except OSError as error:
            raise PipelineError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
        self._take(read_keys(path))

    @property
    def required(self) -> bool:
        """Whether requests need a key, by the file as it is now."""
        self._reload()
        return self._required

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

    def _read_stamp(self) -> tuple[int, ...] | None:
        """What changes with the file; None without one."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return None
        return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size)

    def _take(self, keys: list[Key]) -> None:
        self._keys = {key.id: key for key in keys}
        self._required = self._required or self._stamp is not None

    def _reload(self) -> None:
        with self._lock:
            if self.problem and time.monotonic() < self._retry_at:
                return
            try:
                stamp = self._read_stamp()
                if stamp == self._stamp and not self.problem:
                    return
                keys = read_keys(self._path)
            except (PipelineError, OSError) as error:
                self._retry_at = time.monotonic() + RETRY_S
                if not self.problem:
                    logger.error("the keys of the gateway stay as they were: %s", error)
                self.problem = str(error)
                return
            if self.problem:
                logger.warning("%s: readable again, %d keys", self._path, len(keys))
            self.problem, self._stamp = "", stamp
            self._take(keys)
