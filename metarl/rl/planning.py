"""Planning by sampling: the action sequence whose imagined return is highest, for W worlds at once,
by CEM or MPPI.

A plan is the mean of a distribution over sequences [H, W, A]. Sequences are clipped to the action
space *before* they are scored, so that what is scored is what would be done. The model is a
function `score`; neither method knows what it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import gymnasium
import torch
from torch import Tensor

from metarl.core.checks import check_below_one, check_counts, check_positive
from metarl.errors import SettingError
from metarl.noise import Noise

Score = Callable[[Tensor], Tensor]
"""Actions [H, W, C, A] -> the imagined return [W, C] of each of C candidates of each world; larger
is better."""


@dataclass(frozen=True)
class Bounds:
    """The box that actions lie in, [A] each."""

    low: Tensor
    high: Tensor

    @property
    def half_width(self) -> Tensor:
        return (self.high - self.low) / 2

    def clip(self, actions: Tensor) -> Tensor:
        return torch.clamp(actions, self.low, self.high)

    def middle(self, *shape: int) -> Tensor:
        """The middle of the box, [*shape, A]."""
        return ((self.low + self.high) / 2).expand(*shape, -1).clone()


def bounds_of(space: gymnasium.Space, device: torch.device) -> Bounds:
    """Raises: ValueError unless actions are vectors in a box with finite bounds, from which
    sequences can be drawn."""
    if (
        not isinstance(space, gymnasium.spaces.Box)
        or len(space.shape) != 1
        or not space.is_bounded()
    ):
        raise SettingError(
            f"action space {space}: expected a flat Box with finite bounds, for the planner "
            "samples from it"
        )
    return Bounds(
        *(
            torch.as_tensor(bound, dtype=torch.float32, device=device)
            for bound in (space.low, space.high)
        )
    )


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Settings of either method; see configs/algo/recurrent_mbrl.yaml for their sources.

    Raises: ValueError, naming it, for a number out of range.
    """

    method: str
    """How sequences are searched: cem or mppi."""
    horizon: int
    """H, control steps that a plan looks ahead."""
    num_candidates: int
    """C, sequences drawn for each world in each iteration."""
    num_iterations: int
    noise_std: float
    """Deviation of the candidates around the plan, as a share of half the action range; CEM then
    narrows it."""
    noise_correlation: float
    """β in [0, 1): the noise of a step is β times that of the step before plus √(1 − β²) times a
    new one."""
    num_elites: int
    """CEM alone: how many of the best candidates the next mean and deviation are taken from."""
    temperature: float
    """MPPI alone: the temperature in deviations of the candidates' returns, so that it doesn't
    depend on the reward's scale."""

    def __post_init__(self) -> None:
        if self.method not in ("cem", "mppi"):
            raise SettingError(f"planner {self.method!r}: expected cem or mppi")
        check_counts({"horizon": self.horizon, "num_candidates": self.num_candidates})
        check_counts({"num_iterations": self.num_iterations, "num_elites": self.num_elites})
        check_positive({"noise_std": self.noise_std, "temperature": self.temperature})
        check_below_one({"noise_correlation": self.noise_correlation})
        if self.num_elites > self.num_candidates:
            raise SettingError(
                f"num_elites {self.num_elites}: expected at most num_candidates, "
                f"{self.num_candidates}"
            )

    def __call__(self, score: Score, plan: Tensor, bounds: Bounds, noise: Noise) -> Tensor:
        """A better plan [H, W, A] than the one given. No world's plan depends on another's."""
        improve = cem if self.method == "cem" else mppi
        return improve(score, plan, bounds, self, noise)


def cem(score: Score, plan: Tensor, bounds: Bounds, settings: Planner, noise: Noise) -> Tensor:
    """The cross-entropy method (Rubinstein & Kroese 2004): mean and deviation of the elites are the
    next distribution's.

    The present mean is a candidate, so that a good plan isn't lost where all draws are worse.
    """
    std = (settings.noise_std * bounds.half_width).expand_as(plan)
    for _ in range(settings.num_iterations):
        candidates = _candidates(plan, std, bounds, settings, noise)
        best = _scored(score, candidates).topk(settings.num_elites, dim=-1).indices  # [W, elites]
        index = best[None, :, :, None].expand(len(plan), -1, -1, plan.shape[-1])
        std, plan = torch.std_mean(candidates.gather(2, index), dim=2, correction=0)
    return plan


def mppi(score: Score, plan: Tensor, bounds: Bounds, settings: Planner, noise: Noise) -> Tensor:
    """Model-predictive path integral control (Williams et al. 2017): the mean of the candidates,
    weighted by their returns.

        plan ← Σ_c w_c a_c,     w = softmax(R / (temperature · std R))

    with the deviation over the world's own candidates.
    """
    std = (settings.noise_std * bounds.half_width).expand_as(plan)
    for _ in range(settings.num_iterations):
        candidates = _candidates(plan, std, bounds, settings, noise)
        returns = _scored(score, candidates)
        spread = returns.std(-1, keepdim=True, correction=0)
        weights = torch.softmax(
            (returns - returns.amax(-1, keepdim=True)) / (settings.temperature * spread + 1e-8), -1
        )
        plan = (weights[None, :, :, None] * candidates).sum(2)
    return plan


def shifted(plan: Tensor, bounds: Bounds) -> Tensor:
    """The plan [H, W, A] one step later: what was second comes first, and doing the middle of the
    range comes last."""
    return torch.cat([plan[1:], bounds.middle(1, plan.shape[1])])


def _candidates(
    plan: Tensor, std: Tensor, bounds: Bounds, settings: Planner, noise: Noise
) -> Tensor:
    """Draws candidates [H, W, C, A] around the plan, all within the bounds. The first is the plan
    itself."""
    horizon, num_worlds, action_size = plan.shape
    shape = (horizon, num_worlds, settings.num_candidates, action_size)
    drawn = noise.normal(*shape, dtype=plan.dtype, dim=1)
    correlation = settings.noise_correlation
    for before, now in pairwise(drawn):
        now.mul_((1 - correlation**2) ** 0.5).add_(before, alpha=correlation)
    drawn[:, :, 0] = 0.0
    return bounds.clip(drawn.mul_(std.unsqueeze(2)).add_(plan.unsqueeze(2)))


def _scored(score: Score, candidates: Tensor) -> Tensor:
    """Returns the scores [W, C]. A return that isn't finite counts as the world's worst finite one,
    because models may blow up where they know nothing."""
    returns = score(candidates)
    finite = returns.isfinite()
    worst = returns.where(finite, torch.inf).amin(-1, keepdim=True)
    return returns.where(finite, worst.where(worst.isfinite(), 0.0))
