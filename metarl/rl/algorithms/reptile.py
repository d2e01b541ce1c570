"""Reptile: the meta-parameters follow what inner steps make of them. There is no meta-gradient.

Source: Nichol et al. 2018 (arXiv:1803.02999), on supervised tasks.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import check_shares
from metarl.core.gradients import reptile_direction
from metarl.rl.adapters.gradient import GradientAdapter, inner_update
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Setting,
    Source,
    as_state,
    check_tells,
    gradient_sizes,
    memoryless_policy,
    meta_params,
    outer_gradient,
    rollout_metrics,
)
from metarl.rl.data.batches import PolicyBatch
from metarl.types import Params, as_metrics


class Reptile(GatheringLearner):
    """One iteration: sample N tasks and gather K + 1 batches of E episodes each, with an inner step
    after every one of them, also after the last, and take

        θ ← θ + ε 1/N Σᵢ (φᵢ − θ),     φᵢ the parameters of task i after K + 1 steps

    A single step would follow the policy gradient of the unadapted policy, which learns nothing of
    adaptation. From two steps on the direction also raises the inner product of the gradients on a
    task's batches: a step on one then helps on the next.

    Args: see configs/algo/reptile.yaml; `inner` are those of `inner_update`: num_inner_steps,
      inner_lr, ....
    Raises: ValueError, naming it, for a number out of range or a model that isn't a policy without
    memory.
    """

    sizes = staticmethod(gradient_sizes)

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
        episodes_per_task: int,
        num_inner_steps: int,
        outer_lr: float,
        **inner: Any,
    ) -> None:
        check_shares({"outer_lr": outer_lr})
        policy = memoryless_policy(setting.model)
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            episodes_per_task=episodes_per_task,
            num_inner_steps=num_inner_steps,
        )
        check_tells(sizes, setting.env.spec.horizon, policy)
        self.source = Source.of(setting, sizes)
        self._policy = policy
        self._outer_lr = outer_lr
        self._inner = inner_update(
            policy,
            inner_rule="sgd",
            num_inner_steps=num_inner_steps,
            horizon=setting.env.spec.horizon,
            **inner,
        )
        self.params = meta_params(policy, self._inner.rule)

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(self._policy, self.params.theta, self.params.rule, self._inner)

    def iteration(self) -> Iteration:
        rollouts = yield self.adapter()
        *_, last = rollouts.traces
        with self.source.ranks.failing_together():
            query = self._inner.batch(rollouts.query)
        direction = self.direction(last.adapted, query)
        self.params.assign(P.add(self.params.joined, direction, -self._outer_lr))
        found: dict[str, Tensor | float] = {"direction_norm": P.norm(direction)}
        return {**rollout_metrics(rollouts, self.source.ranks), **as_metrics(found)}

    def direction(self, adapted: Params, query: PolicyBatch) -> Params:
        """θ − 1/N Σᵢ φᵢ, by the names of `MetaParams.joined`: what a step goes against.

        Args:
          adapted: [N, ...] after K inner steps.
          query: what the policies gathered there, for the last step to φᵢ.
        """
        adapted = self._inner(adapted, {}, query, self.source.sizes.num_updates)
        direction, ranks = reptile_direction(self.params.theta, adapted), self.source.ranks
        if ranks.num > 1:
            direction = P.scaled(ranks.total(direction), 1 / ranks.num)
        return outer_gradient(direction, {})

    def state_dict(self) -> dict[str, Any]:
        return as_state(self.params)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict())
        self.params.assign(state["params"])
