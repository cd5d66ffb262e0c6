"""Fully sharded data parallel: each process keeps a share of every weight, with its gradient and optimizer states, and
fetches a block's others while it computes it (Zhao et al. 2023, arXiv:2304.11277); PyTorch's second edition, which
shards each weight by itself.

Good where a model does not fit one accelerator, without DeepSpeed: any optimizer of PyTorch's, the same numbers as one
process, and checkpoints that another number of ranks can resume. The base is read whole into main memory by each
process before it is sharded; a base that does not fit there so many times wants ``{name: zero, stage: 3}``. A base in
NF4 is shared out in its 4 bits.

Example: ``distribution: {name: fsdp}`` with ``processes: 4``. A model of 1 billion weights under AdamW in fp32 takes
4 GB a rank instead of 16, beside one block's weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tasks.contracts.machine import Device
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.distribution.distribution import DistributionCan, Layout
from tasks.training.distribution.machines import Machines
from tasks.training.memory import Memory
from tasks.training.quantization.sharing import make_plain, restore_when_fetched

SHARDS = "shards"


class Fsdp(Machines):
    """Train on shares of weights, gradients and optimizer states, by PyTorch."""

    can: ClassVar[DistributionCan] = DistributionCan(many=True, sharded=True, resize=True, skips_steps=True)

    name: Literal["fsdp"] = "fsdp"

    def problems(self, processes: int, device: Device) -> list[str]:
        return self.machine_problems(self.name, processes)

    def resolve(self, shape: ModelShape, layout: Layout) -> Self:
        return self

    def per_rank(self, memory: Memory, shape: ModelShape, ranks: int, precision: Precision) -> Memory:
        """A share of all, and whole for a while: the embeddings and output layer, and two blocks."""
        edges = shape.vocabulary * shape.hidden
        block = max(shape.parameters - edges, 0) // max(shape.layers, 1)
        return replace(
            memory,
            weights=-(-memory.weights // ranks),
            gradients=-(-memory.gradients // ranks),
            optimizer=-(-memory.optimizer // ranks),
            communication=memory.communication + 4 * (edges + 2 * block),
        )

    def describe(self) -> str:
        return f"shares of weights, gradients and optimizer states (FSDP2){self.on_machines()}"

    def arguments(self, batch_size: int, accumulation_steps: int) -> dict[str, Any]:
        return {"ddp_timeout": self.timeout_s}

    def shard(self, model: Any) -> Any:
        """Shard each block and then the rest.

        accelerate's own FSDP turns into DDP on a CPU without a word, so PyTorch's is called here.
        """
        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        kind = "cuda" if torch.cuda.is_available() else "cpu"
        mesh = init_device_mesh(kind, (torch.distributed.get_world_size(),))
        blocks = find_blocks(model)
        shared = find_shared(model, blocks)
        packed = make_plain(model)
        for block in blocks.values():
            fully_shard(block, mesh=mesh, ignored_params=shared)
        fully_shard(model, mesh=mesh)
        for unit in [*blocks.values(), model]:
            restore_when_fetched(unit, packed)
        # transformers' trainer leaves such models as they are: no DDP around them, no move to a device.
        # `fully_shard` has given this model a class of its own.
        type(model).is_distributed_loading_by_transformers = True
        return model

    def gather(self, model: Any) -> dict[str, Any]:
        import torch

        first = torch.distributed.get_rank() == 0
        gathered = {}
        for name, weights in model.named_parameters():
            if weights.requires_grad:
                whole = weights.detach().full_tensor()
                if first:
                    gathered[name] = whole.float().cpu()
        return gathered

    def own_share(self, model: Any, names: Collection[str]) -> dict[str, Any]:
        model.reshard()  # a forward pass alone leaves the weights beside the blocks whole
        return {name: w.detach().to_local() for name, w in model.named_parameters() if name in names}

    def put_share(self, model: Any, share: Mapping[str, Any]) -> None:
        for name, own in self.own_share(model, share).items():
            own.copy_(share[name])

    def spread(self, model: Any, names: Collection[str]) -> None:
        """Nothing: each block is fetched anew when it is computed."""

    def cut_share(self, model: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
        from torch.distributed.tensor import distribute_tensor

        model.reshard()
        return {
            name: distribute_tensor(
                whole[name].to(w.device), w.device_mesh, w.placements, src_data_rank=None
            ).to_local()
            for name, w in model.named_parameters()
            if name in whole
        }

    def state_files(self, ranks: int) -> list[str]:
        return [f"{SHARDS}/.metadata", *(f"{SHARDS}/__{rank}_*.distcp" for rank in range(ranks))]

    def save_state(self, trainer: Any, folder: Path) -> None:
        from torch.distributed.checkpoint.state_dict_saver import save

        save(_states(trainer), checkpoint_id=folder / SHARDS)

    def load_state(self, trainer: Any, folder: Path) -> None:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict
        from torch.distributed.checkpoint.state_dict_loader import load

        states = _states(trainer)
        load(states, checkpoint_id=folder / SHARDS)
        set_state_dict(
            trainer.model,
            trainer.optimizer.optimizer,
            model_state_dict=states["model"],
            optim_state_dict=states["optimizer"],
            options=StateDictOptions(ignore_frozen_params=True, strict=False),
        )

    def load_weights(self, trainer: Any, folder: Path) -> None:
        self.load_state(trainer, folder)


def find_blocks(model: Any) -> dict[str, Any]:
    """The modules that are fetched one after the other, by name; what lies within one, such as experts, is its part."""
    import torch

    blocks: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and not _block_of(name, blocks):
            blocks |= {f"{name}.{number}": block for number, block in enumerate(module)}
    return blocks


def find_shared(model: Any, blocks: Collection[str]) -> set[Any]:
    """Weights that several blocks have in common, or a block with what is outside: they belong to none of them."""
    holders: dict[Any, set[str]] = {}
    for name, weights in model.named_parameters(remove_duplicate=False):
        holders.setdefault(weights, set()).add(_block_of(name, blocks))
    return {weights for weights, held_by in holders.items() if len(held_by) > 1}


def _block_of(name: str, blocks: Collection[str]) -> str:
    """The block that something named is within; empty outside of them."""
    return next((block for block in blocks if name.startswith(f"{block}.")), "")


def _states(trainer: Any) -> dict[str, Any]:
    """Shares of the trained weights and their optimizer states, by name."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    model, optimizer = get_state_dict(
        trainer.model, trainer.optimizer.optimizer, options=StateDictOptions(ignore_frozen_params=True)
    )
    return {"model": model, "optimizer": optimizer}
