"""What the few-shot learners share: their training tasks, and parameters, or a module, under an outer optimizer."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.checks import check_positive
from metarl.fewshot.losses import Objective
from metarl.fewshot.types import Episodes, Streams, TaskSize, TaskSource
from metarl.struct import map_tensors
from metarl.types import Metrics, Params


class Meta:
    """Groups of meta-learned parameters and the Adam that changes them, in place: the tensors stay the same objects.

    Args:
      groups: for instance {"network": θ, "rule": α}; their tensors are the ones that are written to.
      lr: of Adam (Kingma & Ba 2015, arXiv:1412.6980).
      max_norm: gradients are scaled down to this norm; None: never.
    """

    def __init__(self, groups: Mapping[str, Params], *, lr: float, max_norm: float | None = None) -> None:
        check_positive({"outer_lr": lr, "max_grad_norm": max_norm})
        self.groups = {name: P.detached(group) for name, group in groups.items()}
        self._joined = P.joined(self.groups)
        self._max_norm = max_norm
        self.optimizer = torch.optim.Adam(list(self._joined.values()), lr=lr)

    def descend(self, gradient: Mapping[str, Params]) -> float:
        """One Adam step against `gradient`, which has the names of `groups`. Returns: its norm.

        Raises: FloatingPointError, naming the parameter, if the gradient isn't finite.
        """
        joined = P.joined(gradient)
        norm = P.norm(joined).item()
        if not math.isfinite(norm):
            raise FloatingPointError(f"meta-gradient {P.first_non_finite(joined)} holds NaN or infinity")
        scale = 1.0 if self._max_norm is None else min(1.0, self._max_norm / (norm + 1e-12))
        for name, leaf in self._joined.items():
            leaf.grad = joined[name] * scale
        self.optimizer.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {
            "params": {name: leaf.detach() for name, leaf in self._joined.items()},
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        P.assign(self._joined, state["params"])
        self.optimizer.load_state_dict(state["optimizer"])


def draw_tasks(source: TaskSource, num: int, size: TaskSize, streams: Streams, device: torch.device) -> Episodes:
    """`num` training tasks of the learner's own stream, on its device."""
    episodes = source.sample(num, size, streams.tasks)
    return map_tensors(lambda leaf: leaf.to(device), episodes)


def meta_descend(
    meta: Meta, objective: Objective, losses: Tensor, gradient: Mapping[str, Params], measures: Tensor
) -> Metrics:
    """One step of `meta` against the gradient of the mean of losses [N], and what a gradient learner reports of it.

    Raises: FloatingPointError as `Meta.descend` does.
    """
    norm = meta.descend(gradient)
    return {
        "tasks": len(losses),
        "loss": losses.mean().item(),
        objective.measure_name: measures.mean().item(),
        "meta_gradient_norm": norm,
    }


class Descent:
    """A module whose parameters Adam (Kingma & Ba 2015, arXiv:1412.6980) changes against the gradient of a loss.

    Args: halve_every: steps after which Adam's rate is halved, again and again; None: never.
    """

    def __init__(self, module: nn.Module, *, lr: float, halve_every: int | None = None) -> None:
        check_positive({"outer_lr": lr, "halve_every": halve_every})
        self._module = module
        self.optimizer = torch.optim.Adam(module.parameters(), lr=lr)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, halve_every or 2**31, gamma=0.5)

    def step(self, loss: Tensor) -> None:
        """Raises: FloatingPointError, naming the parameter, if the gradient isn't finite."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad for name, p in self._module.named_parameters() if p.grad is not None}
        if (bad := P.first_non_finite(gradients)) is not None:
            raise FloatingPointError(f"the gradient of {bad} holds NaN or infinity; the loss is {loss.item()}")
        self.optimizer.step()
        self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Of the module, too."""
        return {
            "module": self._module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._module.load_state_dict(state["module"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.optimizer.load_state_dict(state["optimizer"])
