"""A tree of tensors as one tensor, and back: what a policy remembers, for a file that takes and
gives one tensor."""

from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor


class OneTensor:
    """How a tree lies in a tensor. Args: like: a tree of the shapes and types to come."""

    def __init__(self, like: Any) -> None:
        leaves, self._structure = pytree.tree_flatten(like)
        self._like = [(leaf.shape, leaf.dtype) for leaf in leaves]

    def flat(self, tree: Any) -> Tensor:
        """[M] float32."""
        return torch.cat([leaf.flatten().float() for leaf in pytree.tree_leaves(tree)])

    def tree(self, flat: Tensor) -> Any:
        parts = flat.split([shape.numel() for shape, _ in self._like])
        leaves = [
            part.reshape(shape).to(dtype)
            for part, (shape, dtype) in zip(parts, self._like, strict=True)
        ]
        return pytree.tree_unflatten(leaves, self._structure)
