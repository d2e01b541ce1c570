"""The least that an outer update leaves of a latent's deviation σ before any inner step
(metarl/nn/latent.py).

What a narrower σ earns at once, episodes that are all alike, the meta-gradient sees well; what a
wider one finds out for the steps to come hardly. So σ falls until the episodes before the first
inner step tell little of the task (docs/tuning.md has the numbers).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.core.checks import check_shares
from metarl.nn.latent import LOG_STD
from metarl.types import Params


@dataclass(frozen=True)
class LatentBound:
    """Keeps σ at `min_std` or above, of 1 at the start; None: it may fall as far as it likes."""

    min_std: float | None = None

    def __post_init__(self) -> None:
        check_shares({"latent_min_std": self.min_std})

    @torch.no_grad()
    def keep(self, theta: Params) -> None:
        """Writes the least into what an outer update of θ has left below it."""
        if self.min_std is not None and LOG_STD in theta:
            theta[LOG_STD].clamp_(min=math.log(self.min_std))

    def stays(self, theta: Params, gradient: Params) -> Tensor | None:
        """[L] bool, which elements of log σ lie at the least and would be lowered; None if they
        can't. A trust region shouldn't be spent on them."""
        if self.min_std is None or LOG_STD not in theta:
            return None
        at_least = theta[LOG_STD] <= math.log(self.min_std) + 1e-6
        return at_least & (gradient[LOG_STD] > 0)


def without(direction: Params, stays: Tensor | None) -> Params:
    """The direction, but 0 where log σ stays."""
    if stays is None:
        return direction
    return {**direction, LOG_STD: direction[LOG_STD].masked_fill(stays, 0.0)}
