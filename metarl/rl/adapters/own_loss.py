"""An inner loss of a user's own, tried out on the first episodes that it learns from."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.core.chunks import take
from metarl.described import described
from metarl.errors import SettingError
from metarl.rl.data.batches import PolicyBatch

InnerLoss = Callable[[Tensor, PolicyBatch], Tensor]
"""(log π(a|s) [n, B] of the steps of n tasks by the parameters that are differentiated, the tasks'
steps) -> one number a task [n]."""


class OwnLoss:
    """Does what `loss` does."""

    def __init__(self, loss: Any) -> None:
        if not callable(loss):
            raise SettingError(
                f"inner_loss is a {type(loss).__name__}; expected lvc, reinforce or dice, or what is "
                "called with log-probabilities and a batch"
            )
        self._loss, self._is_tried = loss, False

    def __call__(self, log_prob: Tensor, batch: PolicyBatch) -> Tensor:
        return self._loss(log_prob, batch)

    def try_on(self, batch: PolicyBatch) -> None:
        """Looks at what it does with its first batch; later ones pass.

        Raises: SettingError naming what it does that no inner loss may.
        """
        if self._is_tried:
            return
        name = getattr(self._loss, "__name__", type(self._loss).__name__)
        before = {key: value.clone() for key, value in _tensors(batch)}
        with torch.enable_grad():
            log_prob = batch.log_prob.clone().requires_grad_()
            found = self._loss(log_prob, batch)
            _check_is_a_number_a_task(name, found, len(batch.log_prob))
            slope = _slope(name, found, log_prob)
        if changed := [key for key, value in _tensors(batch) if not _same(value, before[key])]:
            raise SettingError(
                f"{name} changed batch.{changed[0]} in place; expected it as it was given"
            )
        if not (found.isfinite().all() and slope.isfinite().all()):
            raise SettingError(
                f"{name} or its gradient is NaN or infinite for finite log-probabilities; expected "
                "finite numbers"
            )
        alone = torch.cat(
            [
                self._loss(batch.log_prob[i : i + 1], take(batch, slice(i, i + 1)))
                for i in range(min(2, len(found)))
            ]
        )
        if not torch.allclose(alone, found[:2].detach(), rtol=1e-3, atol=1e-5):
            raise SettingError(
                f"{name} gives the first tasks {alone.tolist()} by themselves and "
                f"{found[:2].tolist()} beside others; expected the same: means are over a task's "
                "steps alone"
            )
        self._is_tried = True


def _check_is_a_number_a_task(name: str, found: Any, num_tasks: int) -> None:
    is_one = isinstance(found, Tensor) and found.is_floating_point()
    if not is_one or found.shape != (num_tasks,):
        raise SettingError(
            f"{name} returned {described(found)}; expected one floating-point number for each of the tasks, "
            f"[{num_tasks}]"
        )


def _slope(name: str, found: Tensor, log_prob: Tensor) -> Tensor:
    """The gradient by the log-probabilities."""
    slope = None
    if found.requires_grad:
        (slope,) = torch.autograd.grad(found.sum(), log_prob, allow_unused=True)
    if slope is None:
        raise SettingError(
            f"{name} doesn't depend on the log-probabilities that it is called with, so no step "
            "could be taken; expected a function of them (batch.log_prob are those of the policy "
            "that acted, which are constants)"
        )
    return slope


def _tensors(batch: PolicyBatch) -> list[tuple[str, Tensor]]:
    return [(key, value) for key, value in vars(batch).items() if isinstance(value, Tensor)]


def _same(value: Tensor, other: Tensor) -> bool:
    return torch.equal(torch.nan_to_num(value), torch.nan_to_num(other))
