"""Bernoulli bandits: k arms with hidden probabilities, n pulls. The smallest problem whose best
strategy must explore.

| obs | meaning | unit |
|---|---|---|
| 0 | share of the pulls already made, t / n; a bandit shows nothing else | 1 |

| action | meaning | unit |
|---|---|---|
| one of 0, ..., k − 1 | the arm to pull | 1 |

Reward: 1 with the arm's probability, else 0.

| environment | task prior | T | training tasks |
|---|---|---|---|
| bandit | probabilities ~ U[0, 1]ᵏ | 100 | ∞, test 100 |

The n-th pull ends the problem, so it terminates (the value after it is 0) and is not a time limit
that truncates.

Source: Duan et al. 2016 (RL², arXiv:1611.02779, section 3.1). How we differ: the n pulls are one
episode of n steps, where theirs are n episodes of one step; an agent's memory must last for all n
either way.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.episodes import Episodes
from envs.small import bandit_policies
from envs.small.drawing import BLUE, ORANGE, legend
from envs.tasks import TaskPrior, check_count, uniform_prior
from envs.variants import OneWorld, spec_of
from metarl.rl.types import BatchedEnv, References, RLAdapter, Step
from metarl.struct import struct

LIGHT = (185, 205, 240)
# Of the colours in pictures
MEANINGS = {
    "probability of 1": LIGHT,
    "share of pulls": BLUE,
    "just pulled": ORANGE,
}


@struct
class Arms:
    probability: Tensor  # [N, k] of reward 1


class Bandit(BatchedEnv[Arms]):
    """W bandits in torch on any device."""

    def __init__(
        self,
        num_worlds: int,
        *,
        name: str,
        horizon: int,
        num_arms: int,
        num_train_tasks: int | None,
        num_test_tasks: int,
        device: torch.device | str = "cpu",
    ) -> None:
        check_count("num_arms", num_arms, least=2)
        self.num_worlds = num_worlds
        self.device = torch.device(device)
        self._num_arms = num_arms
        self.prior = prior = arms(num_arms, num_train_tasks, num_test_tasks)
        definition = {"num_arms": num_arms, "reward": "Bernoulli"}
        self.spec = spec_of(name, "bandit", horizon, prior, definition)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(num_arms)
        self.num_uniforms = horizon  # one a step, because one arm is pulled
        self._episodes = Episodes(self, self.device)
        self._luck = torch.zeros(num_worlds, horizon, dtype=torch.float32, device=self.device)
        # The last arm, for pictures, as are the counts
        self._pulled = torch.full((num_worlds,), -1, device=self.device)
        self._pulls = torch.zeros(num_worlds, num_arms, dtype=torch.int64, device=self.device)

    @property
    def references(self) -> References[Arms]:
        return References(known_returns=self._oracle, learners=self._learners)

    def set_tasks(self, tasks: Arms) -> None:
        self._episodes.set_tasks(tasks)

    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        worlds = self._episodes.begin(uniform, worlds)
        self._luck = torch.where(worlds[:, None], uniform.to(self._luck), self._luck)
        self._pulled = self._pulled.masked_fill(worlds, -1)
        self._pulls = self._pulls.masked_fill(worlds[:, None], 0)
        return self._observe()

    def step(self, action: Tensor) -> Step:
        action = self._episodes.checked(action)
        # Finished worlds may be stepped on
        pull = self._episodes.num_steps.clamp(max=self.spec.horizon - 1)
        luck = self._luck.gather(1, pull[:, None])[:, 0]
        probability = self._episodes.tasks.probability.gather(1, action[:, None])[:, 0]
        terminated = self._episodes.advance()
        self._pulled = action
        self._pulls = self._pulls + torch.nn.functional.one_hot(action, self._num_arms)
        return Step(
            next_obs=self._observe(),
            reward=(luck < probability).float(),
            terminated=terminated,
            truncated=torch.zeros_like(terminated),
            diverged=torch.zeros_like(terminated),
            terms={"regret": self._episodes.tasks.probability.amax(-1) - probability},
        )

    def _oracle(self, tasks: Arms, num_episodes: int) -> dict[str, Tensor]:
        """Expects the best arm at every pull."""
        return {"oracle": self.spec.horizon * tasks.probability.amax(-1)}

    def _learners(self, num_episodes: int) -> dict[str, RLAdapter[Any]]:
        return bandit_policies.reference_learners(self._num_arms, self.spec.horizon * num_episodes)

    def render(self, world: int, *, width: int = 320, height: int = 240) -> np.ndarray:
        """A light bar for each arm, as high as its probability; before it a dark one, as high as
        its share of the pulls so far. The arm just pulled is orange."""
        probability = self._episodes.tasks.probability[world].cpu().numpy()
        pulls = self._pulls[world].cpu().numpy()
        above = legend(MEANINGS, width=width, height=height)
        height -= len(above)
        picture = np.full((height, width, 3), 255, np.uint8)
        slot = width / len(probability)
        for arm, share in enumerate(pulls / max(1, pulls.sum())):
            pulled = arm == int(self._pulled[world])
            light, dark = ((245, 205, 160), ORANGE) if pulled else (LIGHT, BLUE)
            for value, margin, colour in ((probability[arm], 0.12, light), (share, 0.32, dark)):
                top = int((1 - value) * (height - 1))
                picture[top:, int((arm + margin) * slot) : int((arm + 1 - margin) * slot)] = colour
        return np.concatenate([above, picture])

    def _observe(self) -> Tensor:
        return (self._episodes.num_steps / self.spec.horizon).clamp(max=1.0).float()[:, None]


def arms(num_arms: int, num_train: int | None, num_test: int) -> TaskPrior[Arms]:
    """Probabilities U[0, 1]ᵏ."""
    return uniform_prior(
        "probability",
        0.0,
        1.0,
        draw=_draw_arms,
        num_uniforms=num_arms,
        describe=_describe_arms,
        num_train=num_train,
        num_test=num_test,
    )


def _draw_arms(uniform: Tensor) -> Arms:
    return Arms(probability=uniform.float())


def _describe_arms(tasks: Arms) -> list[str]:
    return ["p = " + " ".join(f"{p:.2f}" for p in row) for row in tasks.probability.tolist()]


VARIANTS: dict[str, OneWorld] = {
    "bandit": OneWorld(
        world=Bandit,
        settings={"horizon": 100, "num_arms": 5, "num_train_tasks": None, "num_test_tasks": 100},
    )
}
