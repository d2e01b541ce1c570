"""The environments for Gymnasium: one world as `gymnasium.Env`, W worlds stepped together as
`gymnasium.vector.VectorEnv`.

    import metarl  # or envs
    env = gymnasium.make("metarl/HalfCheetahVel-v0", task={"target_velocity": 1.5}, horizon=100)
    batch = gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=64)

Every entry of `envs.ALL` has an id: half_cheetah_vel -> metarl/HalfCheetahVel-v0. Keywords are
those of `envs.make`, and task, render_mode, width and height.
World i of `batch.reset(seed=s)` is the single environment of `env.reset(seed=s + i)`, on CPU bit
for bit, also in its later episodes.

`make_vec(..., autoreset_mode="NextStep")` is what Gymnasium's own vector environments do, and what
NormalizeObservation and other wrappers ask for: the step after an episode's end only resets. The
default SameStep loses no step; Disabled resets nothing.

A task is a dict of numbers, as `sample_tasks` gives it. `set_task(task)`, or
`reset(options={"task": task})`, gives one that holds from the next reset on; without one, or after
`set_task(None)`, every episode draws one: a training task, or with `tasks="test"` a held-out one, or
one of a list of tasks. The present task is in the info of `reset` and of every step, in `env.task`,
and in the observation with `shows_task=True` alone. The time limit truncates; actions beyond the
action space are clipped. The time limit is the id's `max_episode_steps`, which `make` and `make_vec`
take, too; `horizon` is that of `envs.make`, and belongs to the problem. docs/gymnasium.md shows it
all in use.
"""

import dataclasses
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec as EnvironmentId
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.mujoco.gl import check_drawing
from envs.numpy_worlds import NumpyWorlds, Task, Tasks, seed_from, task_dicts
from metarl.gymnasium_plugin import METADATA, TIME_LIMITS, gym_id
from metarl.rl.spec import EnvSpec
from metarl.rl.types import BatchedEnv, Step
from metarl.struct import replace
from metarl.surroundings import among_ordinary_tensors

OWN_SETTINGS = ("task", "tasks", "render_mode", "width", "height")
"""Keywords of the classes here; all others are those of `envs.make`."""

_OF_INFOS = ("task", "final_obs", "final_info", "diverged")
"""Entries of infos that no measurement of an environment may hide; with a _ before it, who has
it."""


@among_ordinary_tensors
def single_env(*, name: str, **settings: Any) -> "SingleEnv":
    """One world of `envs.ALL[name]`, as `gymnasium.make` calls it; settings are SingleEnv's and
    those of `envs.make`.

    Raises: ValueError for a horizon beyond the id's max_episode_steps, at which Gymnasium's
    TimeLimit would end episodes.
    """
    ours, limit = _take_own(settings), TIME_LIMITS.get(name)
    _check_drawing(name, ours.get("render_mode"))
    _check_horizon(name, settings, limit)
    # Without a horizon the time limit is Gymnasium's alone, which may be a longer one.
    given = limit is None or "horizon" in settings
    return SingleEnv(_make(name, 1, **_on_one_thread(settings)), **ours, has_time_limit=given)


@among_ordinary_tensors
def vector_env(
    *, name: str, num_envs: int, max_episode_steps: int | None = None, **settings: Any
) -> "BatchedVectorEnv":
    """`num_envs` worlds of `envs.ALL[name]`; settings are BatchedVectorEnv's and those of
    `envs.make`.

    Args: max_episode_steps: ends episodes, at the latest after a horizon of the settings.
    Raises: ValueError for a horizon beyond the id's max_episode_steps, as `single_env` does.
    """
    ours = _take_own(settings, "autoreset_mode", "disable_env_checker")
    limit = TIME_LIMITS.get(name)
    _check_drawing(name, ours.get("render_mode"))
    if max_episode_steps is not None:
        if TIME_LIMITS.get(name, 0) is None:
            raise ValueError(
                f"max_episode_steps is {max_episode_steps}, but episodes of {gym_id(name)} end by "
                f"themselves; expected horizon={max_episode_steps} instead"
            )
        _check_limit(max_episode_steps)
        _check_horizon(name, settings, limit)
        horizon = settings.setdefault("horizon", max_episode_steps)
        if isinstance(horizon, int | np.integer):
            settings["horizon"] = min(horizon, max_episode_steps)
    return BatchedVectorEnv(_make(name, num_envs, **settings), **ours)


