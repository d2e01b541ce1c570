"""A gradient learner meets new few-shot tasks: each task has parameters of its own, and every
update is an inner step."""

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.adapt import Backend, loss_gradient, over_tasks
from metarl.core.gradients import Mode, inner_gradient
from metarl.core.rules import moved_by
from metarl.fewshot.losses import Objective
from metarl.fewshot.types import Examples
from metarl.nn.batch_norm import BatchNorm
from metarl.struct import struct
from metarl.types import InnerRule, Params


@struct
class Adapted:
    params: Params  # [N, ...]
    num_updates: int
    # [N, B, ...] inputs of the last update, whose statistics batch norm may take
    reference: Tensor | None


class GradientAdapter:
    """Meets FewShotAdapter. Shares memory with the parameters it was given: it adapts from where
    they are now.

    Args:
      transductive: batch norm takes the statistics of the questions that are answered together, as
        in Finn et al. 2017; else those of the support set, and before any update of each question
        alone.
      mode: of the gradient through adaptation; Implicit(...) also says what the steps descend.
    """

    def __init__(
        self,
        network: nn.Module,
        params: Params,
        rule: InnerRule,
        rule_params: Params,
        objective: Objective,
        *,
        num_updates: int,
        transductive: bool,
        mode: Mode = "through",
    ) -> None:
        self._network = network
        self._params = params
        self._rule = rule
        self._rule_params = rule_params
        self._loss = SupportLoss(network, objective)
        self._mode = mode
        self.num_updates = num_updates
        self.transductive = transductive and has_batch_norm(network)

    def begin(self, num_tasks: int) -> Adapted:
        return Adapted(params=P.expand(self._params, num_tasks), num_updates=0, reference=None)

    @torch.no_grad()
    def update(self, state: Adapted, data: Examples) -> Adapted:
        names = moved_by(self._rule, state.params)
        gradient = over_tasks(
            lambda params, examples: loss_gradient(self._loss, params, names, examples),
            state.params,
            data,
            backend=best_backend(self._network),
        )
        start = P.expand(self._params, len(data.y))
        gradient = inner_gradient(gradient, state.params, start, self._mode)
        params = self._rule(state.params, gradient, self._rule_params, state.num_updates)
        return Adapted(params=params, num_updates=state.num_updates + 1, reference=data.x)

    @torch.no_grad()
    def predict(self, state: Adapted, x: Tensor) -> Tensor:
        return predicted(
            self._network, state.params, x, state.reference, transductive=self.transductive
        )


def predicted(
    network: nn.Module, params: Params, x: Tensor, reference: Tensor | None, *, transductive: bool
) -> Tensor:
    """Each of N tasks' network (leaves [N, ...]) on its x [N, B, ...] -> [N, B, O].

    Batch norm takes the statistics of x if `transductive`; else those of `reference` [N, B', ...],
    or of each question alone while there is none.
    """

    def alone(one: Params, rows: Tensor) -> Tensor:
        return torch.func.vmap(lambda row: answers(network, one, row.unsqueeze(0)).squeeze(0))(rows)

    together, backend = partial(answers, network), best_backend(network)
    if transductive or not has_batch_norm(network):
        return over_tasks(together, params, x, backend=backend)
    if reference is None:
        return over_tasks(alone, params, x, backend=backend)
    return over_tasks(together, params, x, reference, backend=backend)


def answers(
    network: nn.Module, params: Params, x: Tensor, reference: Tensor | None = None
) -> Tensor:
    """The network's outputs [B, O] for one task's x [B, ...]; batch norm takes the statistics of
    `reference` [B', ...], or of x itself if None."""
    if reference is None:
        return P.call(network, params, x)
    count = reference.shape[0]
    return P.call(network, params, torch.cat([reference, x]), count)[count:]


@dataclass(frozen=True)
class SupportLoss:  # not a closure, so that predictors pickle
    """What an inner step lowers: the loss on the support set, with the support set's own
    statistics."""

    network: nn.Module
    objective: Objective

    def __call__(self, params: Params, batch: Examples) -> Tensor:
        return self.objective.loss(cast(Any, P.call(self.network, params, batch.x)), batch.y)


def best_backend(network: nn.Module) -> Backend:
    """Convolutions as the pictures' shape suggests; all else batched over tasks, pictures or
    not."""
    return "auto" if any(isinstance(module, nn.Conv2d) for module in network.modules()) else "vmap"


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, BatchNorm) for module in network.modules())
