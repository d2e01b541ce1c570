"""The first weights of agents with a belief as VariBAD's published code draws them (Zintgraf et al.
2020, arXiv:1910.08348; lmzintgraf/varibad)."""

from collections.abc import Iterable

import torch
from torch import nn

from metarl.nn.heads import CategoricalPolicy, GaussianPolicy
from metarl.nn.mlp import MLP
from metarl.nn.recurrent import GRU

TANH_GAIN = 5 / 3
"""What torch's `calculate_gain` says of tanh."""


@torch.no_grad()
def draw_as_published(
    *,
    memory: GRU,
    policy: GaussianPolicy | CategoricalPolicy,
    value: MLP,
    others: Iterable[nn.Module],
    generator: torch.Generator,
) -> None:
    """Draws all weights anew:

    memory                               orthogonal, biases 0
    hidden layers of policy and value    rows of length 5/3 in random directions, biases 0
    means of a Gaussian policy           rows of length 1, biases 0
    logits of a categorical policy       orthogonal times .01, biases 0
    the value's last layer, and others   U[±1/√inputs], weights and biases, as torch does
    """
    *hidden, last = _linears(policy.trunk)
    *judging, last_value = _linears(value)
    for layer in (*hidden, *judging):
        _draw_rows(layer, TANH_GAIN, generator)
    if isinstance(policy, CategoricalPolicy):
        nn.init.orthogonal_(last.weight, gain=0.01, generator=generator)
        nn.init.zeros_(last.bias)
    else:
        _draw_rows(last, 1.0, generator)
    for layer in (last_value, *(layer for module in others for layer in _linears(module))):
        bound = layer.in_features**-0.5
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    for name, leaf in memory.named_parameters():
        if "bias" in name:
            nn.init.zeros_(leaf)
        else:
            nn.init.orthogonal_(leaf, generator=generator)


def _draw_rows(layer: nn.Linear, length: float, generator: torch.Generator) -> None:
    layer.weight.normal_(generator=generator)
    layer.weight.mul_(length / layer.weight.norm(dim=1, keepdim=True))
    nn.init.zeros_(layer.bias)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
