"""Random Markov decision processes with a few states and actions: an agent must learn where actions
lead and what they pay.

| obs | meaning | unit |
|---|---|---|
| 0–9 | 1 for the state one is in, else 0 | 1 |

| action | meaning | unit |
|---|---|---|
| one of 0, ..., 4 | the action | 1 |

Reward: N(μ(s, a), 1), mean_reward of the task. Next state: p(· | s, a), its transition. Starts in
state 0.

| environment | task prior, for each s and a | T | training tasks |
|---|---|---|---|
| tabular_mdp | transition ~ Dirichlet(1, ..., 1), uniform over all distributions; mean_reward ~ N(1, 1) | 10 | ∞, test 100 |

The 10th step ends the problem, so it terminates and is not a time limit that truncates. A trial is
10, 25, 50, 75 or 100 episodes, as published; the best policy of each task follows by backward
induction (envs/small/tabular_planning.py).

Source: Duan et al. 2016 (RL², arXiv:1611.02779, section 3.2; the prior is that of Osband et al.
2013, arXiv:1306.0940). The same problem, except that training and test MDPs are our own.
"""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.episodes import Episodes
from envs.noise import normal_from_uniform
from envs.small.drawing import BLUE, GREEN, ORANGE, RED, legend, write
from envs.small.tabular_planning import (
    PlanningAgent,
    optimal_values,
    posterior_mean,
    posterior_sample,
)
from envs.tasks import TaskPrior, check_count, in_odd_cell
from envs.variants import OneWorld, spec_of
from metarl.rl.types import BatchedEnv, References, RLAdapter, Step
from metarl.struct import struct

MEAN_REWARD, REWARD_SPREAD, REWARD_NOISE = 1.0, 1.0, 1.0

MEANINGS = {  # of the colours in pictures
    "reward above 1": GREEN,
    "below 1": RED,
    "present state": BLUE,
    "last action": ORANGE,
}


@struct
class Tables:
    transition: Tensor  # [N, S, A, S] probability of the next state
    mean_reward: Tensor  # [N, S, A]


