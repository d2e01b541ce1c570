"""The best policy of a tabular MDP with a finite horizon, for many MDPs at once, and agents that
plan in what they believe.

The agents know the prior of envs/small/tabular_mdp.py: transitions Dirichlet(1), mean rewards N(1,
1), rewards with unit noise. So the posterior after n visits of a state and action with k arrivals
is Dirichlet(1 + k) and N((1 + Σ r) / (1 + n), 1 / (1 + n)).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.noise import Noise
from metarl.rl.types import Act, RLAdapter, Step
from metarl.struct import replace, struct


def optimal_values(transition: Tensor, reward: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Values and best actions with 1, ..., H steps to go, by backward induction (Bellman 1957),
    without discount.

        Q_h(s, a) = r(s, a) + Σ_s' p(s' | s, a) V_{h−1}(s')
        V_h(s) = maxₐ Q_h(s, a),     V_0 = 0

    Args: transition: [N, S, A, S]; reward: [N, S, A].
    Returns: V [N, H, S] and argmax Q [N, H, S] int64; row h − 1 is that of h steps to go.
    """
    value = torch.zeros_like(reward[:, :, 0])
    values, actions = [], []
    for _ in range(horizon):
        value, action = (reward + torch.einsum("nsat,nt->nsa", transition, value)).max(-1)
        values.append(value)
        actions.append(action)
    return torch.stack(values, dim=1), torch.stack(actions, dim=1)


@struct
class History:
    """What was seen in W worlds, and the plan for the present episode."""

    arrivals: Tensor  # [W, S, A, S] how often the action led there
    reward_sum: Tensor  # [W, S, A]
    plan: Tensor  # [W, H, S] int64: the action with h + 1 steps to go
    num_steps: int  # of this episode

    @property
    def visits(self) -> Tensor:
        """How often each action was taken in each state, [W, S, A]."""
        return self.arrivals.sum(-1)


Belief = Callable[[History, Noise | None], tuple[Tensor, Tensor]]
"""The transitions [W, S, A, S] and rewards [W, S, A] to plan an episode with."""


def posterior_sample(history: History, noise: Noise | None) -> tuple[Tensor, Tensor]:
    """A draw from the posterior, without noise its mean: posterior sampling (Strens 2000; Osband et
    al. 2013, arXiv:1306.0940)."""
    if noise is None:
        return posterior_mean(history)
    gamma = noise.gamma(1 + history.arrivals)  # Gammas over their sum are Dirichlet.
    precision = 1 + history.visits
    reward = (1 + history.reward_sum) / precision + noise.normal(
        *precision.shape
    ) / precision.sqrt()
    return gamma / gamma.sum(-1, keepdim=True), reward


def posterior_mean(history: History, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
    """The mean of the posterior: an agent that takes what it believes for certain, and explores by
    accident only."""
    transition = 1 + history.arrivals
    return transition / transition.sum(-1, keepdim=True), (1 + history.reward_sum) / (
        1 + history.visits
    )


class PlanningAgent(RLAdapter[History]):
    """Plans each episode with a belief and follows that plan. Observations are one-hot."""

    def __init__(self, belief: Belief, *, num_states: int, num_actions: int, horizon: int) -> None:
        self._belief = belief
        self._num_states = num_states
        self._num_actions = num_actions
        self._horizon = horizon

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> History:
        num_worlds, s, a = num_tasks * episodes_per_task, self._num_states, self._num_actions
        return self._planned(
            History(
                arrivals=torch.zeros(num_worlds, s, a, s),
                reward_sum=torch.zeros(num_worlds, s, a),
                plan=torch.zeros(num_worlds, self._horizon, s, dtype=torch.int64),
                num_steps=0,
            ),
            noise,
        )

    def act(self, state: History, obs: Tensor, noise: Noise | None) -> Act:
        to_go = max(1, self._horizon - state.num_steps)
        return Act(action=state.plan[:, to_go - 1].gather(1, obs.argmax(-1, keepdim=True))[:, 0])

    def observe(self, state: History, obs: Tensor, act: Act, step: Step) -> History:
        world, here, there = torch.arange(len(obs)), obs.argmax(-1), step.next_obs.argmax(-1)
        arrivals = state.arrivals.index_put(
            (world, here, act.action, there), torch.ones(len(obs)), accumulate=True
        )
        reward_sum = state.reward_sum.index_put(
            (world, here, act.action), step.reward, accumulate=True
        )
        return replace(
            state, arrivals=arrivals, reward_sum=reward_sum, num_steps=state.num_steps + 1
        )

    def update(self, state: History, data: Any, noise: Noise | None = None) -> History:
        return self._planned(state, noise)

    def _planned(self, state: History, noise: Noise | None) -> History:
        _, plan = optimal_values(*self._belief(state, noise), self._horizon)
        return replace(state, plan=plan, num_steps=0)