def _check_limit(max_episode_steps: int) -> None:
    if max_episode_steps < 1:
        raise ValueError(
            f"max_episode_steps is {max_episode_steps}; expected 1 or more, for worlds that are "
            "stepped together have a time limit"
        )


def _check_horizon(name: str, settings: Mapping[str, Any], limit: int | None) -> None:
    horizon = settings.get("horizon")
    if limit is not None and isinstance(horizon, int | np.integer) and horizon > limit:
        raise ValueError(
            f"horizon is {horizon}, but Gymnasium ends episodes of {gym_id(name)} after "
            f"max_episode_steps={limit}; expected max_episode_steps={horizon} alone, which is the "
            "horizon, too"
        )


def problem_of(
    env: "gymnasium.Env[Any, Any] | gymnasium.vector.VectorEnv[Any, Any, Any]",
) -> EnvSpec:
    """What a result on this environment belongs to; its `spec_hash` should stand beside it.

    Args: env: what `gymnasium.make` gave, whose time limit is then the horizon; the environment
      inside, its `unwrapped`, doesn't know of it.
    Raises: ValueError if it isn't one of these, or nothing ends its episodes.
    """
    inner = cast("SingleEnv | BatchedVectorEnv", env.unwrapped)
    if not isinstance(inner, SingleEnv | BatchedVectorEnv):
        raise ValueError(
            f"env is a {type(inner).__name__}; expected an environment of ours, as gymnasium.make or "
            "make_vec gives it (of a SyncVectorEnv, one of its envs)"
        )
    spec, limit = inner._worlds.env.spec, _time_limit(env)
    if limit is None and env is not inner and not getattr(inner, "_has_time_limit", True):
        raise ValueError(
            f"{spec.name} was made without a time limit (max_episode_steps=-1), so episodes don't "
            "end and no result belongs to it; expected max_episode_steps"
        )
    if isinstance(inner, BatchedVectorEnv):
        limit = inner._limit
    if limit is None:
        return spec
    if TIME_LIMITS.get(spec.name, 0) is None:  # The limit cuts off what is another problem.
        cut = {**spec.definition, "max_episode_steps": limit}
        return spec if limit >= spec.horizon else replace(spec, definition=cut)
    # Where the environment ends episodes by itself, the earlier of the two counts.
    alone = isinstance(inner, SingleEnv) and not inner._has_time_limit
    horizon = limit if alone else min(limit, spec.horizon)
    return replace(spec, horizon=horizon)


def _time_limit(env: Any) -> int | None:
    """The steps after which the first of the wrappers around an environment ends an episode."""
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env
    return min(limits, default=None)


def sample_tasks(
    env: "SingleEnv | BatchedVectorEnv", num: SupportsIndex, seed: SupportsIndex | None = None
) -> list[dict[str, Any]]:
    """`num` training tasks; no seed: from this environment's own stream."""
    own = seed_from(env.np_random) if seed is None else operator.index(seed)
    if own < 0:
        raise ValueError(f"seed is {own}; expected 0 or more")
    return env._worlds.sample_tasks(operator.index(num), own)


@among_ordinary_tensors
def held_out_tasks(
    env: "SingleEnv | BatchedVectorEnv", num: SupportsIndex | None = None
) -> list[dict[str, Any]]:
    """The held-out tasks, always the same ones; `num` of them, None: as many as evaluations take."""
    asked = None if num is None else operator.index(num)
    if asked is not None and asked < 1:
        raise ValueError(f"num is {asked}; expected at least 1 task")
    return task_dicts(env._worlds.env.prior.test_tasks(asked))


