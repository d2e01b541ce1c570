"""Two critics of one architecture in a single pass: their weights are stacked, and a layer of both
is one batched matrix product.

Actor-critic methods take the smaller of two independent estimates, because a policy that follows
one estimate finds its errors.

Source: Fujimoto et al. 2018 (arXiv:1802.09477).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from metarl.core.checks import check_layers
from metarl.nn.mlp import Activation, Layer, draw_by_width, mlp
from metarl.types import Params

NUM_CRITICS = 2


class TwinCritics(nn.Module):
    """Q₁(x), Q₂(x): [..., I] -> [2, ...]. They share nothing but the input."""

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        *,
        activation: Activation = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_layers({"hidden_sizes": hidden_sizes})
        self.activation: Activation = activation
        self._num_layers = len(hidden_sizes) + 1
        sizes = (input_size, *hidden_sizes, 1)
        for i, (width, outputs) in enumerate(pairwise(sizes)):
            weight, bias = (
                torch.empty(NUM_CRITICS, outputs, width),
                torch.empty(NUM_CRITICS, outputs),
            )
            self.register_parameter(f"weight_{i}", nn.Parameter(weight))
            self.register_parameter(f"bias_{i}", nn.Parameter(bias))
        for critic in range(NUM_CRITICS):
            pairs = [
                (w[critic], b[critic]) for w, b in self._weights(dict(self.named_parameters()))
            ]
            draw_by_width(pairs, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.with_params(dict(self.named_parameters()), x)

    def with_params(self, params: Params, x: Tensor) -> Tensor:
        """The critics under `params`, for instance detached ones, to which no gradient goes."""
        rows = x.reshape(-1, x.shape[-1])
        found = mlp(rows.expand(NUM_CRITICS, *rows.shape), self._weights(params), self.activation)
        return found.reshape(NUM_CRITICS, *x.shape[:-1])

    def _weights(self, params: Params) -> list[Layer]:
        return [(params[f"weight_{i}"], params[f"bias_{i}"]) for i in range(self._num_layers)]
