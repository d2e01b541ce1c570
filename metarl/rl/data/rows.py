"""Preallocated rows of several tensors, written in place, that can be put back as they were at a
mark: the ground of buffers."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.core import saved

SHARD_BYTES = 2**26
"""How much of an experience goes into one file. Files are removed whole, so that smaller ones free
the disk sooner."""


class Rows:
    """Rows of named tensors; the r-th row of all of them belongs together. There are none until
    `grow` makes room for some.

    Args: like: tensors [0, ...] that say which names, shapes and types of numbers a row has, and on
    which device they lie.
    """

    def __init__(self, like: Mapping[str, Tensor]) -> None:
        self._leaves = dict(like)
        self._overwritten: list[tuple[Tensor, dict[str, Tensor]]] | None = None
        """What was in the rows that were overwritten since the mark; None until the first mark, as
        nobody will ask for it."""

    def __len__(self) -> int:
        return min(len(leaf) for leaf in self._leaves.values())

    def __getitem__(self, name: str) -> Tensor:
        """All rows of one tensor, [len, ...]; to be read only."""
        return self._leaves[name]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._leaves)

    @property
    def device(self) -> torch.device:
        return next(iter(self._leaves.values())).device

    @property
    def row_bytes(self) -> int:
        """Returns how many bytes a row takes."""
        return sum(
            math.prod(leaf.shape[1:]) * leaf.element_size() for leaf in self._leaves.values()
        )

    def grow(self, num: int) -> None:
        """Makes room for `num` rows in all. What is in the new ones means nothing."""
        for name, leaf in self._leaves.items():
            # Not zeros: an operating system gives memory when it is first written to.
            larger = leaf.new_empty(num, *leaf.shape[1:])
            larger[: len(leaf)] = leaf
            self._leaves[name] = larger

    def check(self, rows: Mapping[str, Tensor], num: int, name: str) -> None:
        """Checks rows from outside; call it before they are written.

        Raises: ValueError unless they are `num` rows as these are; FloatingPointError if they hold
        NaN or infinity.
        """
        saved.check_names(rows, self._leaves, name)
        for key, mine in self._leaves.items():
            saved.check_tensor(rows[key], (num, *mine.shape[1:]), mine.dtype, f"{name}.{key}")
            if not rows[key].isfinite().all():
                raise FloatingPointError(f"tensor {name}.{key} holds NaN or infinity")

    def write(self, at: Tensor, rows: Mapping[str, Tensor], overwritten: Tensor) -> None:
        """Writes rows [R, ...] at the places `at` [R], no two of which are the same.

        Args: overwritten: of these places those that are in use.
        """
        at, overwritten = at.to(self.device), overwritten.to(self.device)
        if self._overwritten is not None and len(overwritten):
            self._overwritten.append((overwritten, self.take(overwritten)))
        for name, leaf in self._leaves.items():
            leaf[at] = rows[name].to(leaf)

    def take(self, at: Tensor) -> dict[str, Tensor]:
        """Copies of the rows at these places, of any shape: leaves [*at.shape, ...]."""
        return {name: leaf[at] for name, leaf in self._leaves.items()}

    def mark(self) -> None:
        self._overwritten = []

    def release(self) -> None:
        """Ends the mark: nobody will ask for what was there before."""
        self._overwritten = None

    def put_back(self) -> None:
        """Brings back what has been overwritten since the mark."""
        for at, rows in reversed(self._overwritten or []):
            for name, leaf in self._leaves.items():
                leaf[at] = rows[name]
        self._overwritten = []
