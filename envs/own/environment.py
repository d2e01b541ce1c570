"""Worlds of a user's Gymnasium environment, each under a task of its own, as a `metarl.rl.types.BatchedEnv`."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.utils import EzPickle
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from torch import Tensor

from envs.episodes import Episodes
from envs.gym import task_dicts
from envs.own.pictures import Pictures, control_step, frames_per_second
from envs.own.tasks import TaskVariable, prior
from envs.own.world import World
from envs.process import quiet_mujoco, tune_process
from metarl.rl.types import BatchedEnv, EnvSpec, RLAdapter, Step

Source = str | Callable[..., gymnasium.Env[Any, Any]]


def own_environment(
    source: Source,
    num_worlds: int,
    *,
    tasks: Mapping[str, TaskVariable],
    horizon: int | None = None,
    num_train_tasks: int | None = None,
    num_test_tasks: int = 40,
    split_seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    name: str | None = None,
    processes: bool = False,
    num_threads: int | None = None,  # no effect: a Gymnasium environment steps in one thread
    device: torch.device | str = "cpu",
) -> BatchedEnv[Any]:
    """W = num_worlds copies of a Gymnasium environment, each under a task of its own.

    Observations must be a Box with one axis, actions a Box or Discrete, and a seeded reset must make the episode repeatable.
    Actions beyond the action space are clipped. A world whose observation or reward isn't finite, or whose MuJoCo physics
    blew up, is diverged, as `MujocoEnv` has it.

    Args:
      source: an id for gymnasium.make, an environment's class, or any function that makes one.
      tasks: the variables that differ between tasks, by name; in every episode they are set before the reset.
      horizon: control steps; None: the id's own max_episode_steps. It replaces the id's TimeLimit.
      num_train_tasks: size of the fixed training set; None draws a new task each time.
      split_seed: of the training and the test tasks.
      settings: keyword arguments of the environment.
      name: in results and videos; None: the id or the class's name.
      processes: step every world in a process of its own.
    Raises: ValueError naming what doesn't fit and what was expected.
    """
    if horizon is None:
        horizon = gymnasium.spec(source).max_episode_steps if isinstance(source, str) else None
        if horizon is None:
            raise ValueError(
                f"horizon is None and {source} has no limit of its own; expected a number of control steps"
            )
    if num_worlds < 1:
        raise ValueError(f"num_worlds is {num_worlds}; expected at least 1")
    distribution = prior(tasks, num_train=num_train_tasks, num_test=num_test_tasks, seed=split_seed)
    title = source if isinstance(source, str) else f"{source.__module__}.{source.__qualname__}"
    spec = EnvSpec(
        name=name or title.split(".")[-1],
        family=name or title.split(".")[-1],
        variant="default",
        horizon=horizon,
        definition={
            "source": title,
            "settings": {key: _json(value) for key, value in (settings or {}).items()},
            "tasks": {key: variable.definition() for key, variable in tasks.items()},
            "prior": distribution.bounds,
            "split": distribution.split_definition(),
        },
    )
    make_world = functools.partial(_make_world, source, dict(settings or {}), dict(tasks))
    # One world more, for a moment: mistakes show here and not in another process.
    trial = make_world([])
    _observation_space(trial.observation_space)
    _action_space(trial.action_space)
    terms = trial.try_out()
    trial.close()
    make_worlds = [functools.partial(make_world, terms)] * num_worlds
    return OwnEnv(spec, distribution, make_worlds, terms, processes=processes, device=device)


class OwnEnv:
    """Meets `metarl.rl.types.BatchedEnv`; made by `own_environment`."""

    def __init__(
        self,
        spec: EnvSpec,
        tasks: Any,
        make_worlds: Sequence[Callable[[], World]],
        terms: list[str],
        *,
        processes: bool,
        device: torch.device | str,
    ) -> None:
        self.spec, self.tasks, self.num_worlds, self.device = spec, tasks, len(make_worlds), torch.device(device)
        vector = AsyncVectorEnv if processes else SyncVectorEnv
        self._vector: Any = vector(make_worlds, autoreset_mode=AutoresetMode.DISABLED)
        self.observation_space = _observation_space(self._vector.single_observation_space)
        self.action_space = _action_space(self._vector.single_action_space)
        self._episodes: Episodes[Any] = Episodes(
            self.num_worlds,
            horizon=spec.horizon,
            distribution=tasks,
            action_space=self.action_space,
            device=self.device,
        )
        self._terms, self._pictures = terms, Pictures()
        if isinstance(self._vector, SyncVectorEnv):  # Else it can't be drawn.
            inner = self._vector.envs[0]
            if (seconds := control_step(inner)) is not None:
                self.control_step = seconds
            self.render_fps = frames_per_second(inner)
        self._present = torch.zeros(self.num_worlds, *self.observation_space.shape, device=self.device)

    def set_tasks(self, tasks: Any) -> None:
        self._episodes.set_tasks(tasks)

    def reset(self, generator: torch.Generator, worlds: Tensor | None = None) -> Tensor:
        worlds = self._episodes.begin(worlds)
        # Row i of one draw is the same for any number of worlds and whichever of them reset.
        seeds = torch.randint(2**31, (self.num_worlds,), generator=generator).tolist()
        self._vector.set_attr("task", task_dicts(self._episodes.tasks))
        mask = worlds.cpu().numpy()
        if mask.any():
            obs, _ = self._vector.reset(seed=seeds, options={"reset_mask": mask})
            self._present = self._tensor(obs).float()
        return self._present.clone()

    def step(self, action: Tensor) -> Step:
        chosen = self._episodes.checked(action).cpu().numpy()
        if isinstance(self.action_space, gymnasium.spaces.Box):
            chosen = chosen.clip(self.action_space.low, self.action_space.high)
        obs, reward, _, _, infos = self._vector.step(chosen)
        self._present = self._tensor(obs).float()
        how = self._tensor(infos["how"])
        terminated, truncated, diverged = how[:, :3].bool().unbind(1)
        return Step(
            next_obs=self._present.clone(),
            reward=self._tensor(reward).float(),
            terminated=terminated,
            truncated=(truncated | self._episodes.advance()) & ~terminated,
            diverged=diverged,
            terms=dict(zip(self._terms, how[:, 3:].float().unbind(1), strict=True)),
        )

    def stand_still_action(self) -> Tensor | None:
        """[W, A]: no action, or what is nearest to it in the action space; None where actions are choices."""
        if isinstance(self.action_space, gymnasium.spaces.Discrete):
            return None
        still = np.clip(0.0, self.action_space.low, self.action_space.high)
        return self._tensor(still).float().expand(self.num_worlds, -1).clone()

    def scripted_action(self) -> None:
        """None: nobody wrote a controller."""

    def known_returns(self, tasks: Any, num_episodes: int) -> dict[str, Tensor]:
        return {}

    def reference_learners(self, num_episodes: int) -> dict[str, RLAdapter[Any]]:
        return {}

    def render(self, world: int, *, width: int = 320, height: int = 240) -> np.ndarray:
        """[height, width, 3] uint8, see envs/own/pictures.py. Raises: RuntimeError saying why it can't be drawn."""
        if not isinstance(self._vector, SyncVectorEnv):
            raise RuntimeError(
                f"{self.spec.name} can't be drawn: its worlds are in other processes; expected processes=False"
            )
        return self._pictures.picture(self._vector.envs[world], width=width, height=height)

    def close(self) -> None:
        self._pictures.close()
        self._vector.close()

    def __getstate__(self) -> dict[str, Any]:
        """Raises: TypeError where copy.deepcopy or pickle would give worlds back at their beginning without a word."""
        for world in getattr(self._vector, "envs", ()):
            if isinstance(world.unwrapped, EzPickle):
                raise TypeError(
                    f"{self.spec.name} can't be copied or pickled: {type(world.unwrapped).__name__} is a "
                    "gymnasium.utils.EzPickle, of which a copy is made anew and has no state"
                )
        return vars(self)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, device=self.device)


def _make_world(
    source: Source, settings: dict[str, Any], variables: dict[str, TaskVariable], terms: list[str]
) -> World:
    tune_process()
    quiet_mujoco()
    if isinstance(source, str):
        # -1: without TimeLimit; the horizon is ours.
        env = gymnasium.make(source, max_episode_steps=-1, disable_env_checker=True, **settings)
    else:
        env = source(**settings)
    return World(env, variables, terms)


def _observation_space(space: gymnasium.Space[Any]) -> gymnasium.spaces.Box:
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise ValueError(
            f"the observation space is {space}; expected a Box with one axis (gymnasium.wrappers.FlattenObservation makes one)"
        )
    return gymnasium.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


def _action_space(space: gymnasium.Space[Any]) -> gymnasium.spaces.Box | gymnasium.spaces.Discrete:
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return space
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"the action space is {space}; expected a Box with one axis or Discrete from 0")
    return gymnasium.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


def _json(value: Any) -> Any:
    try:
        json.dumps(value)
    except TypeError:
        return f"{type(value).__module__}.{type(value).__qualname__}"
    return value
