"""A Markov decision process so small that all its trajectories can be listed: expectations are
sums, without any sampling.

M trajectories of T steps; S states, A actions. The policy is softmax with a logit for each state
and action [S, A].
"""

import itertools

import torch
from torch import Tensor

from metarl.errors import SettingError
from metarl.rl.returns import discounted_returns
from metarl.struct import struct

MOST_TRAJECTORIES = 256


@struct
class EnumeratedMDP:
    state: Tensor  # [M, T] int64
    action: Tensor  # [M, T] int64
    reward: Tensor  # [M, T]
    chance: Tensor  # [M] probability of the trajectory's states, given its actions

    @property
    def returns_to_go(self) -> Tensor:
        """[M, T] the sum of the rewards from each step on."""
        return discounted_returns(self.reward, discount=1.0)

    @property
    def returns(self) -> Tensor:
        """The return of each trajectory, [M]."""
        return self.reward.sum(-1)


def enumerate_mdp(transition: Tensor, reward: Tensor, horizon: int) -> EnumeratedMDP:
    """All trajectories from state 0.

    Args: transition: [S, A, S] probability of the next state; reward: [S, A].
    Raises: ValueError if there are too many of them.
    """
    num_states, num_actions = reward.shape
    count = num_states ** (horizon - 1) * num_actions**horizon
    if count > MOST_TRAJECTORIES:
        raise SettingError(
            f"num_states {num_states}, num_actions {num_actions}, horizon {horizon}: {count} "
            "trajectories; "
            f"expected at most {MOST_TRAJECTORIES}, to list them all"
        )
    later = [range(num_states)] * (horizon - 1)
    rows = list(itertools.product([0], *later, *[range(num_actions)] * horizon))
    state, action = torch.tensor(rows).split(horizon, dim=1)
    steps = transition[state[:, :-1], action[:, :-1], state[:, 1:]]
    return EnumeratedMDP(
        state=state, action=action, reward=reward[state, action], chance=steps.prod(-1)
    )


def random_mdp(
    num_states: int, num_actions: int, horizon: int, generator: torch.Generator
) -> EnumeratedMDP:
    """Transitions uniform over all distributions, rewards N(0, 1), in float64."""
    uniform = torch.rand(
        num_states, num_actions, num_states, dtype=torch.float64, generator=generator
    )
    exponential = -torch.log1p(-uniform)
    reward = torch.randn(num_states, num_actions, dtype=torch.float64, generator=generator)
    return enumerate_mdp(exponential / exponential.sum(-1, keepdim=True), reward, horizon)


def log_probs(mdp: EnumeratedMDP, logits: Tensor) -> Tensor:
    """log π(aₜ | sₜ) of every step of every trajectory [M, T]."""
    return logits.log_softmax(-1)[mdp.state, mdp.action]


def probabilities(mdp: EnumeratedMDP, logits: Tensor) -> Tensor:
    """Returns the probability of every trajectory under the policy, [M]; they sum to 1."""
    return mdp.chance * log_probs(mdp, logits).sum(-1).exp()


def expected_return(mdp: EnumeratedMDP, logits: Tensor) -> Tensor:
    """Returns the expected return []."""
    return (probabilities(mdp, logits) * mdp.returns).sum()
