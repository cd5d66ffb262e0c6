"""Adapters beside the model that answers: which are wanted, and the same ones in every engine that takes over.

An adapter is a folder of the store that `heptune adapters` writes. Requests for ``<model>:<adapter>`` are answered
with it, in one batch with all others. It must have been trained on the very weights that are served. A new champion has
others; an adapter that does not fit it is given up when it takes over, and logged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from tasks.contracts.errors import PipelineError
from tasks.gateway.engine import Engine
from tasks.training.stored_adapter import read_adapter

logger = logging.getLogger(__name__)


class AdapterShelf:
    """The adapters that a gateway serves.

    Args:
        store: Folder of the adapters, each in a folder of its name; None: there is none.
        names: Adapters that are loaded from the start.
    """

    def __init__(self, store: Path | None, names: Sequence[str] = ()) -> None:
        self._store = store
        self._wanted = list(dict.fromkeys(names))
        self._lock = threading.Lock()

    def equip(self, engine: Engine) -> Engine:
        """Load the wanted adapters into a new engine; those that it refuses are wanted no longer."""
        with self._lock:
            for name in list(self._wanted):
                try:
                    self._load(name, engine)
                except PipelineError as error:
                    self._wanted.remove(name)
                    logger.error("adapter %s is not served: %s", name, error)
        return engine

    def load(self, name: str, engine: Engine) -> None:
        """Serve an adapter.

        Raises:
            PipelineError: There is none of this name, or it does not fit the model that answers.
        """
        with self._lock:
            self._load(name, engine)
            if name not in self._wanted:
                self._wanted.append(name)

    def unload(self, name: str, engine: Engine) -> None:
        """Serve an adapter no longer; the requests that it answers are finished first."""
        with self._lock:
            self._wanted = [wanted for wanted in self._wanted if wanted != name]
            engine.unload_adapter(name)

    def _load(self, name: str, engine: Engine) -> None:
        if self._store is None:
            raise PipelineError(f"adapter {name}: this gateway has no folder of adapters; start it with one")
        engine.load_adapter(read_adapter(self._store, name))
