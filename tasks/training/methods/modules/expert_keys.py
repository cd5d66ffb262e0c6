"""The keys of memory experts: where the answers of the training rows are, and no text that the base writes itself; see
`tasks.training.methods.memory_tuning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tasks.language_models.generation import context_length, sample_tokens
from tasks.language_models.sampling import TokenSampler
from tasks.training.methods.modules.memory_experts import NEVER, ExpertRouter

PASS_TOKENS = 8192  # of one forward pass
ROUNDS = 25  # of k-means
TEXT_TOKENS = 64  # of a text that the base writes
SAME = 1e-6  # cosine distance of states that count as one

# Token ids of a sequence and the places in it.
Places = tuple[Sequence[int], Sequence[int]]


@torch.no_grad()
def read_states(model: Any, router: ExpertRouter, sequences: Sequence[Places]) -> torch.Tensor:
    """The states that a router reads at some places, in fp32, shape (places, width).

    Args:
        model: With the router in it, not training.
        router: Whose states.
        sequences: Token ids, and the places that are wanted of each.
    """
    device = router.keys.device
    order = sorted(range(len(sequences)), key=lambda number: len(sequences[number][0]))
    found: list[torch.Tensor] = []
    router.shared.recording = True
    try:
        while order:
            size = max(1, PASS_TOKENS // max(1, len(sequences[order[-1]][0])))
            rows, order = [sequences[number] for number in order[-size:]], order[:-size]
            longest = len(rows[-1][0])
            ids = torch.zeros(len(rows), longest, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, (tokens, _) in enumerate(rows):
                ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.as_tensor(tokens), 1
            model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False, logits_to_keep=1)
            found += [router.shared.states[row, list(places)].float() for row, (_, places) in enumerate(rows)]
    finally:
        router.shared.recording, router.shared.states = False, torch.empty(0)
    return torch.cat(found) if found else torch.empty(0, len(router.center), device=device)


def write_texts(model: Any, texts: int, seed: int) -> list[Places]:
    """Texts that a base writes of itself, at temperature 1 from its first token on, with all their places.

    Args:
        model: Not training.
        texts: How many.
        seed: Of what is drawn.
    """
    config = model.config.get_text_config()
    known = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    first = next((one[0] if isinstance(one, list) else one for one in known if one is not None), 0)
    length = min(TEXT_TOKENS, (context_length(config) or TEXT_TOKENS) - 1)
    sampler = TokenSampler(1.0, 1.0, [(seed, number) for number in range(texts)], length)
    rows = range(texts)
    room = dict.fromkeys(rows, length)
    written = sample_tokens(model, {row: [first] for row in rows}, room, frozenset(), sampler, batch_size=64)
    return [([first, *written[row]], range(length + 1)) for row in rows]


@torch.no_grad()
def set_keys(router: ExpertRouter, answers: torch.Tensor, others: torch.Tensor, reach: float, seed: int) -> None:
    """Put a router's keys where answers are, and its thresholds between these and all other states.

    Keys are the centers of a spherical k-means (Dhillon and Modha 2001) that begins with k-means++ (Arthur and
    Vassilvitskii 2007). Of the states whose nearest key it is, the threshold of a key goes from the least similar
    answer (reach 0) to the most similar other state (reach 1). Where another state is nearer than an answer, the
    threshold is that answer's. Keys beyond the number of different answers are reached by nothing.

    Args:
        router: Whose keys.
        answers: States before each token of an answer, shape (answers, width).
        others: States that shall have no expert, shape (others, width).
        reach: 0 to 1.
        seed: Of the first keys.
    """
    every = torch.cat([answers, others])
    router.center.copy_(every.mean(dim=0))
    router.spread.copy_(every.std(dim=0).clamp(min=1e-6))
    points, rest = router.standardise(answers), router.standardise(others)
    centers = _cluster(points, len(router.keys), seed)
    router.keys[: len(centers)] = centers
    similar, nearest = (points @ centers.T).max(dim=1)
    thresholds = torch.full_like(router.thresholds, NEVER)
    lowest = thresholds.scatter_reduce(0, nearest, similar, "amin")
    # An expert is reached from a right angle on at the most.
    highest = (rest @ router.keys.T).amax(dim=0) if len(rest) else torch.zeros_like(thresholds)
    border = torch.minimum(highest.clamp(min=0.0), lowest)
    router.thresholds.copy_(torch.where(lowest > 1.5, NEVER, lowest - reach * (lowest - border) - 1e-4))
    for place, states in enumerate((points, rest)):
        open_to = ((states @ router.keys.T) >= router.thresholds).any(dim=1).float()
        router.reached[place] = open_to.mean() if len(states) else 0.0


def _cluster(points: torch.Tensor, number: int, seed: int) -> torch.Tensor:
    """Centers of length 1 of so many clusters of points of length 1, or of as many as there are different points."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [0]
    distances = 1 - points @ points[0]
    for _ in range(number - 1):
        distances = distances.clamp(min=0.0)
        if float(distances.max()) < SAME:
            break
        chosen.append(int(torch.multinomial(distances.double().cpu(), 1, generator=generator)))
        distances = torch.minimum(distances, 1 - points @ points[chosen[-1]])
    centers = points[chosen]
    for _ in range(ROUNDS):
        nearest = (points @ centers.T).argmax(dim=1)
        sums = torch.zeros_like(centers).index_add(0, nearest, points)
        # A center that has lost all its points stays where it is.
        kept = sums.norm(dim=1, keepdim=True) > 0
        centers = torch.where(kept, torch.nn.functional.normalize(sums, dim=1), centers)
    return centers
