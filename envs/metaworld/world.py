"""Meta-World's tasks as one Gymnasium environment. It runs in a Python that has Meta-World and
nothing of ours: imports gymnasium, numpy and metaworld only."""

import functools
import pickle
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import gymnasium
import metaworld
import numpy as np
from metaworld.policies import ENV_POLICY_MAP

NUM_OBSERVATIONS = 39
"""The hand, the gripper, up to two objects, the same of the step before, and the goal, or zeros in
its place."""


class MetaWorld(gymnasium.Env[np.ndarray, np.ndarray]):
    """One robot, whose task and variation are reset options.

    Variations 0 to 49 of a task are those for training of `metaworld.ML1(task, seed)`, 50 to 99
    those for test.

    Args:
      tasks: by name. The first is what a reset without a name begins.
      shows_task: whether the goal is seen, as in Meta-World's benchmarks for several tasks at once.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}
    made_of = ", ".join(f"{package} {version(package)}" for package in ("metaworld", "mujoco"))

    def __init__(
        self,
        *,
        tasks: Sequence[str],
        seed: int,
        shows_task: bool = False,
    ):
        self._first, self._seed, self._shows_task = tasks[0], seed, shows_task
        self._task: str | None = None
        self._env: Any = None
        self._is_open = True
        _SHELF.join()
        self.render_mode = "rgb_array"
        unbounded = np.full(NUM_OBSERVATIONS, np.inf)
        self.observation_space = gymnasium.spaces.Box(-unbounded, unbounded, dtype=np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)

    @property
    def model(self) -> Any:
        """MuJoCo's model of the present task, and its data, for whoever looks for blow-ups."""
        return getattr(self._env, "model", None)

    @property
    def data(self) -> Any:
        return getattr(self._env, "data", None)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        assert options is not None, "own_environment gives the task"
        name = options.get("task", self._first)
        if name != self._task:
            self._put_back()
            self._task, self._env = name, _SHELF.taken(name)
        task = variations(name, self._seed)[int(options["variation"])]
        self._env.set_task(with_goal(task) if self._shows_task else task)
        self._seen, info = self._env.reset(seed=seed)
        return self._seen, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._seen, reward, terminated, truncated, info = self._env.step(action)
        return self._seen, float(reward), bool(terminated), bool(truncated), info

    def scripted_action(self) -> np.ndarray:
        """What Meta-World's own policy for this task does now. It sees the goal."""
        goal = self._env._get_pos_goal()  # As its observations get it, where they show it.
        seen = np.concatenate([self._seen[: -len(goal)], goal])
        assert self._task is not None, "an episode has begun"
        return np.clip(policy(self._task).get_action(seen), -1.0, 1.0)

    def render(self) -> Any:
        """The camera hangs upside down."""
        return self._env.render()[::-1, ::-1]

    def close(self) -> None:
        self._put_back()
        if self._is_open:
            self._is_open = False
            _SHELF.leave()

    def _put_back(self) -> None:
        if self._task is not None:
            _SHELF.put(self._task, self._env)
        self._task = self._env = None


class Shelf:
    """Meta-World's environments that no world uses at present, which the next one takes that has
    their task: to make one takes a fifth of an episode, and each takes 20 MB of memory.

    Args: most: how many are kept; the one that has lain longest is closed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lying: list[tuple[str, Any]] = []
        self._num_worlds = 0

    def join(self) -> None:
        """Another world uses it."""
        self._num_worlds += 1

    def leave(self) -> None:
        """A world was closed. With the last one all that lies here is: what has drawn complains at
        length if it is still open when Python ends."""
        self._num_worlds -= 1
        while self._lying and not self._num_worlds:
            self._lying.pop()[1].close()

    def taken(self, task: str) -> Any:
        for place, (of, env) in enumerate(self._lying):
            if of == task:
                del self._lying[place]
                return env
        make = metaworld.ALL_V3_ENVIRONMENTS[task]
        return make(render_mode="rgb_array", camera_name="corner2", width=480, height=360)

    def put(self, task: str, env: Any) -> None:
        self._lying.append((task, env))
        if len(self._lying) > self._most:
            self._lying.pop(0)[1].close()


_SHELF = Shelf(most=50)


def with_goal(task: Any) -> Any:
    """A task of Meta-World's whose goal is seen."""
    data = pickle.loads(task.data)  # that Meta-World has pickled in this process
    return task._replace(data=pickle.dumps({**data, "partially_observable": False}))


@functools.cache
def policy(task: str) -> Any:
    """Meta-World's own for this task."""
    warnings.filterwarnings("ignore", r"Constant\(s\) may be too high")  # Its actions are clipped.
    return ENV_POLICY_MAP[task]()


@functools.cache
def variations(task: str, seed: int) -> list[Any]:
    """Meta-World's own tasks of one name: 50 for training, then 50 for test."""
    benchmark = metaworld.ML1(task, seed=seed)
    return [*benchmark.train_tasks, *benchmark.test_tasks]
