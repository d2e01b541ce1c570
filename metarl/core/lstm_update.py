"""A learned inner rule: an LSTM whose cell state is the learner's parameters decides what to forget
of them and how far to step.

Source: Ravi & Larochelle 2017 (Optimization as a model for few-shot learning, ICLR), sections 3.1
to 3.3. It isn't an `InnerRule`, for it also reads the loss and remembers, for every parameter, what
it has seen.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.checks import check_counts
from metarl.errors import SettingError
from metarl.struct import struct
from metarl.types import Batch, LossFn, Params


@struct
class UpdateState:
    """What is kept between two steps: parameters θ of one task [D] or of N tasks [N, D], and what
    is remembered for each of them in H units."""

    theta: Tensor  # [..., D] the flattened parameters
    hidden: Tensor  # [..., D, H]
    cell: Tensor  # [..., D, H]
    forget: Tensor  # [..., D] the gates of the step before
    input: Tensor  # [..., D]


class LstmUpdate(nn.Module):
    """θₜ = fₜ θₜ₋₁ − iₜ ∇ₜ for each parameter by itself, with weights that all share (their eq. 2
    to 5):

        h, c = LSTM([p(∇ₜ), p(ℓₜ)], h, c)          p: the preprocessing below
        fₜ   = σ(w_f [h, θₜ₋₁, fₜ₋₁] + b_f)        near 1 at first
        iₜ   = σ(w_i [h, θₜ₋₁, iₜ₋₁] + b_i)        a small rate at first

    Args:
      hidden_size: H of the lower LSTM.
      forget_bias, input_bias: b_f and b_i are uniform in these ranges, [low, high], at first.
      generator: draws all weights, the others uniform in ±0.01; torch's global one if None.
    Raises: ValueError for no unit, or a range that ends before it starts.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        forget_bias: Sequence[float],
        input_bias: Sequence[float],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts({"hidden_size": hidden_size})
        self.hidden_size = hidden_size
        self.lower = nn.Linear(4 + hidden_size, 4 * hidden_size)
        self.forget = nn.Linear(hidden_size + 2, 1)
        self.input = nn.Linear(hidden_size + 2, 1)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.01, 0.01, generator=generator)
        for name, gate, bias in (
            ("forget_bias", self.forget, forget_bias),
            ("input_bias", self.input, input_bias),
        ):
            low, high = bias
            if not low <= high:
                raise SettingError(f"{name} [{low}, {high}]: expected the lower bound first")
            nn.init.uniform_(gate.bias, low, high, generator=generator)

    def begin(self, theta: Tensor) -> UpdateState:
        """Returns the state before the first step: nothing is remembered, f = 1 and i = 0."""
        empty = theta.new_zeros(*theta.shape, self.hidden_size)
        ones = torch.ones_like(theta)
        return UpdateState(
            theta=theta, hidden=empty, cell=empty, forget=ones, input=torch.zeros_like(theta)
        )

    def forward(self, state: UpdateState, gradient: Tensor, loss: Tensor) -> UpdateState:
        """One step with the gradient [..., D] and loss [...] at θ. Gradients flow to θ and the
        weights through all but these two if the caller detached them, as Ravi & Larochelle do."""
        seen = torch.cat(
            [preprocessed(gradient), preprocessed(loss.unsqueeze(-1).expand_as(gradient))], dim=-1
        )
        # Written out, for torch's fused cell knows no vmap.
        enter, keep, leave, new = self.lower(torch.cat([seen, state.hidden], dim=-1)).chunk(
            4, dim=-1
        )
        cell = keep.sigmoid() * state.cell + enter.sigmoid() * new.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        forget, rate = (
            gate(torch.cat([hidden, state.theta.unsqueeze(-1), before.unsqueeze(-1)], dim=-1))
            .sigmoid()
            .squeeze(-1)
            for gate, before in ((self.forget, state.forget), (self.input, state.input))
        )
        theta = forget * state.theta - rate * gradient
        return UpdateState(theta=theta, hidden=hidden, cell=cell, forget=forget, input=rate)


def preprocessed(x: Tensor, p: float = 10.0) -> Tensor:
    """Size and sign apart, so that numbers of all magnitudes can be told: [...] -> [..., 2]
    (Andrychowicz et al. 2016, arXiv:1606.04474, appendix A):

    (log |x| / p, sign x) where |x| ≥ e⁻ᵖ, else (−1, eᵖ x).
    """
    large = x.abs() >= torch.e**-p
    size = torch.where(large, x.abs().clamp(min=torch.e**-p).log() / p, -1.0)
    sign = torch.where(large, x.sign(), torch.e**p * x)
    return torch.stack([size, sign], dim=-1)


def lstm_step(
    loss: LossFn,
    update: LstmUpdate,
    update_params: Params,
    state: UpdateState,
    batch: Batch,
    like: Params,
) -> UpdateState:
    """One task's step on its batch. Inner gradients and losses count as constants, so that only
    first derivatives are taken.

    Args: like: names and shapes of the learner's parameters, which `state.theta` has flattened.
    """
    with torch.no_grad():
        at = P.unflatten(state.theta.detach(), like)
        gradient, value = torch.func.grad_and_value(loss)(at, batch)
        gradient, value = P.detached(gradient), value.detach()
    after: UpdateState = P.call(update, update_params, state, P.flatten(gradient), value)
    return after
