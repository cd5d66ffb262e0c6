"""Memory of one training process, predicted from shapes.

With P parameters, T of them trained in the same step at most, and n tokens in a forward pass, in bytes:

* weights: what the quantisation says of the base's, and what the method says of its own.
* gradients: 4 T; those of one tensor where the optimizer uses each at once, none without a backward pass, which also
  keeps the activations of one block only.
* optimizer: what it keeps from step to step, which each says itself: 8 T for AdamW's two fp32 moments.
* casts: the copies of weights in 16 bits under autocast, which live until the backward pass: half the bytes of the
  method's own, and what the quantisation says of the base's.
* activations: what the blocks keep for the backward pass, after Korthikanti et al. 2022 (arXiv:2205.05198,
  section 4.1) but without the attention matrix, which scaled-dot-product attention does not store, and with
  a gated feed-forward block, as `_layer_tensors` lists; the last norm, sines and cosines of the positions, and a mask
  of max_tokens squared for each row. With gradient checkpointing each block keeps its input only, and one block at a
  time is there again.
* logits: of vocabulary V for the positions that the output layer computes at once: the supervised ones, at most
  MAXIMUM_LOGITS / V. When the backward pass begins three fp32 numbers of each are alive, its log-softmax, the gradient
  of that and its own; in validation two.
* buffers: what the libraries hold beside, and two copies of the largest tensor while the optimizer takes its step.
* runtime: PyTorch, the trainer and the stage's engines themselves.

The parts are not at their largest at the same time, so each of these moments is summed, and the largest is the peak:

* the backward pass begins: activations, casts and logits; of the gradients those of earlier passes alone, where a step
  has several;
* the output layer is done with: its logits' gradient, and its weight's;
* the last block is: with gradient checkpointing what it keeps is there again;
* the step: all gradients, no activations;
* validation: the logits of VALIDATION_TOKENS, no activations of more than one block;
* a change of what is trained: what the method holds beside for it.

`benchmarks/memory.py` holds that peak against the resident size of twelve trainings, the tests hold activations and
casts against a count of what autograd keeps. It is what is in use; on a CPU glibc keeps more of what was freed, unless
``release_freed_memory`` is set:

* fragmentation: as much again as the activations in tensors below SMALLEST_MAPPED, in the batch that has most of them;
  with gradient checkpointing 1.8 times what one block keeps, since the logits come when no block is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.contracts.machine import Device
from tasks.language_models.folder.layout import count_weights
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import VALIDATION_TOKENS, Precision
from tasks.training.losses.loss import MAXIMUM_LOGITS
from tasks.training.memory import SMALLEST_MAPPED, Memory
from tasks.training.methods.method import Method, count_kept_per_pass, count_reached_layers
from tasks.training.methods.parts import Changing
from tasks.training.optimizers.optimizer import Optimizer, OptimizerCan
from tasks.training.quantization.quantization import Quantization
from tasks.training.weights import TrainedWeights, list_trained_at_once

# Measured after thirty steps of rows of changing length.
FRAGMENTATION, RECOMPUTED_KEPT = 1.0, 1.8
# Measured with the pinned versions: resident size with everything imported and no model.
RUNTIME_BYTES: dict[Device, int] = {"cpu": 640 * 2**20, "cuda": 700 * 2**20}
# Measured too, between two steps, above weights and optimizer states; on a GPU it is in main memory.
SCRATCH_BYTES: dict[Device, int] = {"cpu": 10 * 2**20, "cuda": 0}


def find_peak(moments: Mapping[str, Memory]) -> Memory:
    """The largest of `list_moments`."""
    return max(moments.values(), key=lambda moment: moment.total)


def list_moments(
    shape: ModelShape,
    method: Method,
    quantization: Quantization,
    batch_size: int,
    max_tokens: int,
    packed: bool,
    supervised_share: float,
    precision: Precision,
    optimizer: Optimizer,
    gradient_checkpointing: bool,
    device: Device,
    accumulates: bool = True,
    release_freed: bool = False,
) -> dict[str, Memory]:
    """What one process holds at each of the moments of which one is the peak.

    Args:
        shape: The model.
        method: What is trained.
        quantization: How the base is held, resolved.
        batch_size: Rows of a forward pass.
        max_tokens: Tokens of a row.
        packed: Rows hold several conversations, so attention takes a mask.
        supervised_share: Share of the tokens that carry loss.
        precision: Of the computation.
        optimizer: How the weights are updated.
        gradient_checkpointing: Recompute activations.
        device: Where the model is.
        accumulates: A step has several passes, through which the gradients stay.
        release_freed: Freed blocks go back to the system at once.
    """
    size = 4 if precision == "fp32" else 2
    tokens = batch_size * max_tokens
    own, trained = method.own_bytes(shape), list_trained_at_once(method, shape)
    frozen, can = method.can.frozen_base, optimizer.can
    layers = count_reached_layers(method, shape)
    below = sum(map(count_weights, shape.layout.blocks[: -layers or None]))  # weights that nothing is kept of
    tensors = _layer_tensors(shape, size, frozen)
    activations = layers * tokens * sum(tensors)
    activations += tokens * (method.kept_per_token(shape) * size + (1 if frozen else 2) * shape.hidden * 4)
    activations += tokens * 2 * 4 * shape.hidden // max(shape.heads, 1)
    if layers < shape.layers:
        activations -= tokens * shape.hidden * 4  # what the lowest block gets needs no gradient
    activations += _mask_bytes(tokens * max_tokens, packed, size, shape) + 4 * count_kept_per_pass(method, shape)
    block = activations // max(layers, 1)
    recomputed = block if gradient_checkpointing and can.needs_backward else 0
    if not can.needs_backward:
        activations, layers = block, 1
    elif gradient_checkpointing:
        activations = layers * tokens * shape.hidden * 4
    kept_freed = 0.0
    if device == "cpu" and not release_freed:
        heap = FRAGMENTATION * layers * _largest_in_heap(tensors, tokens)
        kept_freed = RECOMPUTED_KEPT * recomputed if recomputed else heap
    logits = shape.vocabulary * 4 * _positions(tokens, supervised_share, shape)
    gradients = _gradient_bytes(can, trained)
    head = 0 if frozen else 4 * shape.vocabulary * shape.hidden
    begins = Memory(
        weights=quantization.base_bytes(shape) + own,
        gradients=gradients if accumulates else 0,
        optimizer=optimizer.state_bytes(trained),
        casts=max(0, quantization.cast_bytes(shape, precision) - size * below) + (own // 2 if size == 2 else 0),
        activations=activations,
        logits=(3 if can.needs_backward else 2) * logits,
        communication=0,
        buffers=SCRATCH_BYTES[device],
        fragmentation=round(kept_freed),
        runtime=RUNTIME_BYTES[device],
    )
    ended = replace(begins, gradients=gradients if accumulates else min(gradients, head))
    step = replace(begins, gradients=gradients, casts=0, activations=0, logits=0, fragmentation=0)
    validated = shape.vocabulary * 4 * _positions(VALIDATION_TOKENS, supervised_share, shape)
    beside = method.bytes_at_change(shape) if isinstance(method, Changing) else 0
    moments = {
        "backward": begins,
        "head": replace(ended, logits=logits),
        "blocks": replace(
            ended,
            activations=activations + recomputed,
            logits=0,
            fragmentation=max(0, ended.fragmentation - recomputed),  # it lies where it lay before
        ),
        "step": replace(step, buffers=step.buffers + 2 * 4 * max(trained.numbers, default=0)),
        "validation": replace(step, gradients=0, logits=2 * validated),
    }
    if beside:
        moments["change"] = replace(step, gradients=0, buffers=step.buffers + beside)
    return moments


def _largest_in_heap(tensors: Sequence[int], tokens: int) -> int:
    """The most bytes in tensors below SMALLEST_MAPPED that a batch has, given each one's bytes per token."""
    lengths = {tokens, *(min(tokens, (SMALLEST_MAPPED - 1) // one) for one in tensors)}
    return max(sum(one * length for one in tensors if one * length < SMALLEST_MAPPED) for length in lengths)


def _mask_bytes(positions: int, packed: bool, size: int, shape: ModelShape) -> int:
    """The mask of all rows: bytes without packing, else numbers, of which autocast makes a copy in each block."""
    if not packed:
        return positions
    return positions * size * (shape.layers if size == 2 else 1)


def _positions(tokens: int, supervised_share: float, shape: ModelShape) -> int:
    """Positions of so many tokens that the output layer computes at once."""
    return min(math.ceil(tokens * supervised_share), max(1, MAXIMUM_LOGITS // max(shape.vocabulary, 1)))


def _gradient_bytes(can: OptimizerCan, trained: TrainedWeights) -> int:
    """All gradients; the largest, where each is used at once; none, where there is no backward pass."""
    if can.keeps_gradients:
        return 4 * trained.total
    return 4 * max(trained.numbers, default=0) if can.needs_backward else 0


def _layer_tensors(shape: ModelShape, size: int, frozen_base: bool) -> list[int]:
    """Bytes per token of each tensor that one block keeps for its backward pass.

    Its two norms compute in fp32 and keep their normalised input, and the input itself where the norm's weight is
    trained. Linear layers keep their inputs: the norms' two results and that of the attention, which autocast
    copies anew for each of query, key, value, gate, up and output. Attention keeps queries, keys and values; the gated
    feed-forward block keeps gate, activated gate, up and their product.
    """
    h, f, kv = shape.hidden, shape.intermediate, shape.key_value_width
    norms = [h * 4] * (2 if frozen_base else 4)
    linear_inputs = [h * size] * (7 if size == 2 else 3)
    attention = [h * size, kv * size, kv * size]
    feed_forward = [f * size] * 4
    return norms + linear_inputs + attention + feed_forward