class TabularMDP(BatchedEnv[Tables]):
    """W MDPs in torch on any device."""

    def __init__(
        self,
        num_worlds: int,
        *,
        name: str,
        horizon: int,
        num_states: int,
        num_actions: int,
        num_train_tasks: int | None,
        num_test_tasks: int,
        device: torch.device | str = "cpu",
    ) -> None:
        for key, value in (("num_states", num_states), ("num_actions", num_actions)):
            check_count(key, value, least=2)
        self.num_worlds = num_worlds
        self.device = torch.device(device)
        self._num_states = num_states
        self._num_actions = num_actions
        self.prior = prior = tables(
            num_states, num_actions, horizon, num_train_tasks, num_test_tasks
        )
        definition = {
            "num_states": num_states,
            "num_actions": num_actions,
            "observation": "one-hot",
            "transition": "Dirichlet(1)",
            "reward": f"N(N({MEAN_REWARD}, {REWARD_SPREAD}), {REWARD_NOISE})",
        }
        self.spec = spec_of(name, "tabular_mdp", horizon, prior, definition)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (num_states,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(num_actions)
        self.num_uniforms = 2 * horizon
        self._episodes = Episodes(self, self.device)
        self._state = torch.zeros(num_worlds, dtype=torch.int64, device=self.device)
        self._action = torch.full_like(self._state, -1)  # the last one, for pictures
        # What decides the next states, and the noise of the rewards.
        self._luck = torch.zeros(num_worlds, horizon, dtype=torch.float32, device=self.device)
        self._noise = torch.zeros_like(self._luck)

    @property
    def references(self) -> References[Tables]:
        return References(known_returns=self._oracle, learners=self._learners)

    def set_tasks(self, tasks: Tables) -> None:
        self._episodes.set_tasks(tasks)

    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        worlds = self._episodes.begin(uniform, worlds)
        luck, noise = uniform.chunk(2, dim=1)
        self._luck = torch.where(worlds[:, None], luck.to(self._luck), self._luck)
        self._noise = torch.where(
            worlds[:, None], normal_from_uniform(noise).to(self._noise), self._noise
        )
        self._state = self._state.masked_fill(worlds, 0)
        self._action = self._action.masked_fill(worlds, -1)
        return self._observe()

    def step(self, action: Tensor) -> Step:
        action = self._episodes.checked(action)
        # Finished worlds may be stepped on
        number = self._episodes.num_steps.clamp(max=self.spec.horizon - 1)[:, None]
        tasks, world = self._episodes.tasks, torch.arange(self.num_worlds, device=self.device)
        mean = tasks.mean_reward[world, self._state, action]
        # The first state whose cumulated probability is above the luck; rounding may leave their
        # sum below 1.
        below = tasks.transition[world, self._state, action].cumsum(-1) <= self._luck.gather(
            1, number
        )
        self._state = below.sum(-1).clamp(max=self._num_states - 1)
        self._action = action
        terminated = self._episodes.advance()
        return Step(
            next_obs=self._observe(),
            reward=mean + REWARD_NOISE * self._noise.gather(1, number)[:, 0],
            terminated=terminated,
            truncated=torch.zeros_like(terminated),
            diverged=torch.zeros_like(terminated),
            terms={"mean_reward": mean},
        )

    def _oracle(self, tasks: Tables, num_episodes: int) -> dict[str, Tensor]:
        return {"oracle": oracle_return(tasks, self.spec.horizon)}

    def _learners(self, num_episodes: int) -> dict[str, RLAdapter[Any]]:
        sizes = {
            "num_states": self._num_states,
            "num_actions": self._num_actions,
            "horizon": self.spec.horizon,
        }
        beliefs = {"posterior_sampling": posterior_sample, "posterior_mean": posterior_mean}
        return {name: PlanningAgent(belief, **sizes) for name, belief in beliefs.items()}

    def render(self, world: int, *, width: int = 320, height: int = 240) -> np.ndarray:
        """Mean rewards, a row for each state and a column for each action: green above 1, red
        below, white at 1. The present state's row is framed in blue, the last action is a bar above
        its column."""
        above = legend(MEANINGS, width=width, height=height)
        reward = self._episodes.tasks.mean_reward[world].cpu().numpy()
        height -= len(above)
        row = np.arange(height) * (self._num_states + 1) // height - 1  # −1: above the table
        column = np.arange(width) * self._num_actions // width
        strength = ((reward - MEAN_REWARD) / 3).clip(-1, 1)[..., None]
        best, worst = np.array(GREEN), np.array(RED)
        colours = 255 - np.where(strength > 0, strength * (255 - best), -strength * (255 - worst))
        picture = colours[row.clip(0)[:, None], column[None, :]]
        picture[row < 0] = 255
        picture[(row[:, None] < 0) & (column == int(self._action[world]))[None, :]] = ORANGE
        mine = np.flatnonzero(row == int(self._state[world]))
        picture[mine[:3]] = picture[mine[-3:]] = picture[mine[0] : mine[-1], :3] = BLUE
        picture[mine[0] : mine[-1], -3:] = BLUE
        rows, slot = height / (self._num_states + 1), width / self._num_actions
        numbers = {
            (0.5 * rows, (state + 1.5) * rows): str(state) for state in range(self._num_states)
        }
        numbers |= {
            ((action + 0.5) * slot, 0.5 * rows): f"action {action}"
            for action in range(self._num_actions)
        }
        return np.concatenate(
            [
                above,
                write(picture.astype(np.uint8), numbers, size=min(0.6 * rows, 0.2 * slot, 16.0)),
            ]
        )

    def _observe(self) -> Tensor:
        return torch.nn.functional.one_hot(self._state, self._num_states).float()


def oracle_return(tasks: Tables, horizon: int) -> Tensor:
    """[N] float64, the expected return of an episode of those who know the tables."""
    values, _ = optimal_values(tasks.transition.double(), tasks.mean_reward.double(), horizon)
    return values[:, -1, 0]


def tables(
    num_states: int, num_actions: int, horizon: int, num_train: int | None, num_test: int
) -> TaskPrior[Tables]:
    """Transitions Dirichlet(1, ..., 1), mean rewards N(1, 1)."""
    furthest = 7.1 * REWARD_SPREAD  # as far as normal numbers from uniform ones go
    return TaskPrior(
        draw=partial(_draw_tables, num_states, num_actions),
        num_uniforms=num_states * num_actions * (num_states + 1),
        held_out=_held_out,
        split_number=num_states
        * num_actions
        * num_states,  # of the first mean reward: a distribution doesn't tell its own
        bounds={
            "transition": (0.0, 1.0),
            "mean_reward": (MEAN_REWARD - furthest, MEAN_REWARD + furthest),
        },
        describe=partial(_describe_tables, horizon),
        num_train=num_train,
        num_test=num_test,
        constraint=_check_distributions,
    )


def _draw_tables(num_states: int, num_actions: int, uniform: Tensor) -> Tables:
    size = (len(uniform), num_states, num_actions)
    for_transition, for_reward = uniform.split(
        [uniform.shape[1] - num_states * num_actions, num_states * num_actions], 1
    )
    # Over their sum they are Dirichlet(1)
    exponential = -torch.log1p(-for_transition).reshape(*size, num_states)
    reward = MEAN_REWARD + REWARD_SPREAD * normal_from_uniform(for_reward)
    return Tables(
        transition=(exponential / exponential.sum(-1, keepdim=True)).float(),
        mean_reward=reward.reshape(size).float(),
    )


def _held_out(tasks: Tables) -> Tensor:
    return in_odd_cell(
        torch.special.ndtr((tasks.mean_reward[:, 0, 0].double() - MEAN_REWARD) / REWARD_SPREAD)
    )


def _check_distributions(tasks: Tables) -> None:
    total = tasks.transition.sum(-1)
    bad = (total - 1).abs() > 1e-4  # float32 sums of a few numbers
    if bool(bad.any()):
        raise ValueError(
            f"transition sums to {total[bad][0].item():g} over the next states; expected 1"
        )


def _describe_tables(horizon: int, tasks: Tables) -> list[str]:
    return [f"best expected return {value:.1f}" for value in oracle_return(tasks, horizon).tolist()]


VARIANTS: dict[str, OneWorld] = {
    "tabular_mdp": OneWorld(
        world=TabularMDP,
        settings={
            "horizon": 10,
            "num_states": 10,
            "num_actions": 5,
            "num_train_tasks": None,
            "num_test_tasks": 100,
        },
    )
}
