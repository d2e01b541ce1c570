"""Operations on the tasks of several learners at once, whose numbers are those of each learner alone,
bit for bit.

One operation on all parts of a tensor costs less than one on each, but on a CPU it may round
otherwise. Torch's vectorised functions take the last few numbers of a tensor, which don't fill the
vectors of the processor, by another formula; products of matrices depend on whether a matrix begins
at a multiple of 16 bytes. Where a part would be rounded otherwise than alone, it is computed alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_VECTORS = 64
"""Numbers: a multiple of what the loops of vectorised functions take at once."""

_ALIGNED = 4
"""Numbers: float32 ones of 16 bytes."""


def placed_alone(part: Tensor) -> Tensor:
    """`part` itself, or a copy, so that it begins where a tensor of its own would."""
    if part.device.type != "cpu" or part.data_ptr() % (4 * _ALIGNED) == 0:
        return part
    return part.clone()


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor, parts: int) -> Tensor:
    """function(x) of contiguous x [N, ...] with `parts` equal parts of N. It may write to x."""
    if parts == 1 or x.device.type != "cpu" or fills_vectors(x.numel() // parts):
        return function(x)
    return torch.cat([function(part) for part in x.chunk(parts)])


def product(
    function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor, *, parts: int
) -> Tensor:
    """function(x, weight, bias) of x [N, ..., i], weight [N, o, i] and bias [N, o]."""
    if _are_aligned(x, parts) and _are_aligned(weight, parts):
        return function(x, weight, bias)
    blocks = zip(*(_aligned_parts(leaf, parts) for leaf in (x, weight, bias)), strict=True)
    return torch.cat([function(*block) for block in blocks])


def fills_vectors(size: int) -> bool:
    """Whether so many numbers end where a vector does."""
    return size % _VECTORS == 0


def is_aligned(size: int) -> bool:
    """Whether what follows so many numbers begins where a tensor of its own would, as far as
    products can tell."""
    return size % _ALIGNED == 0


def _are_aligned(x: Tensor, parts: int) -> bool:
    return x.device.type != "cpu" or is_aligned(x.numel() // parts)


def _aligned_parts(x: Tensor, parts: int) -> list[Tensor]:
    blocks = list(x.chunk(parts))
    return blocks if _are_aligned(x, parts) else [block.clone() for block in blocks]
