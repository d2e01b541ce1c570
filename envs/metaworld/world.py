"""Meta-World's tasks as one Gymnasium environment. It runs in a Python that has Meta-World and
nothing of ours: imports gymnasium, numpy and metaworld only."""

import functools
import pickle
from collections.abc import Sequence
from typing import Any

import gymnasium
import metaworld
import numpy as np

NUM_OBSERVATIONS = 39
"""The hand, the gripper, up to two objects, the same of the step before, and the goal, or zeros in
its place."""


class MetaWorld(gymnasium.Env[np.ndarray, np.ndarray]):
    """One robot, whose task and variation are reset options.

    Variations 0 to 49 of a task are those for training of `metaworld.ML1(task, seed)`, 50 to 99
    those for test.

    Args:
      tasks: by name; their environments are made when they are asked for. The first is what a
        reset without a name begins.
      shows_goal: whether the goal is seen, as in Meta-World's benchmarks for several tasks at once.
      size: width and height of pictures.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}

    def __init__(
        self,
        *,
        tasks: Sequence[str],
        seed: int,
        shows_goal: bool = False,
        size: tuple[int, int] = (480, 360),
    ):
        self._seed = seed
        self._shows_goal = shows_goal
        self._size = size
        self._made: dict[str, Any] = {}
        self._first = tasks[0]
        self._env = self._of(tasks[0])
        self.render_mode = "rgb_array"
        unbounded = np.full(NUM_OBSERVATIONS, np.inf)
        self.observation_space = gymnasium.spaces.Box(-unbounded, unbounded, dtype=np.float64)
        self.action_space = self._env.action_space

    @property
    def model(self) -> Any:
        """MuJoCo's model of the present task, and its data, for whoever looks for blow-ups."""
        return self._env.model

    @property
    def data(self) -> Any:
        return self._env.data

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        assert options is not None, "own_environment gives the task"
        name = options.get("task", self._first)
        self._env = self._of(name)
        task = variations(name, self._seed)[int(options["variation"])]
        self._env.set_task(with_goal(task) if self._shows_goal else task)
        obs, info = self._env.reset(seed=seed)
        return obs, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self._env.step(action)
        return obs, float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """The camera hangs upside down."""
        return self._env.render()[::-1, ::-1]

    def close(self) -> None:
        for env in self._made.values():
            env.close()

    def _of(self, task: str) -> Any:
        if task not in self._made:
            width, height = self._size
            make = metaworld.ALL_V3_ENVIRONMENTS[task]
            self._made[task] = make(
                render_mode="rgb_array", camera_name="corner2", width=width, height=height
            )
        return self._made[task]


def with_goal(task: Any) -> Any:
    """A task of Meta-World's whose goal is seen."""
    data = pickle.loads(task.data)  # that Meta-World has pickled in this process
    return task._replace(data=pickle.dumps({**data, "partially_observable": False}))


@functools.cache
def variations(task: str, seed: int) -> list[Any]:
    """Meta-World's own tasks of one name: 50 for training, then 50 for test."""
    benchmark = metaworld.ML1(task, seed=seed)
    return [*benchmark.train_tasks, *benchmark.test_tasks]
