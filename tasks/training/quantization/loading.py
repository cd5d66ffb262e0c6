"""Load a base that stays frozen: its matrices in 16 bits or fewer, what little else it has in fp32."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tasks.contracts.machine import Device
from tasks.language_models.folder.model_folder import load_model, open_on_meta
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision, WeightType

DTYPES: dict[str, str] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def mismatches(weights: WeightType, precision: Precision) -> list[str]:
    """Why weights of a type cannot be multiplied in a precision: only those of fp32 are cast in each pass."""
    if weights in ("auto", "fp32", precision):
        return []
    return [
        f"quantization.weights: {weights}, but the computation is in {precision}; set weights: auto, or precision: "
        f"{weights}"
    ]


def problems_of_bits(name: str, weights: WeightType, shape: ModelShape, precision: Precision) -> list[str]:
    """Why a base cannot be held in a few bits a weight.

    Args:
        name: Of the quantisation.
        weights: Type of the matrices that are not quantised.
        shape: The base model.
        precision: Of the computation.
    """
    problems = mismatches(weights, precision)
    if not shape.linear:
        problems.append(f"quantization: {name}, but the model has no linear layer to quantise; set {{name: none}}")
    if importlib.util.find_spec("bitsandbytes") is None:
        problems.append(
            f"quantization: {name} needs bitsandbytes, which is not installed here and is made for Linux; set "
            "{name: none}, or install it"
        )
    return problems


def base_bytes(shape: ModelShape, weights: WeightType, layer_bytes: Callable[[int, int], int]) -> int:
    """Bytes of a base whose linear layers are quantised.

    Args:
        shape: The base model.
        weights: Type of its embeddings and output layer; everything else is fp32.
        layer_bytes: Bytes of a layer by its (out, in).
    """
    linear = sum(layer_bytes(out, inner) for sizes in shape.linear.values() for out, inner in sizes)
    rest = shape.parameters - shape.linear_weights - shape.embedding_weights
    return linear + (4 if weights == "fp32" else 2) * shape.embedding_weights + 4 * rest


def decoded_bytes(shape: ModelShape, weights: WeightType, precision: Precision) -> int:
    """Bytes of what is decoded or cast at once: the largest layer, and the matrices that are not quantised."""
    size = 4 if precision == "fp32" else 2
    largest = max((out * inner for sizes in shape.linear.values() for out, inner in sizes), default=0)
    return size * (largest + (0 if weights == precision else shape.embedding_weights))


def load_frozen(base: Path, weights: WeightType, **options: Any) -> Any:
    """A base whose linear layers and embeddings are of type ``weights``, and everything else in fp32.

    Args:
        base: Folder with the base's weights.
        weights: Type of the matrices that are not quantised, resolved.
        options: More arguments of ``from_pretrained``.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    model = load_model(base, getattr(torch, DTYPES[weights]), **options)
    matrices = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Embedding, Conv1D))
    }
    for parameter in model.parameters():
        if id(parameter) not in matrices and parameter.is_floating_point():
            parameter.data = parameter.data.float()
    # The blocks add to what the embedding gives: in 16 bits each addition would round the sum.
    model.get_input_embeddings().register_forward_hook(_widen)
    return model


def layers_to_skip(base: Path, block: int) -> list[str] | None:
    """Names of what stays as it is where some layer's inputs are no multiple of a block wide; else None, the default.

    Args:
        base: Folder with the base.
        block: Weights with one magnitude.
    """
    import torch
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert

    model = open_on_meta(base)
    uneven = [
        name
        for name, module in model.named_modules()
        if (isinstance(module, torch.nn.Linear) and module.in_features % block)
        or (isinstance(module, Conv1D) and module.weight.shape[0] % block)
    ]
    return [*get_keys_to_not_convert(model), *uneven] if uneven else None


def load_in_bits(base: Path, weights: WeightType, precision: Precision, device: Device, config: Any) -> Any:
    """A base whose linear layers bitsandbytes holds in few bits, each weight quantised as it is read.

    Args:
        base: Folder with the base's weights.
        weights: Type of the matrices that are not quantised, resolved.
        precision: Of the computation.
        device: Where it is trained; quantised weights are not moved any more.
        config: transformers' ``BitsAndBytesConfig``.
    """
    import torch
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    place = "cpu" if device == "cpu" else f"{device}:{os.environ.get('LOCAL_RANK', '0')}"
    # Under ZeRO's third stage transformers takes no map, and reads to the device of this rank.
    is_split = is_deepspeed_zero3_enabled()  # type: ignore[no-untyped-call]
    mapped = {} if is_split else {"device_map": {"": place}}
    model = load_frozen(base, weights, quantization_config=config, **mapped)
    cast = partial(_cast, getattr(torch, DTYPES[precision]))
    for module in model.modules():
        if isinstance(module, (Linear4bit, Linear8bitLt)):
            # Autocast knows nothing of these layers: without it they answer in fp32.
            module.register_forward_pre_hook(cast)
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-bf16 the first pass without gradients packs the weights anew for inference. The
            # backward pass reads them as before, and everything learned after it is wrong, without an error.
            module.support_avx512bf16_for_cpu = False
        if isinstance(module, Linear8bitLt):
            module.register_forward_pre_hook(_keep_scales)
            _answer_as_in_training(module)
    return model


@contextmanager
def quantization_hidden(model: Any) -> Iterator[None]:
    """Let trainers not see that a base is quantised: TRL would cast the weights that are trained to bf16, and
    transformers takes no modules beside it but PEFT's."""
    marks = ("is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized")
    marked = [(module, mark) for module in model.modules() for mark in marks if vars(module).get(mark)]
    for module, mark in marked:
        setattr(module, mark, False)
    try:
        yield
    finally:
        for module, mark in marked:
            setattr(module, mark, True)


def _answer_as_in_training(module: Any) -> None:
    """Compute in validation what training computes: on a CPU the layer rounds its inputs where it does not train."""
    module.train(True)
    module.train = lambda mode=True: module


def _keep_scales(module: Any, _inputs: Any) -> None:
    """Keep the scales that the layer has: PEFT's DoRA makes its weight anew in each pass on a CPU, without them."""
    if module.weight.CB is not None and module.weight.SCB is None:
        module.weight.CB = None


def _widen(_module: Any, _inputs: Any, embedded: Any) -> Any:
    """In fp32 where autocast narrows the layers' inputs again; DeepSpeed has none and computes all in 16 bits."""
    import torch

    return embedded.float() if torch.is_autocast_enabled(embedded.device.type) else embedded


def _cast(dtype: Any, _module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].to(dtype), *inputs[1:])
