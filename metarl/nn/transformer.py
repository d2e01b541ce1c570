"""A causal transformer as a memory: every step attends to all steps before it.

While acting it keeps the keys and values of past steps, so that a step costs one row of attention,
linear in their number. They lie in two parts, for a step must not write to the state that it starts
from: a step copies the small part of the newest ones alone, and only now and then they join the
large one.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_counts
from metarl.errors import SettingError
from metarl.struct import struct

RECENT_SLOTS = 16  # the most that a step copies


@struct
class Slots:
    """What each layer has seen in S consecutive inputs of B rows. A slot that a row sat out is not
    `valid`."""

    keys: tuple[Tensor, ...]  # of each layer, [B, heads, S, D]
    values: tuple[Tensor, ...]
    valid: Tensor  # [B, S] bool


@struct
class Cache:
    """All inputs so far: first those in `old`, then at most RECENT_SLOTS in `recent`."""

    old: Slots
    recent: Slots


class Transformer(nn.Module):
    """Layers of causal self-attention and perceptrons, each behind a layer norm (Xiong et al. 2020,
    arXiv:2002.04745).

        x₀ = W input + p(position)
        x ← x + Attention(norm(x)),     x ← x + W₂ relu(W₁ norm(x)) in each of L layers
        output = norm(x_L)

    p are the sines and cosines of Vaswani et al. 2017 (arXiv:1706.03762); a row's position counts
    the steps it took part in.

    Args:
      width: H, a multiple of num_heads and even; context: the longest sequence; longer ones are
        refused.
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
        check_counts({"width": width, "num_layers": num_layers})
        check_counts({"num_heads": num_heads, "context": context})
        if width % num_heads or width % 2:
            raise SettingError(
                f"width {width}: expected an even multiple of num_heads, {num_heads}"
            )
        self.output_size = width
        self.max_steps = context
        self.num_heads = num_heads
        self.embed = nn.Linear(input_size, width)
        self.layers = nn.ModuleList(_Layer(width, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("positions", _sinusoids(context, width), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def initial(self, batch_size: int) -> Cache:
        size = (batch_size, self.num_heads, 0, self.output_size // self.num_heads)
        empty = tuple(self.embed.weight.new_zeros(size) for _ in self.layers)
        valid = torch.zeros(batch_size, 0, dtype=torch.bool, device=self.embed.weight.device)
        slots = Slots(keys=empty, values=empty, valid=valid)
        return Cache(old=slots, recent=slots)

    def step(self, x: Tensor, state: Cache, active: Tensor | None = None) -> tuple[Tensor, Cache]:
        """Does what metarl.nn.recurrent.Memory says. Raises: ValueError beyond the context."""
        old, recent = _with_room(state)
        valid = torch.cat([old.valid, recent.valid], dim=1)
        self._check_length(valid.shape[1] + 1)
        # What a row sits out it attends to itself all the same, so that its softmax isn't empty;
        # the output means nothing.
        seen = torch.cat([valid, valid.new_ones(len(x), 1)], dim=1)
        h = self.embed(x) + self.positions[valid.sum(-1)]
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            past = [(slots.keys[number], slots.values[number]) for slots in (old, recent)]
            h, key, value = cast(_Layer, layer).step(h, past, seen)
            keys.append(key)
            values.append(value)
        newest = seen[:, -1:] if active is None else active[:, None]
        appended = Slots(
            keys=tuple(keys), values=tuple(values), valid=torch.cat([recent.valid, newest], dim=1)
        )
        return self.norm(h), Cache(old=old, recent=appended)

    def sequence(self, x: Tensor) -> Tensor:
        """Does what metarl.nn.recurrent.Memory says. Raises: ValueError beyond the context."""
        self._check_length(len(x))
        h = (self.embed(x) + self.positions[: len(x), None]).transpose(0, 1)  # [B, T, H]
        for layer in self.layers:
            h = layer(h)
        return self.norm(h).transpose(0, 1)

    def _check_length(self, num_steps: int) -> None:
        if num_steps > self.max_steps:
            raise SettingError(
                f"a sequence of {num_steps} steps is longer than the transformer's context "
                f"{self.max_steps}"
            )


def _with_room(cache: Cache) -> tuple[Slots, Slots]:
    """Returns the cache's parts; where the recent one is full, it has joined the old one."""
    old, recent = cache.old, cache.recent
    if recent.valid.shape[1] < RECENT_SLOTS:
        return old, recent

    def joined(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.cat(pair, dim=2) for pair in zip(first, second, strict=True))

    everything = Slots(
        keys=joined(old.keys, recent.keys),
        values=joined(old.values, recent.values),
        valid=torch.cat([old.valid, recent.valid], dim=1),
    )
    empty = tuple(key[:, :, :0] for key in recent.keys)
    return everything, Slots(keys=empty, values=empty, valid=recent.valid[:, :0])


class _Layer(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(width)
        self.norm_perceptron = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, H], causal."""
        query, key, value = self._heads(x)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._rest(x, attended.transpose(1, 2).flatten(2))

    def step(
        self, x: Tensor, past: list[tuple[Tensor, Tensor]], seen: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, H], keys and values [B, heads, S', D] of the old and of the recent slots, seen [B,
        S + 1] -> output, and the recent keys and values with those of x."""
        query, key, value = self._heads(x[:, None])
        (old_keys, old_values), (keys, values) = past
        keys, values = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        scores = (
            torch.cat([query @ k.transpose(-1, -2) for k in (old_keys, keys)], dim=-1)
            / key.shape[-1] ** 0.5
        )
        weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
        on_old, on_recent = weights.split([old_keys.shape[2], keys.shape[2]], dim=-1)
        attended = on_old @ old_values + on_recent @ values
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
