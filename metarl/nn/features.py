"""Feature networks for few-shot learners: a module [B, ...] -> [B, F] with `num_features`, and a
linear layer behind it.

Every one takes `num_reference` as a second argument: how many examples, from the first on, batch
norm takes its statistics from; None: all.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_one_layer_or_more
from metarl.nn.batch_norm import BatchNorm


class PerceptronFeatures(nn.Module):
    """Linear layers, each with (if `batch_norm`) batch norm and a ReLU. The input is flattened.

    Weights start Xavier-uniform (Glorot & Bengio 2010), biases at zero.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        sizes: Sequence[int],
        batch_norm: bool,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_one_layer_or_more({"sizes": sizes})
        widths = (torch.Size(input_shape).numel(), *sizes)
        self.layers = nn.ModuleList(linear(i, o, generator) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(width) if batch_norm else _NoNorm() for width in sizes)
        self.num_features = widths[-1]

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        """[B, ...] -> [B, F]."""
        x = x.flatten(1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.relu(norm(layer(x), num_reference))
        return x


class _NoNorm(nn.Module):
    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        return x


class Flat(nn.Module):
    """The input itself, flattened. `generator` is there for the other feature networks' sake."""

    def __init__(
        self, input_shape: Sequence[int], *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.num_features = torch.Size(input_shape).numel()

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        return x.flatten(1)


class WithHead(nn.Module):
    """A feature network `embed` and a linear `head`: [B, ...] -> [B, O], the logits or values that
    a task asks for."""

    def __init__(
        self, embed: nn.Module, num_outputs: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.embed = embed
        self.head = linear(cast(Any, embed).num_features, num_outputs, generator)

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        return self.head(self.embed(x, num_reference))


def linear(num_inputs: int, num_outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer, Xavier-uniform, its bias zero."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
