"""Running mean and deviation of what a network takes in or puts out; part of the network's state,
hence of checkpoints."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from metarl.nn.mlp import MLP

_EPSILON = 1e-8  # of the variance: a feature that never changes
RETURNS_DIFFER = 1e-6
"""The `least_variance` of returns: of such as are all the same nothing is to be told apart."""
_BOUND = 10.0  # deviations; what is further out is an accident, not information


class Normaliser(nn.Module):
    """(x − mean) / deviation of everything seen by `update`, clamped to ±10; the identity before
    the first.

    Statistics are merged as by Chan, Golub & LeVeque 1979.

    Args: least_variance: below it the deviation counts as 1: for what other weights are measured
      by, which a deviation of nearly 0 would make huge.
    """

    mean: Tensor  # [F]
    variance: Tensor  # [F]
    count: Tensor  # []
    scale: Tensor  # [F] 1 / deviation, derived from the variance

    def __init__(self, size: int, *, least_variance: float = 0.0) -> None:
        super().__init__()
        self._least_variance = least_variance
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        # float32 stops counting at 16 million
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(size), persistent=False)
        self.register_load_state_dict_post_hook(_derive_scale)

    @property
    def deviation(self) -> Tensor:
        deviation = (self.variance + _EPSILON).sqrt()
        return deviation.masked_fill_(self.variance < self._least_variance, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """[..., F] -> [..., F]."""
        return (x - self.mean).mul_(self.scale).clamp(-_BOUND, _BOUND)

    def inverse(self, y: Tensor) -> Tensor:
        return y * self.deviation + self.mean

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Takes in the rows of x [n, F], n at least 1."""
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        share = len(x) / (self.count + len(x))
        difference = mean - self.mean
        spread = self.variance * (self.count > 0)  # the ones before the first update are no data
        self.variance.copy_(
            spread * (1 - share) + variance * share + difference**2 * share * (1 - share)
        )
        self.mean.add_(difference * share)
        self.count.add_(len(x))
        _derive_scale(self)


@torch.no_grad()
def update_beneath(network: MLP, statistics: Normaliser, x: Tensor) -> None:
    """Takes x [n, F] into the statistics, and changes the last layer of a network whose outputs [F]
    are deviations of them, so that these mean what they meant (van Hasselt et al. 2016,
    arXiv:1602.07714)."""
    mean, deviation = statistics.mean.clone(), statistics.deviation
    statistics.update(x)
    layer = cast(nn.Linear, network.layers[-1])
    scale = deviation / statistics.deviation
    layer.weight.mul_(scale.unsqueeze(-1))
    layer.bias.mul_(scale).add_((mean - statistics.mean) / statistics.deviation)


def _derive_scale(normaliser: Normaliser, *_: Any) -> None:
    normaliser.scale.copy_(1 / normaliser.deviation)
