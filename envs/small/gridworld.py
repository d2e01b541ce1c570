"""A 5 × 5 grid with a hidden goal. The smallest world in which the best search can be told from
searching at random.

| obs | meaning | unit |
|---|---|---|
| 0–24 | 1 for the cell one is on, else 0; cell c is x, y = c // 5, c % 5 | 1 |

| action | meaning | unit |
|---|---|---|
| one of 0, ..., 4 | stay, up (y + 1), right (x + 1), down, left; walls hold back | cell |

    r = 1 on the goal after the step, else −0.1

| environment | task prior | T | training tasks |
|---|---|---|---|
| gridworld_5x5 | goal, x, y ∈ {0, ..., 4}, uniform on the cells other than (0, 0), (0, 1), (1, 0), (1, 1) | 15 | the 21 |

Starts at 0, 0. Reaching the goal ends nothing; one can stay and be paid. The 15th step ends the
problem, so it terminates and is not a time limit that truncates. A trial is 4 episodes, as
published. All 21 tasks are both for training and for test. What is known exactly is in
envs/small/gridworld_optima.py.

Source: Zintgraf et al. 2020 (VariBAD, arXiv:1910.08348; lmzintgraf/varibad,
environments/navigation/gridworld.py). How we differ: the observation is one-hot, where theirs is x,
y; the goals come in turn instead of at random.
"""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.episodes import Episodes
from envs.small.drawing import BLUE, GREEN, LIGHT_BLUE, legend
from envs.small.gridworld_optima import (
    FOUND,
    NOT_FOUND,
    bayes_optimal_returns,
    neighbours,
    oracle_returns,
    possible_goals,
)
from envs.small.gridworld_policies import PosteriorSampling
from envs.tasks import FewTasks
from envs.variants import OneWorld, spec_of
from metarl.rl.types import BatchedEnv, References, Step
from metarl.struct import struct

SIZE = 5
MEANINGS = {"goal": GREEN, "agent": BLUE, "visited": LIGHT_BLUE}  # of the colours in pictures


@struct
class GoalCell:
    goal: Tensor  # [N, 2] int64: x, y


class Gridworld(BatchedEnv[GoalCell]):
    """W grids in torch on any device."""

    num_uniforms = 0
    map_shape = (SIZE, SIZE)
    """Columns and rows of a map of the states: one is in column c // rows, row c % rows."""

    def paying_states(self, tasks: GoalCell) -> Tensor:
        """[N, S] bool: the states that pay in N tasks, for maps."""
        return torch.nn.functional.one_hot(_cell(tasks), SIZE**2).bool()

    def __init__(
        self,
        num_worlds: int,
        *,
        name: str,
        horizon: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_worlds = num_worlds
        self.device = torch.device(device)
        self.prior = prior = goal_cells()
        reward = f"{FOUND} on the goal, else {NOT_FOUND}"
        definition = {"observation": "one-hot", "reward": reward}
        self.spec = spec_of(name, "gridworld", horizon, prior, definition)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (SIZE**2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(5)
        self._episodes = Episodes(self, self.device)
        self._neighbours = neighbours(SIZE).to(self.device)
        self._cell = torch.zeros(num_worlds, dtype=torch.int64, device=self.device)
        # For pictures
        self._visited = torch.zeros(num_worlds, SIZE**2, dtype=torch.bool, device=self.device)

    @property
    def references(self) -> References[GoalCell]:
        return References(
            known_returns=self._known_returns,
            learners=lambda num_episodes: {"posterior_sampling": PosteriorSampling(SIZE)},
        )

    def set_tasks(self, tasks: GoalCell) -> None:
        self._episodes.set_tasks(tasks)

    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        """Every episode starts at 0, 0."""
        worlds = self._episodes.begin(uniform, worlds)
        self._cell = self._cell.masked_fill(worlds, 0)
        self._visited = self._visited.masked_fill(worlds[:, None], False) | self._observe().bool()
        return self._observe()

    def step(self, action: Tensor) -> Step:
        self._cell = self._neighbours[self._cell, self._episodes.checked(action)]
        self._visited = self._visited | self._observe().bool()
        found = self._cell == _cell(self._episodes.tasks)
        terminated = self._episodes.advance()
        return Step(
            next_obs=self._observe(),
            reward=torch.where(found, FOUND, NOT_FOUND).float(),
            terminated=terminated,
            truncated=torch.zeros_like(terminated),
            diverged=torch.zeros_like(terminated),
            terms={"found": found.float()},
        )

    def _known_returns(self, tasks: GoalCell, num_episodes: int) -> dict[str, Tensor]:
        """`bayes_optimal` is that of one of the best searches, where several are equally good in
        the mean over goals. It is left out where an episode is too short for the farthest cell: the
        search counts on every goal being in reach."""
        cell, horizon = _cell(tasks).cpu(), self.spec.horizon
        known = {"oracle": oracle_returns(SIZE, horizon)[cell]}
        if horizon >= 2 * (SIZE - 1):
            known["bayes_optimal"] = bayes_optimal_returns(SIZE, horizon, num_episodes)[cell]
        return known

    def render(self, world: int, *, width: int = 320, height: int = 240) -> np.ndarray:
        """The goal in green, the agent in blue, cells visited in this episode in light blue; y is
        upwards."""
        above = legend(MEANINGS, width=width, height=height)
        height -= len(above)
        side = min(width, height) / (SIZE + 0.5)  # pixels
        x = (
            np.arange(width)[None, :] + 0.5 - width / 2
        ) / side + SIZE / 2  # in cells, from the left
        y = (height / 2 - 0.5 - np.arange(height)[:, None]) / side + SIZE / 2
        cells = np.full((SIZE, SIZE, 3), 255, np.uint8)
        cells[self._visited[world].reshape(SIZE, SIZE).cpu().numpy()] = LIGHT_BLUE
        goal, here = (
            divmod(int(cell[world]), SIZE) for cell in (_cell(self._episodes.tasks), self._cell)
        )
        cells[goal] = GREEN
        column, row = (v.astype(int).clip(0, SIZE - 1) for v in (np.floor(x), np.floor(y)))
        picture = cells[column, row].copy()
        line = 0.6 / side  # half its width
        picture[(np.abs(x - x.round()) < line) | (np.abs(y - y.round()) < line)] = 170
        picture[
            (np.abs(x - SIZE / 2) > SIZE / 2 + line) | (np.abs(y - SIZE / 2) > SIZE / 2 + line)
        ] = 255
        # The agent is a disc, so that the goal shows beneath it.
        picture[np.hypot(x - here[0] - 0.5, y - here[1] - 0.5) < 0.32] = BLUE
        return np.concatenate([above, picture])

    def _observe(self) -> Tensor:
        return torch.nn.functional.one_hot(self._cell, SIZE**2).float()


def goal_cells() -> FewTasks[GoalCell]:
    """The 21 cells that a goal can be on."""
    cell = possible_goals(SIZE)
    tasks = GoalCell(goal=torch.stack([cell // SIZE, cell % SIZE], dim=1))
    return FewTasks(tasks, bounds={"goal": (0, SIZE - 1)}, describe=_describe_goal)


def _cell(tasks: GoalCell) -> Tensor:
    return tasks.goal[:, 0] * SIZE + tasks.goal[:, 1]


def _describe_goal(tasks: GoalCell) -> list[str]:
    return [f"goal on cell ({x}, {y})" for x, y in tasks.goal.tolist()]


VARIANTS: dict[str, OneWorld] = {
    "gridworld_5x5": OneWorld(world=Gridworld, settings={"horizon": 15})
}