class SingleEnv(gymnasium.Env[np.ndarray, Any]):
    """One world of a BatchedEnv.

    Args:
      env: has one world; any `BatchedEnv`, also a user's own.
      task: the task of every episode; None: each draws one.
      tasks: what is drawn from: train, test, or a list of tasks.
      render_mode: None or rgb_array.
      width, height: of a picture, in pixels.
      has_time_limit: False leaves the time limit to whoever wraps this; an episode's own end stays.
    """

    metadata = METADATA
    problem, sample_tasks, test_tasks = property(problem_of), sample_tasks, held_out_tasks

    def __init__(
        self,
        env: BatchedEnv,
        *,
        task: Task | None = None,
        tasks: Tasks = "train",
        render_mode: str | None = None,
        width: SupportsIndex = 320,
        height: SupportsIndex = 240,
        has_time_limit: bool = True,
    ) -> None:
        self._has_time_limit = has_time_limit
        if env.num_worlds != 1:
            raise ValueError(f"the environment has {env.num_worlds} worlds; expected 1")
        self.render_mode = _checked_render_mode(render_mode)
        self.metadata = {**self.metadata, **_frame_rate(env)}
        self._worlds = NumpyWorlds(env, tasks, width, height)
        self.observation_space = env.observation_space
        self.action_space = env.action_space
        self.set_task(task)

    def set_task(self, task: Task | None) -> None:
        """Gives the task of the episodes to come; None: each draws its own. Raises: ValueError if
        it isn't of this family."""
        self._worlds.set_tasks([task], [0])

    @property
    def task(self) -> dict[str, Any] | None:
        """The task of the present episode, as `sample_tasks` gives it; None before the first reset.
        Setting it is `set_task`: it holds from the next reset on."""
        return self._worlds.task(0)

    @task.setter
    def task(self, task: Task | None) -> None:
        self.set_task(task)

    def reset(
        self, *, seed: SupportsIndex | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=_python_int(seed))
        self._worlds.take_options(options)
        obs = self._worlds.reset([self.np_random])
        return obs[0].copy(), self._worlds.info(0)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        step = self._worlds.step(np.asarray(action)[None])
        info = {name: value[0].item() for name, value in _measurements(step).items()}
        info |= self._worlds.info(0)
        obs = step.next_obs[0].cpu().numpy().copy()
        truncated = self._has_time_limit and bool(step.truncated[0])
        return obs, step.reward[0].item(), bool(step.terminated[0]), truncated, info

    def render(self) -> Any:
        return None if self.render_mode is None else self._worlds.picture(0)

    def close(self) -> None:
        self._worlds.env.close()


class BatchedVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """W worlds of a BatchedEnv, stepped together. What ends an episode is followed as in
    Gymnasium's SyncVectorEnv:

    | autoreset_mode | after an episode's last step |
    |---|---|
    | SameStep | it already returns the first observation of the next episode; the last one is in infos["final_obs"], its info in infos["final_info"] |
    | NextStep | the next step ignores the world's action and returns the first observation of its next episode, with reward 0 |
    | Disabled | `reset(options={"reset_mask": worlds})`, worlds [W] bool, is to come before the next step |

    Args:
      task: of all worlds' episodes; None: each episode draws one.
      tasks: what is drawn from: train, test, or a list of tasks.
      autoreset_mode: an AutoresetMode or its value.
      render_mode: None or rgb_array; `render` gives one picture for each world.
      width, height: of a picture, in pixels.
      max_episode_steps: what `gymnasium.register` or `make_vec` says of an id of your own: ends episodes
        where the environment doesn't do so before.
      disable_env_checker: no effect; Gymnasium checks no batch.
    """

    metadata: dict[str, Any] = METADATA
    problem, sample_tasks, test_tasks = property(problem_of), sample_tasks, held_out_tasks

    def __init__(
        self,
        env: BatchedEnv,
        *,
        task: Task | None = None,
        tasks: Tasks = "train",
        render_mode: str | None = None,
        width: SupportsIndex = 320,
        height: SupportsIndex = 240,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        max_episode_steps: SupportsIndex | None = None,
        disable_env_checker: bool | None = None,
    ) -> None:
        self._limit = None if max_episode_steps is None else operator.index(max_episode_steps)
        if self._limit is not None:
            _check_limit(self._limit)
        self.render_mode = _checked_render_mode(render_mode)
        self._mode = _checked_autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, **_frame_rate(env), "autoreset_mode": self._mode}
        self._worlds = NumpyWorlds(env, tasks, width, height)
        self.num_envs = env.num_worlds
        self._spec: EnvironmentId | None = None
        self._ended = np.zeros(self.num_envs, bool)  # by the last step, without a reset since
        self._num_steps = np.zeros(self.num_envs, int)  # of the present episodes
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, self.num_envs)
        self.action_space = batch_space(env.action_space, self.num_envs)
        self._streams = [seeding.np_random()[0] for _ in range(self.num_envs)]
        self.set_task(task)

    @property
    def spec(self) -> EnvironmentId | None:  # type: ignore[override]
        """What `make_vec` says of it, with the time limit that it has."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvironmentId | None) -> None:
        if spec is not None and spec.max_episode_steps is not None:
            spec = dataclasses.replace(spec, max_episode_steps=problem_of(self).horizon)
        self._spec = spec

    def set_task(self, task: Task | None, worlds: Any = None) -> None:
        """Gives all worlds, or these, the task of their episodes to come; None: each episode draws
        its own.

        Args: worlds: their numbers, or a mask [W] bool.
        """
        chosen = self._chosen(range(self.num_envs) if worlds is None else worlds)
        self._worlds.set_tasks([task] * len(chosen), chosen)

    def set_tasks(self, tasks: Sequence[Task | None]) -> None:
        """Gives each world the task of its episodes to come."""
        self._worlds.set_tasks(tasks, range(self.num_envs))

    @property
    def task(self) -> tuple[dict[str, Any] | None, ...]:
        """The task of each world's present episode, as `sample_tasks` gives it; None before the
        first reset. Setting it, to one for all or one for each, is `set_task` or `set_tasks`."""
        return tuple(self._worlds.task(world) for world in range(self.num_envs))

    @task.setter
    def task(self, task: Task | Sequence[Task | None] | None) -> None:
        if task is None or isinstance(task, Mapping):
            self.set_task(task)
        else:
            self.set_tasks(task)

    def reset(
        self,
        *,
        seed: SupportsIndex | Sequence[SupportsIndex | None] | None = None,  # type: ignore[override]
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode in every world, or in those of the option `reset_mask`, [W] bool. A
        seed s gives world i the seed s + i; other options: `task` of all, or `tasks` of each."""
        options = dict(options or {})
        chosen = self._checked_mask(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + world for world in range(self.num_envs)]
        seeds = (
            [None] * self.num_envs
            if seed is None
            else [_python_int(one) for one in cast(Sequence[Any], seed)]
        )
        if len(seeds) != self.num_envs:
            raise ValueError(
                f"seed has {len(seeds)} entries; expected one for each of {self.num_envs} worlds"
            )
        if seed is not None and seeds[0] is not None:
            # What is drawn for all worlds, as tasks are, follows from the first one's.
            super().reset(seed=seeds[0])
        for world, of_world in enumerate(seeds):
            if of_world is not None and chosen[world]:
                self._streams[world] = seeding.np_random(of_world)[0]
        self._worlds.take_options(options, ("task", "tasks"))
        return self._reset(chosen), self._with_tasks({}, chosen)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        before = self._ended  # Only NextStep leaves any and goes on.
        if self._mode is AutoresetMode.DISABLED and before.any():
            raise RuntimeError(
                f"worlds {before.nonzero()[0].tolist()} have ended; expected "
                f"reset(options={{'reset_mask': ...}})"
            )
        step = self._worlds.step(self._heeded(np.asarray(actions), before))
        terminated, truncated = (
            flag.cpu().numpy() & ~before for flag in (step.terminated, step.truncated)
        )
        self._num_steps += 1
        if self._limit is not None:
            truncated |= (self._num_steps >= self._limit) & ~terminated & ~before
        reward = np.where(before, 0.0, step.reward.double().cpu().numpy())
        obs, done = step.next_obs.cpu().numpy(), terminated | truncated
        measurements = {name: value.cpu().numpy() for name, value in _measurements(step).items()}
        if self._mode is not AutoresetMode.SAME_STEP:
            infos = {} if before.all() else _masked(measurements, ~before)
            if before.any():
                obs = self._reset(before)
            self._ended = done
            return obs, reward, terminated, truncated, self._with_tasks(infos)
        infos = {} if done.all() else _masked(measurements, ~done)
        if done.any():
            infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
            for world in done.nonzero()[0]:
                infos["final_obs"][world] = obs[world].copy()
            infos |= {
                "_final_obs": done.copy(),
                "final_info": self._with_tasks(_masked(measurements, done), done),
                "_final_info": done.copy(),
            }
            obs = self._reset(done)
        return obs, reward, terminated, truncated, self._with_tasks(infos)

    def _heeded(self, actions: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The actions with one that does no harm for each world that has ended, whose own is
        ignored, whatever it is."""
        space = self.single_action_space
        if not before.any() or actions.shape[:1] != before.shape:
            return actions
        calm = space.start if isinstance(space, gymnasium.spaces.Discrete) else 0
        heeded = actions.copy()
        heeded[before] = calm
        return heeded

    def render(self) -> tuple[Any, ...] | None:
        if self.render_mode is None:
            return None
        return tuple(self._worlds.picture(world) for world in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        self._worlds.env.close()

    def _reset(self, chosen: np.ndarray) -> np.ndarray:
        """Starts an episode in the worlds of chosen [W] bool; the present observation of all."""
        self._ended = self._ended & ~chosen
        self._num_steps[chosen] = 0
        streams = [
            stream if yes else None for stream, yes in zip(self._streams, chosen, strict=True)
        ]
        return self._worlds.reset(streams)

    def _chosen(self, worlds: Any) -> list[int]:
        found = np.asarray(list(worlds) if isinstance(worlds, Iterable) else worlds)
        if found.dtype == bool and found.shape == (self.num_envs,):
            return [int(world) for world in found.nonzero()[0]]
        numbers = found.dtype.kind in "iu" or found.size == 0
        if found.ndim != 1 or not numbers or ((found < 0) | (found >= self.num_envs)).any():
            raise ValueError(
                f"worlds is {worlds!r}; expected a list of numbers from 0 to {self.num_envs - 1}, or "
                f"a mask ({self.num_envs},) bool"
            )
        return [int(world) for world in found]

    def _checked_mask(self, mask: Any) -> np.ndarray:
        if (
            not isinstance(mask, np.ndarray)
            or mask.shape != (self.num_envs,)
            or mask.dtype != bool
            or not mask.any()
        ):
            raise ValueError(
                f"reset_mask is {mask!r}; expected a bool array ({self.num_envs},) with a True in "
                "it"
            )
        return mask

    def _with_tasks(
        self, infos: dict[str, Any], worlds: np.ndarray | None = None
    ) -> dict[str, Any]:
        """The infos with the present tasks of the worlds of the mask [W] bool, of all if None."""
        have = np.ones(self.num_envs, bool) if worlds is None else worlds
        task: dict[str, np.ndarray] = {}
        for name, column in self._worlds.tasks_of(have).items():
            task |= {name: column, f"_{name}": have.copy()}
        return {**infos, "task": task, "_task": have.copy()}


def _on_one_thread(settings: dict[str, Any]) -> dict[str, Any]:
    """One world needs no more threads; a machine that is given says so itself."""
    return settings if "machine" in settings else {"num_threads": 1, **settings}


def _make(name: str, num_worlds: int, **settings: Any) -> BatchedEnv:
    import envs  # which imports this file to register the ids

    return envs.make(name, num_worlds, **settings)


def _check_drawing(name: str, render_mode: str | None) -> None:
    """Raises: RuntimeError if pictures are asked for that MuJoCo couldn't draw: the first of them
    may be hours away."""
    import envs

    if render_mode is not None and envs.has_physics(name):
        check_drawing()


def _frame_rate(env: BatchedEnv) -> dict[str, int]:
    """One picture for each control step, a whole number of them a second, as Gymnasium's checks
    ask."""
    own = env.render_fps if env.control_step is None else 1 / env.control_step
    return {} if own is None else {"render_fps": max(1, round(own))}


def _take_own(settings: dict[str, Any], *more: str) -> dict[str, Any]:
    return {name: settings.pop(name) for name in (*OWN_SETTINGS, *more) if name in settings}


def _measurements(step: Step) -> dict[str, Tensor]:
    """Returns what a step measured by name, [W] each, float64 or bool. Names that mean something
    else in infos are left out, with a warning."""
    found = {name: value.double() for name, value in step.terms.items() if name not in _TAKEN}
    if "success" in found:
        found.setdefault("is_success", found["success"])  # as Stable-Baselines3 looks for it
    if taken := [name for name in step.terms if name in _TAKEN]:
        warnings.warn(
            f"the environment measures {', '.join(taken)}, which is another thing in infos; left "
            "out",
            stacklevel=2,
        )
    return {**found, "diverged": step.diverged}


_TAKEN = {f"{sign}{name}" for name in _OF_INFOS for sign in ("", "_")}


def _masked(values: Mapping[str, np.ndarray], worlds: np.ndarray) -> dict[str, Any]:
    """Gymnasium's form of infos: each value with the mask of the worlds that have it, zero
    elsewhere."""
    infos: dict[str, Any] = {}
    for name, value in values.items():
        infos[name], infos[f"_{name}"] = (
            np.where(worlds, value, np.zeros_like(value)),
            worlds.copy(),
        )
    return infos


def _python_int(seed: Any) -> Any:
    """Python's own for NumPy's whole numbers, which Gymnasium's seeding refuses; all else as it
    is."""
    return int(seed) if isinstance(seed, np.integer) else seed


def _checked_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        known = ", ".join(each.value for each in AutoresetMode)
        raise ValueError(f"autoreset_mode is {mode!r}; expected {known}") from None


def _checked_render_mode(render_mode: str | None) -> str | None:
    if render_mode not in (None, *METADATA["render_modes"]):
        raise ValueError(f"render_mode is {render_mode!r}; expected None or rgb_array")
    return render_mode
