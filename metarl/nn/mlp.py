"""Multi-layer perceptrons that also take the parameters of many tasks at once.

With parameters stacked over N tasks a layer is one batched matrix product, which is several times
faster than vmap.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.choices import check_choice
from metarl.errors import SettingError
from metarl.nn.parts import elementwise, product

Activation = Literal["tanh", "relu"]
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}

Layer = tuple[Tensor, Tensor]
"""The weight [o, i] and the bias [o] of a layer."""


class MLP(nn.Module):
    """y = W_L φ(… φ(W₁ x + b₁) …) + b_L: no activation after the last layer.

    Weights start Xavier-uniform (Glorot & Bengio 2010), the last ones times `output_scale`; biases
    start at zero.

    Args:
      sizes: (input, hidden …, output), at least two.
      activation: tanh or relu.
      generator: draws the weights; torch's global one if None.
    Raises: ValueError for an unknown activation, fewer than two sizes or a size below 1.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Activation = "tanh",
        *,
        output_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        if len(sizes) < 2 or min(sizes) < 1:
            raise SettingError(
                f"sizes {list(sizes)}: expected those of input, hidden layers and output, 1 or more "
                "each"
            )
        self.activation: Activation = activation
        linears = [nn.Linear(i, o) for i, o in pairwise(sizes)]
        for layer in linears:
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            linears[-1].weight.mul_(output_scale)
        self.layers = nn.ModuleList(linears)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]. With parameters stacked over N tasks (through `params.call`), x is
        [N, ..., I]."""
        weights = [
            (cast(nn.Linear, layer).weight, cast(nn.Linear, layer).bias) for layer in self.layers
        ]
        return mlp(x, weights, self.activation)

    def weights(self, params: dict[str, Tensor], prefix: str = "") -> list[tuple[Tensor, Tensor]]:
        """(weight, bias) of each layer, taken from `params` under the names `prefix` + this
        module's own."""
        names = [f"{prefix}layers.{i}." for i in range(len(self.layers))]
        return [(params[name + "weight"], params[name + "bias"]) for name in names]


def mlp(x: Tensor, weights: Sequence[Layer], activation: Activation, parts: int = 1) -> Tensor:
    """The perceptron as a function of its (weight [o, i], bias [o]) pairs, or [N, o, i], [N, o] for
    x [N, ..., i].

    Args: parts: so many equal parts of the N tasks have the numbers that each would have by itself,
    bit for bit; see metarl/nn/parts.py.
    """
    phi = ACTIVATIONS[activation] if torch.is_grad_enabled() else IN_PLACE[activation]
    for layer in weights[:-1]:
        x = elementwise(phi, _layer(x, layer, parts), parts)
    return _layer(x, weights[-1], parts)


def _layer(x: Tensor, layer: Layer, parts: int) -> Tensor:
    return affine(x, *layer) if parts == 1 else product(affine, x, *layer, parts=parts)


@torch.no_grad()
def draw_by_width(
    layers: Sequence[Layer], *, last: float = 3e-3, generator: torch.Generator | None = None
) -> None:
    """Draws the first parameters of a perceptron as rlkit's actors and critics have them: hidden
    weights U[±1/√o] and biases 0.1 of layers with o units, and U[±last] for all of the last layer.

    Outputs begin near 0, and few rectified units are dead.
    """
    for weight, bias in layers[:-1]:
        weight.uniform_(-(len(weight) ** -0.5), len(weight) ** -0.5, generator=generator)
        bias.fill_(0.1)
    for leaf in layers[-1]:
        leaf.uniform_(-last, last, generator=generator)


def tanh_(x: Tensor) -> Tensor:
    """tanh in place, outside autograd. On a CPU in float32 as 2 σ(2x) − 1: the same to 1.2e-7
    absolute, 2–3 times faster, where torch's tanh costs more than the matrix product before it.
    Other types take torch's; so do GPUs, for which it is one kernel instead of four."""
    if x.dtype is not torch.float32 or x.device.type != "cpu":
        return x.tanh_()
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


IN_PLACE = {"tanh": tanh_, "relu": torch.relu_}


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b with shared weights [o, i] and x [..., i], or with each task's own [N, o, i] and x
    [N, ..., i].

    Raises: ValueError if x has no task dimension of the weights' size.
    """
    if weight.dim() == 2:
        return functional.linear(x, weight, bias)
    num_tasks = weight.shape[0]
    if x.dim() < 2 or x.shape[0] != num_tasks:
        raise ValueError(
            f"weights of {num_tasks} tasks need inputs [{num_tasks}, ..., I], got {tuple(x.shape)}"
        )
    rows = x if x.dim() == 3 else x.reshape(num_tasks, -1, x.shape[-1])
    out = torch.baddbmm(bias.unsqueeze(1), rows, weight.transpose(1, 2))
    return out if x.dim() == 3 else out.reshape(*x.shape[:-1], weight.shape[1])
