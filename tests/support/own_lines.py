"""Environments of a user, for test_environment.py."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np

from envs.own import attribute, model_field, own_environment, reset_option

hopper_load = partial(
    own_environment,
    "Hopper-v5",
    tasks={
        "load": model_field("body_mass", "body_inertia", scale=(0.5, 2.0)),
        "gravity": model_field("opt.gravity", index=2, between=(-12.0, -7.0)),
    },
    horizon=100,
)


class Line(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point on a line without physics: obs is where it is, the start is the reset option; ends
    beyond 1, is truncated at −1, breaks at action 0.5."""

    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, **settings: Any) -> None:
        self.slope, self.table, self.goal, self.drifting = 2, np.array([1.0, 2.0, 3.0]), None, 0.0
        self.settings = settings

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.options, self.drifting = options, self.drifting + 1.0
        self.x = 0.0 if options is None else float(np.sum(options["start"]))
        return np.array([self.x]), {}

    def step(self, action: np.ndarray) -> Any:
        self.x += self.slope * float(action[0])
        reward = float("nan") if action[0] == 0.5 else 10.0 * self.x
        return (
            np.array([self.x]),
            reward,
            self.x > 1,
            self.x < -1,
            {"double": 2 * self.x, "name": "line"},
        )


line = partial(
    own_environment, Line, tasks={"start": reset_option("start", between=(0.0, 0.5))}, horizon=9
)
sloped_line = partial(
    own_environment, Line, tasks={"slope": attribute("slope", one_of=(1, 3))}, horizon=9
)
