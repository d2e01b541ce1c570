"""One step of Adam against a gradient: its norm is measured, checked and limited. Every learner
that descends does it here.

What such a step is judged by (a norm, a KL divergence, a rate) is a tensor [], so that it can
become one value a seed, [S].
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import check_counts, check_positive
from metarl.types import ALONE, Params, Ranks

APART = ("optimizer", "schedule")
"""What a descent adds to a learner's state, and checks by itself; files of older versions have a
schedule without need."""

Clip = Callable[[Params, float | None], tuple[Params, Tensor]]
"""A gradient and the largest norm it may have (None: any) -> the gradient scaled down to it, and
its norm [] before."""


def clipped(gradient: Params, max_norm: float | None) -> tuple[Params, Tensor]:
    """Scales a gradient down to `max_norm`. The norm is the root of the sum of all entries'
    squares."""
    norm = P.norm(gradient)
    if max_norm is None:
        return gradient, norm
    return P.scaled(gradient, (max_norm / (norm.double() + 1e-12)).clamp(max=1.0)), norm


def clipped_as_torch(gradient: Params, max_norm: float | None) -> tuple[Params, Tensor]:
    """A gradient no longer than `max_norm`, and its norm before, with the rounding of
    `torch.nn.utils.clip_grad_norm_`: a norm of the tensors' norms, and 1e-6 beside it."""
    norm = nn.utils.get_total_norm(list(gradient.values()))
    if max_norm is None:
        return gradient, norm
    return P.scaled(gradient, (max_norm / (norm + 1e-6)).clamp(max=1.0)), norm


class Descent:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980) on named tensors, which it changes in place.

    Args:
      params: the tensors that are written to; they stay the same objects.
      max_norm: gradients are scaled down to this norm; None: never.
      epsilon: Adam's ε.
      halve_every: steps after which the rate is halved, again and again; None: never.
      clip: how a norm is measured and limited; `clipped` and `clipped_as_torch` differ in rounding
        alone.
      fused: whether torch takes a step in one pass over all numbers, where it can: with many
        parameters and many steps that is several times faster, and rounds otherwise.
    Raises: ValueError, named as in the learners' settings, for a number out of range.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        *,
        lr: float,
        max_norm: float | None = None,
        epsilon: float = 1e-8,
        halve_every: int | None = None,
        clip: Clip = clipped,
        fused: bool = False,
    ) -> None:
        check_counts({"halve_every": halve_every})
        check_positive({"outer_lr": lr, "max_grad_norm": max_norm})
        self._params = dict(params)
        self._max_norm = max_norm
        self._clip = clip
        self._halve_every = halve_every
        self._num_steps = 0
        leaves = list(self._params.values())
        fused = fused and all(leaf.device.type in ("cpu", "cuda") for leaf in leaves)
        self._optimizer = torch.optim.Adam(leaves, lr=lr, eps=epsilon, fused=fused or None)

    @property
    def lr(self) -> Tensor:
        """The present rate [], float64."""
        return torch.tensor(self._optimizer.param_groups[0]["lr"], dtype=torch.float64)

    @lr.setter
    def lr(self, rate: Tensor) -> None:
        self._optimizer.param_groups[0]["lr"] = rate.item()

    def against(self, gradient: Params) -> Tensor:
        """Takes a step against `gradient`, which has the names of the parameters. Returns its norm
        [] before it was limited.

        Raises: FloatingPointError, naming the parameter, if the gradient isn't finite.
        """
        return self._step({name: gradient[name] for name in self._params})

    def down(self, loss: Tensor, ranks: Ranks = ALONE) -> Tensor:
        """Takes a step against the gradient of `loss` [], whose graph leads to the parameters.
        Returns the norm as `against`.

        Args: ranks: whose losses are added up, of which `loss` is one.
        """
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        found = {name: leaf.grad for name, leaf in self._params.items() if leaf.grad is not None}
        found = ranks.total(found)
        return self._step(found, loss)

    def _step(self, gradient: Params, loss: Tensor | None = None) -> Tensor:
        limited, norm = self._clip(gradient, self._max_norm)
        if not norm.isfinite():  # On a GPU the only wait of a step.
            remark = "" if loss is None or loss.isfinite() else f"; the loss is {loss.item()}"
            bad = P.first_non_finite(gradient)
            raise FloatingPointError(
                f"the gradient's norm is {norm.item()}{remark}"
                if bad is None
                else f"the gradient of {bad} holds NaN or infinity{remark}"
            )
        for name, leaf in limited.items():
            self._params[name].grad = leaf
        self._optimizer.step()
        self._num_steps += 1
        if self._halve_every is not None and self._num_steps % self._halve_every == 0:
            self.lr = self.lr / 2
        return norm

    def state_dict(self) -> dict[str, Any]:
        schedule = (
            {} if self._halve_every is None else {"schedule": {"last_epoch": self._num_steps}}
        )
        return {"optimizer": self._optimizer.state_dict(), **schedule}

    def check(self, found: Mapping[str, Any], name: str = "") -> None:
        """Compares a saved state with this one. Raises: ValueError naming what doesn't fit, with
        `name` before it."""
        optimizer, schedule = (saved.below(name, part) for part in APART)
        saved.check_adam(self._optimizer, found.get("optimizer"), optimizer)
        if self._halve_every is not None:
            saved.check(found.get("schedule"), {"last_epoch": self._num_steps}, schedule)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises: ValueError naming what doesn't fit; so do all others of this name."""
        self.check(state)
        self._optimizer.load_state_dict(dict(state["optimizer"]))
        if self._halve_every is not None:
            self._num_steps = state["schedule"]["last_epoch"]


