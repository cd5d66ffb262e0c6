"""Memory of one training process, predicted from shapes.

With P parameters, T of them trained, and n tokens in a forward pass, in bytes:

* weights: what the quantisation says of the base's, and what the method says of its own.
* gradients: 4 T; those of one tensor where the optimizer uses each at once, none without a backward pass, which also
  keeps the activations of one block only.
* optimizer: what it keeps from step to step, which each says itself: 8 T for AdamW's two fp32 moments.
* casts: the copies of weights in 16 bits under autocast, which live until the backward pass: half the bytes of the
  method's own, and what the quantisation says of the base's.
* activations: what the blocks keep for the backward pass, after Korthikanti et al. 2022 (arXiv:2205.05198,
  section 4.1) but without the attention matrix, which scaled-dot-product attention does not store, and with
  a gated feed-forward block, as `_layer_bytes` counts. Packed rows keep a mask of max_tokens squared in each layer.
  With gradient checkpointing each block keeps its input only, and one block at a time is alive.
* logits: of vocabulary V for the positions that the output layer computes at once, in compute precision and in
  fp32, their log-softmax and its gradient. Those are the supervised positions, at most MAXIMUM_LOGITS / V of them.
* fragmentation: on a CPU 1.5 times the activations, which the C library's allocator keeps between blocks of
  changing size. Measured on a model of 10 million parameters: with it the total came within 20% of the peak resident
  size (LoRA and full, 1,024 and 4,096 tokens, bf16); without, the peak was up to twice the total, and close to it when
  every block was mapped on its own.
* runtime: PyTorch, the trainer and the stage's engines themselves.

A prediction, not a promise: the tests hold activations and casts against a count of what autograd keeps (within 15%).
"""

from __future__ import annotations

import math

from tasks.contracts.machine import Device
from tasks.language_models.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.losses.loss import MAXIMUM_LOGITS
from tasks.training.memory import Memory
from tasks.training.methods.method import Method
from tasks.training.optimizers.optimizer import Optimizer, OptimizerCan
from tasks.training.quantization.quantization import Quantization
from tasks.training.weights import TrainedWeights, list_trained_weights

FRAGMENTATION = 1.5
# Measured with the pinned versions: resident size with everything imported and no model.
RUNTIME_BYTES: dict[Device, int] = {"cpu": 640 * 2**20, "cuda": 700 * 2**20}


def predict_memory(
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
) -> Memory:
    """Predict the peak of one process.

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
    """
    size = 4 if precision == "fp32" else 2
    tokens = batch_size * max_tokens
    own, trained = method.own_bytes(shape), list_trained_weights(method, shape)
    block = tokens * _layer_bytes(shape, size, method.can.frozen_base) + (tokens * max_tokens * size if packed else 0)
    activations = shape.layers * block + tokens * method.kept_per_token(shape) * size
    if not optimizer.can.needs_backward:
        activations //= max(shape.layers, 1)
    elif gradient_checkpointing:
        activations = shape.layers * tokens * shape.hidden * 4 + activations // max(shape.layers, 1)
    positions = min(math.ceil(tokens * supervised_share), max(1, MAXIMUM_LOGITS // max(shape.vocabulary, 1)))
    return Memory(
        weights=quantization.base_bytes(shape) + own,
        gradients=_gradient_bytes(optimizer.can, trained),
        optimizer=optimizer.state_bytes(trained),
        casts=quantization.cast_bytes(shape, precision) + (own // 2 if size == 2 else 0),
        activations=activations,
        logits=positions * shape.vocabulary * (size + 12),
        communication=0,
        fragmentation=round(FRAGMENTATION * activations) if device == "cpu" else 0,
        runtime=RUNTIME_BYTES[device],
    )


def _gradient_bytes(can: OptimizerCan, trained: TrainedWeights) -> int:
    """All gradients; the largest, where each is used at once; none, where there is no backward pass."""
    if can.keeps_gradients:
        return 4 * trained.total
    return 4 * max(trained.numbers, default=0) if can.needs_backward else 0


def _layer_bytes(shape: ModelShape, size: int, frozen_base: bool) -> int:
    """Bytes per token that one block keeps for its backward pass.

    Its two norms compute in fp32 and keep their normalised input, and the input itself where the norm's weight is
    trained. Linear layers keep their inputs: the norms' two results and that of the attention, which autocast
    copies anew for each of query, key, value, gate and up. Attention keeps queries, keys and values; the gated
    feed-forward block keeps gate, activated gate, up and their product.
    """
    h, f, kv = shape.hidden, shape.intermediate, shape.key_value_width
    norms = (1 if frozen_base else 2) * 2 * h * 4
    linear_inputs = (6 if size == 2 else 3) * h * size
    attention = (h + 2 * kv) * size
    feed_forward = 4 * f * size
    return norms + linear_inputs + attention + feed_forward
