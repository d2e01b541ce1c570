"""The mean of a loss over some of the points that an adaptation passes, with its gradient and
curvature.

A learner that should be good after every inner step judges φ₁, ..., φ_K, each on the data that was
gathered there. One for which the end alone counts judges φ_K.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.choices import check_choice
from metarl.core import params as P
from metarl.core.differentiated import Differentiate, DifferentiatedLoss, OutputLoss
from metarl.core.linearize import LinearizedAdaptation
from metarl.types import Batch, Params

JUDGED_UPDATES = ("last", "all")

Cotangents = dict[int, Params]
"""k -> a gradient by φₖ, leaves [n, ...]."""


@dataclass(frozen=True)
class Judged:
    """1/M Σₖ ℓ(φₖ; batchₖ) of n tasks, over M of the points φ₁, ..., φ_K."""

    adaptation: LinearizedAdaptation
    points: dict[int, DifferentiatedLoss]
    """k -> ℓ at φₖ; K comes first."""

    @property
    def share(self) -> float:
        """1/M."""
        return 1 / len(self.points)

    @property
    def value(self) -> Tensor:
        """The mean of each task: [n]."""
        return self.share * torch.stack([point.value for point in self.points.values()]).sum(0)

    @property
    def cotangents(self) -> Cotangents:
        """The gradient by each φₖ."""
        return {k: P.scaled(point.gradient, self.share) for k, point in self.points.items()}

    def of(self, loss: OutputLoss, batches: Mapping[int, Batch]) -> "Judged":
        """Another loss at the same points, of a batch for each; the forward passes are shared."""
        points = {k: point.of(loss, batches[k]) for k, point in self.points.items()}
        return Judged(self.adaptation, points)

    def gauss_newton_product(self, v: Params, rule_v: Params) -> tuple[Params, Params]:
        """1/M Σₖ Jₖᵀ Gₖ Jₖ v, summed over the tasks, with Jₖ = ∂φₖ/∂θ: (for θ, for the rule's
        parameters)."""
        path = self.adaptation.pushed_path(v, rule_v)
        moved = {k: point.gauss_newton_product(path[k]) for k, point in self.points.items()}
        return pulled_back(
            self.adaptation, {k: P.scaled(leaf, self.share) for k, leaf in moved.items()}
        )


def judge(
    adaptation: LinearizedAdaptation,
    differentiate: Differentiate,
    loss: OutputLoss,
    support: tuple[Batch, ...],
    query: Batch,
    judged_updates: str,
) -> Judged:
    """Judges φ_K on the query and, with `judged_updates` all, φₖ on support[k], which was gathered
    there.

    Args: differentiate: the derivatives of `loss`.
    """
    points = {len(support): differentiate(adaptation.adapted, query)}
    if judged_updates == "all":
        points |= {k: adaptation.points[k].of(loss, support[k]) for k in range(1, len(support))}
    return Judged(adaptation, points)


def pulled_back(adaptation: LinearizedAdaptation, cotangents: Cotangents) -> tuple[Params, Params]:
    """Σₖ Jₖᵀ uₖ, summed over the tasks: (for θ, for the rule's parameters).

    Args: cotangents: uₖ of some points; φ_K must be among them.
    """
    (alone,) = each_pulled_back(adaptation, cotangents)
    return alone


def each_pulled_back(
    adaptation: LinearizedAdaptation, cotangents: Cotangents
) -> list[tuple[Params, Params]]:
    """`pulled_back` of each of several learners side by side."""
    earlier = dict(cotangents)
    return adaptation.pullbacks(earlier.pop(len(adaptation.steps)), earlier)


def added(
    cotangents: Cotangents, k: int, gradient: Params, scale: float | Tensor = 1.0
) -> Cotangents:
    """Returns the cotangents with `scale` times another gradient by φₖ."""
    before = cotangents.get(k)
    both = P.scaled(gradient, scale) if before is None else P.add(before, gradient, scale)
    return {**cotangents, k: both}


def check_judged_updates(judged_updates: str) -> str:
    """Returns the word. Raises: ValueError for an unknown one."""
    check_choice("judged_updates", judged_updates, JUDGED_UPDATES)
    return judged_updates
