"""Stands for the package of this name, which takes another MuJoCo than ours: as much of it as
envs/metaworld/world.py asks for. A task's goal is the sum of its name's letters and its place in
the list of its part, and decides the reward."""

import pickle
from typing import Any, NamedTuple

import gymnasium
import numpy as np

NAMES = (
    *("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-close-v3", "sweep-v3"),
    *("button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "basketball-v3"),
    *("drawer-open-v3", "door-close-v3", "shelf-place-v3", "sweep-into-v3", "lever-pull-v3"),
)


class Task(NamedTuple):
    env_name: str
    data: bytes


class Robot:
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
    model = data = None

    def __init__(self, name: str, render_mode: str, camera_name: str, width: int, height: int):
        assert render_mode == "rgb_array"
        self._name, self._size = name, (width, height)
        self._goal: float | None = None

    def set_task(self, task: Task) -> None:
        assert task.env_name == self._name
        data = pickle.loads(task.data)
        self._goal, self._hides = data["rand_vec"], data["partially_observable"]

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._steps, self._place = 0, 0.0
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        assert self._goal is not None and self._steps < 500
        self._steps += 1
        self._place += float(action[0])
        info = {"success": float(abs(self._place) > 1), "near_object": 0.0}
        return self._seen(), self._goal + self._place, False, self._steps == 500, info

    def render(self) -> np.ndarray:
        """Black but for its first element, in red."""
        picture = np.zeros((self._size[1], self._size[0], 3), np.uint8)
        picture[0, 0, 0] = 255
        return picture

    def close(self) -> None:
        pass

    def _get_pos_goal(self) -> np.ndarray:
        return np.array([self._goal])

    def _seen(self) -> np.ndarray:
        goal = 0.0 if self._hides else self._goal
        return np.concatenate([[self._place, len(self._name)], np.zeros(36), [goal]])


class ML1:
    def __init__(self, name: str, seed: int):
        letters = sum(map(ord, name))
        goals = [letters + 1000 * seed + 0.001 * k for k in range(100)]
        data = [pickle.dumps({"rand_vec": g, "partially_observable": True}) for g in goals]
        self.train_tasks = [Task(name, goal) for goal in data[:50]]
        self.test_tasks = [Task(name, goal) for goal in data[50:]]


def _maker(name: str) -> Any:
    return lambda **settings: Robot(name, **settings)


ALL_V3_ENVIRONMENTS = {name: _maker(name) for name in NAMES}
