"""Memories: networks whose output depends on all inputs so far, for B rows at once; here GRU and
LSTM.

A memory runs step by step where the inputs come one at a time, and over whole sequences where they
are known; both give the same numbers to rounding.
"""

from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from metarl.core.checks import check_counts
from metarl.nn.external_memory import ExternalMemory, ExternalState
from metarl.nn.gru_sequence import gru_sequence
from metarl.struct import choose_rows

State = TypeVar("State")

_SMALL = 5000
"""A GRU's state of so many numbers, B H, at most goes over a sequence by our own operations on a
CPU: they take .41 of the time of torch's layer for 10 rows of 64, .67 for 40, 1.0 for 40 of 128,
1.3 for 100 of 128 (300 steps and back, one thread). Torch's LSTM is quick for few rows, too.
"""


class Memory(Protocol):
    """What learners ask of a memory module."""

    output_size: int
    max_steps: int | None
    """The longest sequence it can take; None for any."""

    def initial(self, batch_size: int) -> Any:
        """The state before the first input: a pytree of tensors [B, ...]."""
        ...

    def step(self, x: Tensor, state: Any, active: Tensor | None = None) -> tuple[Tensor, Any]:
        """x [B, I] -> output [B, H], and the state after it. Where active [B] is False the state
        stays as it is, and the output means nothing; None is True everywhere. `state` itself is
        never written to."""
        ...

    def sequence(self, x: Tensor) -> Tensor:
        """x [T, B, I] -> outputs [T, B, H] of the T steps from the initial state."""
        ...


class GRU(nn.Module):
    """One layer of gated recurrent units (Cho et al. 2014, arXiv:1406.1078). State: h [B, H], also
    its output.

    Args: generator: draws the weights U[−1/√H, 1/√H], as torch does; torch's global one if None.
    Raises: ValueError for a size below 1.
    """

    max_steps = None

    def __init__(
        self, input_size: int, hidden_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.output_size = _checked(hidden_size)
        self.layer = nn.GRU(input_size, hidden_size)
        draw_recurrent(self.layer, hidden_size, generator)

    def initial(self, batch_size: int) -> Tensor:
        return next(self.parameters()).new_zeros(batch_size, self.output_size)

    def step(self, x: Tensor, state: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = torch.gru_cell(x, state, *self.layer.all_weights[0])
        return hidden, _where(active, hidden, state)

    def sequence(self, x: Tensor, initial: Tensor | None = None) -> Tensor:
        """x [T, B, I] -> the states [T, B, H] after T steps from `initial` [B, H], by default 0."""
        state = self.initial(x.shape[1]) if initial is None else initial
        if x.device.type == "cpu" and state.numel() <= _SMALL:
            return gru_sequence(x, state, self.layer.all_weights[0])
        output: Tensor = self.layer(x, state.unsqueeze(0))[0]  # on a GPU a single kernel, cuDNN's
        return output


class LSTM(nn.Module):
    """One layer of long short-term memory (Hochreiter & Schmidhuber 1997). State: (h, c), [B, H]
    each; output h.

    Args: generator: draws the weights U[−1/√H, 1/√H], as torch does; torch's global one if None.
    Raises: ValueError for a size below 1.
    """

    max_steps = None

    def __init__(
        self, input_size: int, hidden_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.output_size = _checked(hidden_size)
        self.layer = nn.LSTM(input_size, hidden_size)
        draw_recurrent(self.layer, hidden_size, generator)

    def initial(self, batch_size: int) -> tuple[Tensor, Tensor]:
        zeros = next(self.parameters()).new_zeros(batch_size, self.output_size)
        return zeros, zeros

    def step(
        self, x: Tensor, state: tuple[Tensor, Tensor], active: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        after = torch.lstm_cell(x, state, *self.layer.all_weights[0])
        return after[0], _where(active, after, state)

    def sequence(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class ExternalRecall(nn.Module):
    """An external memory as a `Memory`: sequences go step by step, for each write depends on what
    was read before.

    Args: `sizes` are those of ExternalMemory: num_slots, slot_size, num_heads, usage_decay,
    key_strength.
    """

    max_steps = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        generator: torch.Generator | None = None,
        **sizes: Any,
    ) -> None:
        super().__init__()
        self.cell = ExternalMemory(input_size, hidden_size, **sizes, generator=generator)
        self.output_size = self.cell.output_size

    def initial(self, batch_size: int) -> ExternalState:
        return self.cell.initial(batch_size)

    def step(
        self, x: Tensor, state: ExternalState, active: Tensor | None = None
    ) -> tuple[Tensor, ExternalState]:
        output, after = self.cell(x, state)
        return output, _where(active, after, state)

    def sequence(self, x: Tensor) -> Tensor:
        state, outputs = self.cell.initial(x.shape[1]), []
        recurrent = self.cell.recurrent()
        for entered in self.cell.entered(x).unbind(0):
            output, state = self.cell.advance(entered, recurrent, state)
            outputs.append(output)
        return torch.stack(outputs)


class NoMemory(nn.Module):
    """tanh(W x + b) of the present input alone: what remains of an agent whose memory is taken
    away. A baseline.

    Args: generator: draws the parameters U[−1/√I, 1/√I], as torch does; torch's global one if None.
    """

    max_steps = None

    def __init__(
        self, input_size: int, hidden_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.output_size = _checked(hidden_size)
        self.layer = nn.Linear(input_size, hidden_size)
        draw_recurrent(self.layer, input_size, generator)

    def initial(self, batch_size: int) -> Tensor:
        return self.layer.weight.new_zeros(batch_size, 0)

    def step(self, x: Tensor, state: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.sequence(x), state

    def sequence(self, x: Tensor) -> Tensor:
        return self.layer(x).tanh()


def _where(active: Tensor | None, after: State, before: State) -> State:
    return after if active is None else choose_rows(active, after, before)


def _checked(hidden_size: int) -> int:
    check_counts({"hidden_size": hidden_size})
    return hidden_size


def draw_recurrent(layer: nn.Module, size: int, generator: torch.Generator | None) -> None:
    """Draws all parameters from U[−1/√size, 1/√size], as torch does in recurrent layers of `size`
    units, but by `generator`."""
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(size**-0.5), size**-0.5, generator=generator)