class FollowedRate:
    """Moves the rate of a descent after each iteration: it follows a KL, and the most that it may be
    falls.

    Args:
      max_lr: the most, at first.
      kl_target: see `follow_kl`; None: it follows none.
      half_life: iterations after which the most has halved, and so on; None: it stays.
    Raises: ValueError, named as in the learners' settings, for a number out of range.
    """

    def __init__(
        self, descent: Descent, *, max_lr: float, kl_target: float | None, half_life: float | None
    ) -> None:
        check_positive({"kl_target": kl_target, "outer_lr_half_life": half_life})
        self._descent = descent
        self._max_lr = max_lr
        self._kl_target = kl_target
        self._half_life = half_life

    @property
    def follows_kl(self) -> bool:
        return self._kl_target is not None

    def follow(self, kl: Tensor) -> None:
        """Args: kl: [] of the iteration that has ended."""
        descent = self._descent
        if self._kl_target is not None:
            descent.lr = follow_kl(descent.lr, kl, target=self._kl_target, max_lr=self._max_lr)
        if self._half_life is not None:
            self._max_lr *= halving(self._half_life)
            descent.lr = descent.lr.clamp(max=self._max_lr)

    def state_dict(self) -> dict[str, Any]:
        """The most, where it falls; the rate itself is in the descent's state."""
        return {} if self._half_life is None else {"max_lr": self._max_lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._half_life is not None:
            self._max_lr = state["max_lr"]


FAR = 1000.0
"""How far what follows a KL may go from where it began. After many quiet iterations it must be back
within a few, and a penalty of exactly 0 would stay 0 for ever."""


def halving(half_life: float | None) -> float:
    """What a number is multiplied by in each iteration to halve in `half_life` of them; None: it
    stays."""
    return 1.0 if half_life is None else 0.5 ** (1 / half_life)


def follow_kl(lr: Tensor, kl: Tensor, *, target: float, max_lr: float) -> Tensor:
    """Returns the rate that keeps the KL of an iteration's steps near its target: `lr` over 1.5
    where the KL is above twice the target, down to `max_lr` / FAR, times 1.5, up to `max_lr`, where
    it is below half. Elementwise."""
    faster = torch.where(kl < target / 2, (lr * 1.5).clamp(max=max_lr), lr)
    slower = torch.minimum(lr, (lr / 1.5).clamp(min=max_lr / FAR))
    return torch.where(kl > 2 * target, slower, faster)


def follow_penalty(coefficient: Tensor, kl: Tensor, *, target: float, start: float) -> Tensor:
    """Returns the coefficient of a KL penalty that keeps the KL near its target: doubled where the
    KL is above 1.5 times the target, halved where it is below target / 1.5 (Schulman et al. 2017,
    arXiv:1707.06347, section 4), but no further than FAR from `start`, at which it began.
    Elementwise."""
    weaker = torch.where(kl < target / 1.5, coefficient / 2, coefficient)
    stronger = torch.where(kl > 1.5 * target, coefficient * 2, weaker)
    return stronger.clamp(min=start / FAR, max=start * FAR)
