"""A model of which each row of a batch is answered with an adapter of its own, in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError

PLAIN = "__base__"  # PEFT's name for no adapter


class AdaptedModel:
    """A causal language model, and LoRA adapters of it (PEFT's mixed batches). All of it is used on one thread.

    Without an adapter it is the model itself.

    Args:
        model: A causal language model in evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self._plain = self._model = model
        self._coming: list[str | None] = []
        self.names: frozenset[str] = frozenset()

    @property
    def device(self) -> Any:
        return self._plain.device

    @property
    def config(self) -> Any:
        return self._plain.config

    @property
    def generation_config(self) -> Any:
        return self._plain.generation_config

    @property
    def prefix(self) -> Any:
        """Keys and values that every row begins with, see `tasks.gateway.batching.prefixed_model`; None: none."""
        return getattr(self._plain, "prefix", None)

    @contextmanager
    def rows(self, adapters: Sequence[str | None]) -> Iterator[None]:
        """Say which adapter the rows of the calls in the block have, in their order; None: none."""
        self._coming = list(adapters)
        try:
            yield
        finally:
            self._coming = []

    def __call__(self, input_ids: Any, **inputs: Any) -> Any:
        """One forward pass; the arguments are the model's."""
        if not self.names:
            return self._model(input_ids=input_ids, **inputs)
        count = len(input_ids)
        adapters, self._coming = self._coming[:count], self._coming[count:]
        chosen = [name or PLAIN for name in adapters] + [PLAIN] * (count - len(adapters))
        return self._model(input_ids=input_ids, adapter_names=chosen, **inputs)

    def add(self, name: str, folder: Path) -> None:
        """Put an adapter beside the others.

        Args:
            name: Its name, which no other has.
            folder: A PEFT adapter.

        Raises:
            PipelineError: It does not fit the model.
        """
        from peft import PeftModel

        options: dict[str, Any] = {"adapter_name": name, "torch_device": str(self.device)}
        try:
            if self.names:
                self._model.load_adapter(folder, **options)
            else:
                self._model = PeftModel.from_pretrained(self._plain, folder, **options)
        except (ValueError, RuntimeError, KeyError, OSError) as error:
            self._take_out(name)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise PipelineError(f"adapter {name}: does not fit the model ({reason}); train it again") from error
        self._model.to(self._plain.dtype).eval()
        self.names |= {name}

    def remove(self, name: str) -> None:
        """Take an adapter away; nothing happens where there is none of this name."""
        if name in self.names:
            self.names -= {name}
            self._take_out(name)

    def _take_out(self, name: str) -> None:
        if self._model is self._plain:
            return
        if self.names:
            if name in self._model.peft_config:
                self._model.delete_adapter(name)
        else:
            self._plain = self._model = self._model.unload()
