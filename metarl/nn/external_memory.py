"""External memory with least-recently-used access: what is written once can be read many steps
later by its content.

Source: Santoro et al. 2016 (Meta-learning with memory-augmented neural networks, ICML), section 3,
on the reading by content of neural Turing machines (Graves et al. 2014, arXiv:1410.5401, section
3.3.1).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_counts, check_positive, check_unit_interval
from metarl.errors import SettingError
from metarl.struct import struct

_EPSILON = 1e-8  # of norms: an empty slot has none


@struct
class ExternalState:
    """B rows, R heads, S slots of D numbers, H units of the controller."""

    hidden: Tensor  # [B, H] of the controller
    cell: Tensor  # [B, H] of the controller
    slots: Tensor  # [B, S, D] the memory
    read_weights: Tensor  # [B, R, S] where each head read last
    usage: Tensor  # [B, S] how much and how lately each slot was read or written
    read: Tensor  # [B, R D] what was read last


class ExternalMemory(nn.Module):
    """An LSTM controller with R heads that write to and read from S slots, one step at a time, for
    B rows at once.

        h, c   = LSTM([x, r], h, c)                  r: what was read in the step before
        kᵢ, aᵢ = tanh(W h), tanh(V h)                what head i looks for, what it writes
        gᵢ, βᵢ = σ(w h), β₀ softplus(v h) / log 2    its write gate, the strength of its key
        wᵢ     = gᵢ wʳᵢ + (1 − gᵢ) ℓᵢ                ℓᵢ: one-hot, the i-th least used slot
        M      = M erased at every ℓᵢ, + Σᵢ wᵢ aᵢᵀ
        wʳᵢ    = softmax(βᵢ cos(kᵢ, M)),  r = [wʳᵢ M]
        u      = γ u + Σᵢ wʳᵢ + wᵢ

    How we differ: there, the key is also what is written. But a head that looks for what it has
    just written finds just that slot, whose cosine is 1, and whoever wants to find a picture by its
    looks but to write its label, which comes a step later, needs two vectors. The key strength β is
    the neural Turing machine's: without it a softmax of cosines, which differ by 2 at most, over
    128 slots is nearly flat. The usage u only ranks slots, so no gradient goes through it.
    Head i may write to the i-th least used slot, where each of theirs may to the R least used.

    Args:
      input_size, hidden_size: I and H; num_slots, slot_size, num_heads: S, D and R, R at most S.
      usage_decay: γ in [0, 1].
      key_strength: β₀, about what every βᵢ is at first, above 0.
      generator: draws the weights, as torch.nn.Linear and LSTMCell do; torch's global one if None.
    Raises: ValueError for a number out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_slots: int,
        slot_size: int,
        num_heads: int,
        usage_decay: float,
        key_strength: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "num_slots": num_slots,
            "slot_size": slot_size,
        }
        check_counts({**sizes, "num_heads": num_heads})
        if num_heads > num_slots:
            raise SettingError(
                f"num_heads {num_heads}: expected at most num_slots, {num_slots}; each writes to "
                "its own slot"
            )
        check_unit_interval({"usage_decay": usage_decay})
        check_positive({"key_strength": key_strength})
        self.hidden_size = hidden_size
        self.num_slots = num_slots
        self.slot_size = slot_size
        self.num_heads = num_heads
        self.usage_decay = usage_decay
        self.key_strength = key_strength
        self.output_size = hidden_size + num_heads * slot_size
        self.controller = nn.LSTMCell(input_size + num_heads * slot_size, hidden_size)
        self.heads = nn.Linear(hidden_size, num_heads * (2 * slot_size + 2))
        for parameter in self.parameters():
            nn.init.uniform_(
                parameter, -(hidden_size**-0.5), hidden_size**-0.5, generator=generator
            )

    def initial(self, batch_size: int) -> ExternalState:
        """Returns the state before the first step: empty slots, nothing read."""

        def zeros(*shape: int) -> Tensor:
            return self.heads.weight.new_zeros(batch_size, *shape)

        return ExternalState(
            hidden=zeros(self.hidden_size),
            cell=zeros(self.hidden_size),
            slots=zeros(self.num_slots, self.slot_size),
            read_weights=zeros(self.num_heads, self.num_slots),
            usage=zeros(self.num_slots),
            read=zeros(self.num_heads * self.slot_size),
        )

    def forward(self, x: Tensor, state: ExternalState) -> tuple[Tensor, ExternalState]:
        """x [B, I] -> output [B, H + R D], the controller's state beside what it read, and the
        state after the step."""
        return self.advance(self.entered(x), self.recurrent(), state)

    def entered(self, x: Tensor) -> Tensor:
        """What an input adds to the controller's gates: x [..., I] -> [..., 4 H]. Of a whole
        sequence it is one matrix product."""
        weight = self.controller.weight_ih[:, : x.shape[-1]]
        return functional.linear(x, weight, self.controller.bias_ih + self.controller.bias_hh)

    def recurrent(self) -> Tensor:
        """The weights [4 H, R D + H] by which the controller's gates depend on what was read and on
        its own hidden state."""
        num_read = self.num_heads * self.slot_size
        return torch.cat(
            [self.controller.weight_ih[:, -num_read:], self.controller.weight_hh], dim=1
        )

    def advance(
        self, entered: Tensor, recurrent: Tensor, state: ExternalState
    ) -> tuple[Tensor, ExternalState]:
        """The step of an input of which `entered` [B, 4 H] is all that is left to know; `recurrent`
        is the same for all steps."""
        hidden, cell = _controlled(entered, recurrent, state)
        key, written, gate, strength = self._headed(hidden)
        least_used = self._least_used(state.usage)
        write_weights = gate * state.read_weights + (1 - gate) * least_used
        kept = state.slots * (1 - least_used.sum(1))[..., None]
        slots = torch.baddbmm(kept, write_weights.mT, written)
        cosine = _normalised(key) @ slots.mT * _over_norm(slots).mT
        read_weights = (strength * cosine).softmax(-1)
        read = (read_weights @ slots).flatten(1)
        used = (read_weights + write_weights).sum(1).detach()
        after = ExternalState(
            hidden=hidden,
            cell=cell,
            slots=slots,
            read_weights=read_weights,
            usage=self.usage_decay * state.usage + used,
            read=read,
        )
        return torch.cat([hidden, read], dim=-1), after

    def _headed(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """hidden [B, H] -> the heads' keys and what they write [B, R, D], their gates and key
        strengths [B, R, 1]."""
        heads = self.heads(hidden).unflatten(-1, (self.num_heads, -1))
        key, written, gate, strength = heads.split([self.slot_size, self.slot_size, 1, 1], dim=-1)
        beta = self.key_strength / math.log(2) * functional.softplus(strength)
        return key.tanh(), written.tanh(), gate.sigmoid(), beta

    def _least_used(self, usage: Tensor) -> Tensor:
        """usage [B, S] -> one-hot [B, R, S] of the R least used slots; of equal ones the first."""
        chosen = usage.argsort(dim=-1, stable=True)[:, : self.num_heads]
        return functional.one_hot(chosen, self.num_slots).to(usage.dtype)


def _controlled(entered: Tensor, recurrent: Tensor, state: ExternalState) -> tuple[Tensor, Tensor]:
    """h and c after torch's LSTMCell has read [x, r], written out."""
    gates = entered + functional.linear(torch.cat([state.read, state.hidden], dim=-1), recurrent)
    enter, keep, new, leave = gates.chunk(4, dim=-1)
    cell = keep.sigmoid() * state.cell + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * cell.tanh(), cell


def _normalised(x: Tensor) -> Tensor:
    """x / ‖x‖ along the last dimension; the zero vector stays zero, with a finite gradient."""
    return x * _over_norm(x)


def _over_norm(x: Tensor) -> Tensor:
    """1 / ‖x‖ along the last dimension, which is kept: [..., 1]."""
    return ((x * x).sum(-1, keepdim=True) + _EPSILON).rsqrt()
