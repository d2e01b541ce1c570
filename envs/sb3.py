"""The batched environments for Stable-Baselines3: its algorithms train on them unchanged.

    from envs.sb3 import sb3_env
    worlds = sb3_env("half_cheetah_vel", 64, task={"target_velocity": 1.5})
    model = PPO("MlpPolicy", VecMonitor(worlds), n_steps=200)

`VecMonitor` counts the returns for PPO's log.

Needs the extra: pip install 'metarl[sb3]'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from envs.gym import BatchedVectorEnv, vector_env
from envs.numpy_worlds import Task
from metarl.choices import expected

try:
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
except ImportError as error:
    raise ImportError("envs.sb3 needs Stable-Baselines3: pip install 'metarl[sb3]'") from error


def sb3_env(
    name: str,
    num_worlds: int,
    *,
    task: Task | None = None,
    render_mode: str | None = None,
    **settings: Any,
) -> "SB3VecEnv":
    """`num_worlds` worlds of `envs.ALL[name]`.

    Args:
      task: of all episodes, as `envs.gym` has it; None: every episode draws one.
      settings: `tasks`, what is drawn from ("train", "test" or a list), and those of `envs.make`,
        for instance horizon or num_threads.
    Raises: ValueError as `envs.make` does, or if the task isn't of this family.
    """
    return SB3VecEnv(
        vector_env(name=name, num_envs=num_worlds, task=task, render_mode=render_mode, **settings)
    )


class SB3VecEnv(VecEnv):
    """A BatchedVectorEnv in the form that Stable-Baselines3 takes, on `vector`; that of a user's
    own environment, too.

    | of an episode's last step | is |
    |---|---|
    | obs | the first observation of the next episode |
    | info["terminal_observation"] | the true last observation, [O] |
    | info["TimeLimit.truncated"] | True if only the time limit ended it: the algorithm then bootstraps from it |

    The worlds aren't objects: of `env_method` there is `set_task(task)`, as an attribute of their own
    they have `task`, and other attributes are read from the whole batch, whose `vector.sample_tasks`
    and `vector.test_tasks` give tasks.
    """

    def __init__(self, vector: BatchedVectorEnv) -> None:
        if vector.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode is {vector.metadata['autoreset_mode'].value}; expected SameStep "
                "here"
            )
        self.vector = vector
        self._actions: np.ndarray | None = None
        super().__init__(
            vector.num_envs, vector.single_observation_space, vector.single_action_space
        )

    def reset(self) -> np.ndarray:
        """Takes the seeds and options (`task` of each world) given by `seed` and `set_options`.
        Seeds hold once; a world keeps its task until it is given another, None for a new one each
        episode."""
        for world, options in enumerate(self._options):
            for key in options:
                if key != "task":
                    raise ValueError(f"reset option {key!r}; {expected(key, ['task'])}")
            if "task" in options:
                self.vector.set_task(options["task"], [world])
        obs, infos = self.vector.reset(seed=self._seeds)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [_info_of(infos, world) for world in range(self.num_envs)]
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        actions, self._actions = self._actions, None
        if actions is None:
            raise RuntimeError("step_wait() before step_async(actions)")
        obs, reward, terminated, truncated, infos = self.vector.step(actions)
        done = terminated | truncated
        of_worlds: list[dict[str, Any]] = []
        for world in range(self.num_envs):
            info = _info_of(infos["final_info"] if done[world] else infos, world)
            info["TimeLimit.truncated"] = bool(truncated[world] and not terminated[world])
            if done[world]:
                info["terminal_observation"] = infos["final_obs"][world]
                self.reset_infos[world] = {"task": _info_of(infos["task"], world)}
            of_worlds.append(info)
        return obs, reward.astype(np.float32), done, of_worlds

    def close(self) -> None:
        self.vector.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self.vector.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        value, worlds = getattr(self.vector, attr_name), self._get_indices(indices)
        return [value[world] if attr_name == "task" else value for world in worlds]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        if attr_name == "task":
            self.env_method("set_task", value, indices=indices)
            return
        raise AttributeError(f"the worlds have no attribute {attr_name!r} of their own to set")

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        if method_name != "set_task":
            raise AttributeError(f"the worlds have no method {method_name!r}; they have: set_task")
        worlds = list(self._get_indices(indices))

        def set_task(task: Task | None) -> None:
            self.vector.set_task(task, worlds)

        set_task(*method_args, **method_kwargs)
        return [None for _ in worlds]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def _info_of(infos: Mapping[str, Any], world: int) -> dict[str, Any]:
    """The info of one world out of Gymnasium's arrays: what its mask says it has."""
    return {
        name: _info_of(value, world) if isinstance(value, dict) else value[world]
        for name, value in infos.items()
        if f"_{name}" in infos and infos[f"_{name}"][world]
    }
