"""A causal transformer as a memory: every step attends to all steps before it.

While acting it keeps the keys and values of past steps, so that a step costs one row of attention, linear in their number.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.struct import struct


@struct
class Cache:
    """What each of L layers has seen in S slots, the last inputs of B rows. A slot that a row sat out is not `valid`."""

    keys: Tensor  # [B, L, heads, S, D]
    values: Tensor  # [B, L, heads, S, D]
    valid: Tensor  # [B, S] bool


class Transformer(nn.Module):
    """Layers of causal self-attention and perceptrons, each behind a layer norm (Xiong et al. 2020, arXiv:2002.04745).

        x₀ = W input + p(position);   x ← x + Attention(norm(x));   x ← x + W₂ relu(W₁ norm(x));   output = norm(x_L)

    p are the sines and cosines of Vaswani et al. 2017 (arXiv:1706.03762); a row's position counts the steps it took part in.

    Args:
      width: H, a multiple of num_heads and even; context: the longest sequence; longer ones are refused.
      generator: draws the weights Xavier-uniform; torch's global one if None. Biases start at 0.
    Raises: ValueError for a number out of range.
    """

    positions: Tensor  # [context, H]

    def __init__(
        self,
        input_size: int,
        *,
        width: int,
        num_layers: int,
        num_heads: int,
        context: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in {
            "width": width,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "context": context,
        }.items():
            if size < 1:
                raise ValueError(f"{name} {size}: expected 1 or more")
        if width % num_heads or width % 2:
            raise ValueError(f"width {width}: expected an even multiple of num_heads, {num_heads}")
        self.output_size, self.max_steps, self.num_heads = width, context, num_heads
        self.embed = nn.Linear(input_size, width)
        self.layers = nn.ModuleList(_Layer(width, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("positions", _sinusoids(context, width), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def initial(self, batch_size: int) -> Cache:
        size = (batch_size, len(self.layers), self.num_heads, 0, self.output_size // self.num_heads)
        empty = self.embed.weight.new_zeros(size)
        return Cache(keys=empty, values=empty, valid=torch.zeros(batch_size, 0, dtype=torch.bool, device=empty.device))

    def step(self, x: Tensor, state: Cache, active: Tensor | None = None) -> tuple[Tensor, Cache]:
        """As metarl.nn.recurrent.Memory. Raises: ValueError beyond the context."""
        self._check_length(state.valid.shape[1] + 1)
        # What a row sits out it attends to itself all the same, so that its softmax isn't empty; the output means nothing.
        seen = torch.cat([state.valid, state.valid.new_ones(len(x), 1)], dim=1)
        h = self.embed(x) + self.positions[state.valid.sum(-1)]
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            h, key, value = cast(_Layer, layer).step(h, state.keys[:, number], state.values[:, number], seen)
            keys.append(key)
            values.append(value)
        after = Cache(
            keys=torch.stack(keys, dim=1),
            values=torch.stack(values, dim=1),
            valid=seen if active is None else torch.cat([state.valid, active[:, None]], dim=1),
        )
        return self.norm(h), after

    def sequence(self, x: Tensor) -> Tensor:
        """As metarl.nn.recurrent.Memory. Raises: ValueError beyond the context."""
        self._check_length(len(x))
        h = (self.embed(x) + self.positions[: len(x), None]).transpose(0, 1)  # [B, T, H]
        for layer in self.layers:
            h = layer(h)
        return self.norm(h).transpose(0, 1)

    def _check_length(self, num_steps: int) -> None:
        if num_steps > self.max_steps:
            raise ValueError(
                f"a sequence of {num_steps} steps is longer than the transformer's context {self.max_steps}"
            )


class _Layer(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention, self.norm_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, H], causal."""
        query, key, value = self._heads(x)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._rest(x, attended.transpose(1, 2).flatten(2))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, H], past keys and values [B, heads, S, D], seen [B, S + 1] -> output, keys and values of S + 1 slots."""
        query, key, value = self._heads(x[:, None])
        keys, values = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        attended = functional.scaled_dot_product_attention(query, keys, values, attn_mask=seen[:, None, None])
        return self._rest(x, attended.flatten(1)), keys, values

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, H] -> query, key and value [B, heads, T, D]."""
        projected = self.project(self.norm_attention(x)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.mix(attended)
        return x + self.narrow(self.widen(self.norm_perceptron(x)).relu())


def _sinusoids(num_positions: int, width: int) -> Tensor:
    """[positions, width]: sin and cos of position / 10000^(2i / width)."""
    frequency = 10000.0 ** (-torch.arange(0, width, 2) / width)
    angle = torch.arange(num_positions)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
