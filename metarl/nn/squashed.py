"""A policy for bounded actions: the tanh of a Gaussian whose mean and deviation depend on the
input.

Its samples are a differentiable function of the network's outputs, so that a critic's gradient
reaches the policy through the action. Log-probabilities stay right where tanh is flat.

Source: Haarnoja et al. 2018 (arXiv:1801.01290, appendix C). How we differ: the usual log(1 − a² +
  ε) is wrong by ε far out, where an action is ±1 to rounding; here the correction is a function of
  what tanh was taken of.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_layers
from metarl.nn.heads import LOG_2PI, Outputs
from metarl.nn.mlp import MLP, Activation, draw_by_width, mlp
from metarl.noise import Noise
from metarl.types import Params

LOG_STD_RANGE = (-20.0, 2.0)
"""The least and the largest log σ; there it has no gradient."""
LAST_LAYER = 1e-3
"""The first parameters of the last layer are U[±this]: every action is likely at the start."""


class SquashedGaussianPolicy(nn.Module):
    """a = tanh(u) in (−1, 1)^A with u ~ N(μ(x), diag σ(x)²), so

        log π(a | x) = log N(u; μ, σ²) − Σᵢ log(1 − tanh²(uᵢ)),
        log(1 − tanh²(u)) = 2 (log 2 − u − softplus(−2u))

    Outputs: mean and log_std [..., A], of u.
    """

    def __init__(
        self,
        input_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        *,
        activation: Activation = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_layers({"hidden_sizes": hidden_sizes})
        self.action_size = action_size
        sizes = (input_size, *hidden_sizes, 2 * action_size)
        self.trunk = MLP(sizes, activation, generator=generator)
        weights = self.trunk.weights(dict(self.trunk.named_parameters()))
        draw_by_width(weights, last=LAST_LAYER, generator=generator)

    def forward(self, x: Tensor) -> Outputs:
        """[..., I] -> the outputs [..., A]."""
        return _outputs(self.trunk(x))

    def with_params(self, params: Params, x: Tensor) -> Outputs:
        return _outputs(mlp(x, self.trunk.weights(params, "trunk."), self.trunk.activation))

    @staticmethod
    def sample(outputs: Outputs, noise: Tensor) -> tuple[Tensor, Tensor]:
        """tanh(μ + σ ε) for ε [..., A], and its log-probability [...]. Gradients flow through
        both."""
        u = outputs["mean"] + outputs["log_std"].exp() * noise
        return u.tanh(), _log_density(noise, outputs["log_std"], u)

    @staticmethod
    def act(outputs: Outputs, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """A sample, or without noise tanh(μ), and its log-probability. No gradient flows through
        either."""
        detached = {name: leaf.detach() for name, leaf in outputs.items()}
        mean = detached["mean"]
        drawn = noise.normal(*mean.shape, dtype=mean.dtype) if noise else torch.zeros_like(mean)
        return SquashedGaussianPolicy.sample(detached, drawn)

    @staticmethod
    def log_prob(outputs: Outputs, action: Tensor) -> Tensor:
        """[...] of given actions [..., A]. An action that was rounded to ±1 counts as the nearest
        number inside; what u it came from, only `sample` knows."""
        inside = 1 - torch.finfo(action.dtype).eps / 2
        u = action.clamp(-inside, inside).atanh()
        z = (u - outputs["mean"]) * (-outputs["log_std"]).exp()
        return _log_density(z, outputs["log_std"], u)


def _outputs(found: Tensor) -> Outputs:
    mean, log_std = found.chunk(2, dim=-1)
    return {"mean": mean, "log_std": log_std.clamp(*LOG_STD_RANGE)}


def _log_density(z: Tensor, log_std: Tensor, u: Tensor) -> Tensor:
    """[...] of tanh(u), where u is z deviations from its mean."""
    gaussian = -0.5 * z.square() - log_std - 0.5 * LOG_2PI
    log_slope = 2 * (math.log(2) - u - functional.softplus(-2 * u))
    return (gaussian - log_slope).sum(-1)
