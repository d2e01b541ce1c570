"""What the few-shot learners share: their training tasks, and parameters, or a module, under an
outer optimizer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core import saved
from metarl.core.descent import APART, Descent
from metarl.fewshot.losses import Objective
from metarl.fewshot.types import Episodes, Streams, TaskSize, TaskSource
from metarl.struct import map_tensors, replace
from metarl.types import Metrics, Params, as_metrics


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run gives every learner besides the numbers of its YAML."""

    source: TaskSource
    size: TaskSize
    """The size of the tasks that the learner will answer for."""
    embed: Any
    """The feature network, untrained, with its `num_features`."""
    streams: Streams
    device: torch.device
    """The device of the learner's tensors. The network it is given may lie elsewhere."""
    train_ways: int | None = None
    """Ways of the training tasks, where the learner isn't told another number; None: those of
    `size`."""

    def training_size(self, ways: int | None = None) -> TaskSize:
        """The size of the training tasks. Args: ways: what the learner is told; None: nothing."""
        return replace(self.size, ways=ways or self.train_ways or self.size.ways)

    def draw(self, num: int, size: TaskSize | None = None) -> Episodes:
        """`num` training tasks of the learner's own stream, on its device; of another size if one
        is given."""
        episodes = self.source.sample(num, size or self.size, self.streams.tasks)
        return map_tensors(lambda leaf: leaf.to(self.device), episodes)


class Meta:
    """Groups of meta-learned parameters and the Adam that changes them, in place: the tensors stay
    the same objects.

    Args:
      groups: for instance {"network": θ, "rule": α}; their tensors are the ones that are written
        to.
      lr: of Adam (Kingma & Ba 2015, arXiv:1412.6980).
      max_norm: gradients are scaled down to this norm; None: never.
    """

    def __init__(
        self, groups: Mapping[str, Params], *, lr: float, max_norm: float | None = None
    ) -> None:
        self.groups = {name: P.detached(group) for name, group in groups.items()}
        self._joined = P.joined(self.groups)
        self._descent = Descent(self._joined, lr=lr, max_norm=max_norm)

    def descend(self, gradient: Mapping[str, Params]) -> Tensor:
        """Takes an Adam step against `gradient`, which has the names of `groups`. Returns its norm
        [].

        Raises: FloatingPointError, naming the parameter, if the gradient isn't finite.
        """
        return self._descent.against(P.joined(gradient))

    def state_dict(self) -> dict[str, Any]:
        return {
            "params": {name: leaf.detach() for name, leaf in self._joined.items()},
            **self._descent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict(), apart=APART)
        P.assign(self._joined, state["params"])
        self._descent.load_state_dict(state)


def meta_descend(
    meta: Meta, meta_gradient: Callable[..., Any], objective: Objective, episodes: Episodes
) -> Metrics:
    """Takes one step of `meta` against the gradient of the mean loss over tasks. Returns what a
    gradient learner reports of it.

    Args: meta_gradient: (groups, support, query) -> losses [N], the gradient of their mean, and
    measures [N].
    Raises: FloatingPointError as `Meta.descend` does.
    """
    losses, gradient, measures = meta_gradient(meta.groups, episodes.support, episodes.query)
    norm = meta.descend(gradient)
    found = {
        "loss": losses.mean(),
        objective.measure_name: measures.mean(),
        "meta_gradient_norm": norm,
    }
    return {"tasks": len(losses), **as_metrics(found)}


def answer_metrics(objective: Objective, answer: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Returns the mean loss [] of answers to questions whose right ones are y, with its graph, and
    their mean accuracy (or squared error) [] without."""
    return {
        "loss": objective.loss(answer, y).mean(),
        objective.measure_name: objective.measure(answer.detach(), y).mean(),
    }


class TrainedModule:
    """A module whose parameters Adam changes against the gradient of a loss.

    Args: halve_every: steps after which Adam's rate is halved, again and again; None: never.
    """

    def __init__(self, module: nn.Module, *, lr: float, halve_every: int | None = None) -> None:
        self._module = module
        self._descent = Descent(dict(module.named_parameters()), lr=lr, halve_every=halve_every)

    def step(self, loss: Tensor) -> None:
        """Raises: FloatingPointError, naming the parameter, if the gradient isn't finite."""
        self._descent.down(loss)

    def state_dict(self) -> dict[str, Any]:
        return {"module": self._module.state_dict(), **self._descent.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict(), apart=APART)
        self._module.load_state_dict(state["module"])
        self._descent.load_state_dict(state)
