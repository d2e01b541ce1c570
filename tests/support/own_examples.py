"""Small environments for the tests of envs/own, in a module that another Python can import: numpy
and gymnasium only."""

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Point(gymnasium.Env[Any, Any]):
    """Moves by `speed` times the action and by noise; obs is where it is, reward is −|place −
    goal|, and the episode ends beyond
    5. Keeps what it was given in `seen`."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space: Any = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, speed: float = 1.0, **settings: Any) -> None:
        self.speed, self.goal, self.noise, self.settings = speed, 0.0, 0.1, settings
        self.seen: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.options = options
        self.place = self.np_random.normal()
        return self.observed(), {}

    def step(self, action: Any) -> Any:
        self.seen.append(action)
        self.place += self.speed * self.moved(action) + self.noise * self.np_random.normal()
        return (
            self.observed(),
            -abs(self.place - self.goal),
            abs(self.place) > 5,
            False,
            self.told(),
        )

    def observed(self) -> Any:
        return np.array([self.place])

    def moved(self, action: Any) -> float:
        return float(np.sum(action))

    def told(self) -> dict[str, Any]:
        return {"distance": abs(self.place - self.goal)}


class Drawn(Point):
    """Its picture is as red as a hundred times the last action."""

    metadata = {"render_modes": ["rgb_array"]}

    def render(self) -> Any:
        picture = np.zeros((8, 8, 3), np.uint8)
        picture[..., 0] = round(100 * float(self.seen[-1][0]))
        return picture


class Grid(gymnasium.Env[Any, Any]):
    """Nothing but Python: a walker on 5 × 5 cells with a Dict as observation and two numbers as
    action."""

    observation_space: Any = spaces.Dict(
        {"cell": spaces.MultiDiscrete([5, 5]), "wind": spaces.Box(-1, 1, (1,), np.float32)}
    )
    action_space: Any = spaces.MultiDiscrete([3, 3])

    def __init__(self) -> None:
        self.surface, self.slippery, self.goal = "grass", False, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cell = [2, 2]
        return self.observed(), {}

    def step(self, action: Any) -> Any:
        steps = {"grass": 1, "ice": 2}[self.surface]
        if self.slippery is True:
            steps = -steps
        self.cell = [
            min(4, max(0, at + steps * (int(by) - 1)))
            for at, by in zip(self.cell, action, strict=True)
        ]
        found = self.cell == [self.goal, self.goal]
        return (
            self.observed(),
            float(found),
            found,
            False,
            {"success": np.bool_(found)} if found else {},
        )

    def observed(self) -> Any:
        return {"wind": np.zeros(1, np.float32), "cell": np.array(self.cell)}


def breaks_down() -> Any:
    raise ArithmeticError("it broke down")


def faster(env: Any) -> None:
    """A hook that doubles the speed that a task gives."""
    env.speed = 2 * env.speed


class Gain:
    """What a task sets."""

    value = 1.0


class Paying(Point):
    """Pays the gain of its params."""

    def __init__(self, params: Any = None) -> None:
        super().__init__()
        if params is not None:
            self.params = params

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, self.params.value, terminated, truncated, info


class Held(Paying):
    """Its worlds share their params."""

    params = Gain()


class Undefined(Point):
    """Is nowhere."""

    def observed(self) -> Any:
        return np.array([np.nan])


class Robot(Point):
    """Takes half a second for the action .625, and writes into `settings["log"]` that it was
    closed."""

    def moved(self, action: Any) -> float:
        time.sleep(0.5 * (action[0] == 0.625))
        return super().moved(action)

    def close(self) -> None:
        with Path(self.settings["log"]).open("a") as log:
            log.write("closed\n")


class Controlled(Point):
    """Has a controller, which goes to the goal, and no noise; the actions are speeds up to 40."""

    action_space: Any = spaces.Box(np.float32([-10.0]), np.float32([40.0]))

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.noise = 0.0

    def scripted_action(self) -> Any:
        return self.settings.get("does", np.array([self.goal - self.place]) / self.speed)


class Mortal(Point):
    """Ends its process at the action 1."""

    def moved(self, action: Any) -> float:
        if action[0] == 1.0:
            os._exit(3)
        return super().moved(action)
