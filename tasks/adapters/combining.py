"""Several LoRA adapters as one (PEFT's ``add_weighted_adapter``).

With the update s B A of each adapter (s its scale) and a weight w for each:

* ``cat``: the pairs side by side, of the sum of the ranks; the update is exactly the weighted sum of the updates;
* ``svd``: the best approximation of that sum at the largest of the ranks;
* ``linear``: the weighted sums of the A and of the B (times the square root of w s each), which adds cross terms;
* ``ties`` (Yadav et al. 2023, arXiv:2306.01708): the largest values of each, a sign for each place by majority, and the
  mean of those that agree;
* ``dare_linear`` and ``dare_ties`` (Yu et al. 2023, arXiv:2311.03099): values dropped by chance, the rest scaled up;
* ``magnitude_prune``: the largest values of each, summed.

All but ``cat`` and ``svd`` need adapters of one rank, since they add the matrices themselves.

Example: ``heptune adapters combine both --of invoices,parcels --how cat --weights 1,0.5``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import read_json, write_json
from tasks.language_models.folder.model_folder import load_model
from tasks.training.methods.dylora import CONFIG
from tasks.training.stored_adapter import StoredAdapter

Combination = Literal["cat", "svd", "linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"]
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)
OF_ANY_RANKS = ("cat", "svd")
WITH_DENSITY = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
MIXTURE = "mixture"


def refuse_combination(
    how: Combination, adapters: Sequence[StoredAdapter], weights: Sequence[float], density: float | None
) -> None:
    """Refuse what PEFT would refuse, or do otherwise than it is meant.

    Raises:
        PipelineError: Everything that is wrong.
    """
    problems = []
    if len(adapters) < 2:
        problems.append(f"{len(adapters)} adapters to combine; expected two or more")
    names = [adapter.name for adapter in adapters]
    if len(set(names)) < len(names):
        problems.append(f"adapters {', '.join(names)}: one is named twice; name each once and raise its weight")
    if len(weights) != len(adapters):
        problems.append(f"{len(weights)} weights for {len(adapters)} adapters; give one for each")
    if any(not 0 <= weight < float("inf") for weight in weights) or not any(weights):
        problems.append(f"weights {', '.join(f'{w:g}' for w in weights)}; expected numbers from 0 on, one above it")
    ranks = {adapter.name: adapter.rank for adapter in adapters}
    if how not in OF_ANY_RANKS and len(set(ranks.values())) > 1:
        told = ", ".join(f"{name} {rank}" for name, rank in ranks.items())
        problems.append(f"{how} needs adapters of one rank (found {told}); take cat or svd, or train them anew")
    if (how in WITH_DENSITY) != (density is not None):
        problems.append(
            f"{how} needs a density: the share of values that stay, such as 0.5"
            if density is None
            else f"{how} takes no density; leave it out"
        )
    elif density is not None and not 0 < density <= 1:
        problems.append(f"density {density:g}; expected above 0 and at most 1")
    raise_all(problems, "the adapters cannot be combined")


class Mixer:
    """A base with adapters in it, of which one mixture at a time answers.

    Args:
        base: Folder with the base's weights.
        adapters: What is combined; all of this base.
    """

    def __init__(self, base: Path, adapters: Sequence[StoredAdapter]) -> None:
        from peft import PeftModel

        self._adapters = list(adapters)
        first, *others = self._adapters
        self._model: Any = PeftModel.from_pretrained(load_model(base), first.folder, adapter_name=first.name)
        for other in others:
            self._model.load_adapter(other.folder, adapter_name=other.name)
        self._model.eval()

    @property
    def config(self) -> Any:
        """Of the base."""
        return self._model.config

    def only(self, name: str) -> Any:
        """The model with one of the adapters."""
        self._model.set_adapter(name)
        return self._model.get_base_model()

    @contextmanager
    def plain(self) -> Iterator[Any]:
        """The base alone, for the duration of a block."""
        with self._model.disable_adapter():
            yield self._model.get_base_model()

    def mix(self, how: Combination, weights: Sequence[float], density: float | None = None, seed: int = 0) -> Any:
        """The model with a mixture of the adapters, which replaces the mixture before.

        Args:
            how: How they are combined.
            weights: One for each adapter.
            density: Share of values that stay, where ``how`` needs one.
            seed: Of what is drawn by chance.
        """
        import torch

        refuse_combination(how, self._adapters, weights, density)
        if MIXTURE in self._model.peft_config:
            self.only(self._adapters[0].name)  # PEFT warns where the one that is deleted is in use
            self._model.delete_adapter(MIXTURE)
        names = [adapter.name for adapter in self._adapters]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._model.add_weighted_adapter(names, list(weights), MIXTURE, combination_type=how, density=density)
        return self.only(MIXTURE)

    def save(self, folder: Path) -> None:
        """Write the present mixture as an adapter; the same bytes for the same mixture."""
        self._model.save_pretrained(folder, selected_adapters=[MIXTURE])
        for file in (folder / MIXTURE).iterdir():
            file.rename(folder / file.name)
        (folder / MIXTURE).rmdir()
        (folder / "README.md").unlink(missing_ok=True)  # a model card without content
        config = read_json(folder / CONFIG)
        targets = sorted(config["target_modules"])
        write_json(folder / CONFIG, {**config, "target_modules": targets, "base_model_name_or_path": None})


def parse_combination(word: str) -> Combination:
    """A way to combine, by its name.

    Raises:
        PipelineError: There is none of this name.
    """
    found = next((how for how in COMBINATIONS if how == word), None)
    if found is None:
        raise PipelineError(f"--how {word}; expected one of {', '.join(COMBINATIONS)}")
    return found


def parse_weights(words: str) -> list[float]:
    """Weights from a list with commas.

    Raises:
        PipelineError: One is no number.
    """
    try:
        return [float(word) for word in words.split(",")]
    except ValueError as error:
        raise PipelineError(f"--weights {words}: expected numbers with commas between them, such as 1,0.5") from error
