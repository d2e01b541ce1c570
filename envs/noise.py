"""Random numbers that are the same for world i in any number of worlds. torch.randn's aren't: it
pairs numbers across rows."""

import torch
from torch import Tensor


def normal_from_uniform(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones in [0, 1), by the inverse of the distribution
    function (so |z| < 7.1)."""
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))
