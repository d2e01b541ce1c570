"""Brings the tensors of a step to the learner's device in one copy of each type of number.

A copy has a price of its own, whatever its size, and from memory that isn't pinned the CPU waits
for it. So the tensors are packed into pinned memory, and the copy goes on while the CPU works on;
two such buffers take turns, so that none is written to before its copy is done.
"""

import math
from typing import Any, TypeVar

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from metarl.struct import map_tensors

T = TypeVar("T")


class Transfer:
    """Brings pytrees of tensors to a device; those that lie there already stay as they are.

    Args:
      packs: pack what comes from the CPU; None: where the device is CUDA's.
    """

    def __init__(self, device: torch.device | str, *, packs: bool | None = None) -> None:
        self._device = torch.device(device)
        self._packs = self._device.type == "cuda" if packs is None else packs
        self._buffers = (_Buffer(self._device), _Buffer(self._device))
        self._turn = 0

    def __call__(self, tree: T) -> T:
        leaves = [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
        if not self._packs and all(leaf.device == self._device for leaf in leaves):
            return tree
        if not self._packs or any(leaf.device.type != "cpu" for leaf in leaves):
            return map_tensors(lambda leaf: leaf.to(self._device), tree)
        self._turn = 1 - self._turn
        brought = iter(self._buffers[self._turn].bring(leaves))
        return map_tensors(lambda leaf: next(brought), tree)


class _Buffer:
    """Memory of one turn, for each type of number."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = dict[torch.dtype, Tensor]()
        self._sent: Any = None

    def bring(self, leaves: list[Tensor]) -> list[Tensor]:
        if self._sent is not None:
            self._sent.synchronize()  # Long done, as a rule: that was two turns ago.
        there = {dtype: self._brought(leaves, dtype) for dtype in {leaf.dtype for leaf in leaves}}
        if self._device.type == "cuda":
            self._sent = torch.cuda.Event()
            # In the stream that copies: of this device, which needn't be the current one.
            self._sent.record(torch.cuda.current_stream(self._device))
        return [next(there[leaf.dtype]) for leaf in leaves]

    def _brought(self, leaves: list[Tensor], dtype: torch.dtype) -> Any:
        mine = [leaf for leaf in leaves if leaf.dtype == dtype]
        sizes = [math.prod(leaf.shape) for leaf in mine]
        memory = self._memory.get(dtype)
        if memory is None or len(memory) < sum(sizes):
            on_gpu = self._device.type == "cuda"
            memory = torch.empty(sum(sizes), dtype=dtype, pin_memory=on_gpu)
            self._memory[dtype] = memory
        used = memory[: sum(sizes)]
        for part, leaf in zip(used.split(sizes), mine, strict=True):
            part.copy_(leaf.reshape(-1))
        parts = used.to(self._device, non_blocking=True, copy=True).split(sizes)
        return iter([part.view(leaf.shape) for part, leaf in zip(parts, mine, strict=True)])
