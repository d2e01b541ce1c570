"""Makes the environments known to Gymnasium without importing them: `import metarl` does it, and so
does `metarl:` before an id. For that their names stand here, too; a test holds them to `envs.ALL`.
"""

from typing import Any

from gymnasium.envs import registration

from metarl.envs_package import import_envs

TIME_LIMITS: dict[str, int | None] = {
    "half_cheetah_vel": 200,
    "half_cheetah_vel_maml": 200,
    "half_cheetah_vel_promp": 100,
    "half_cheetah_vel_pmr": 100,
    "half_cheetah_vel_pearl": 200,
    "half_cheetah_vel_varibad": 200,
    "half_cheetah_vel_wide": 200,
    "half_cheetah_vel_long": 1000,
    "half_cheetah_dir": 200,
    "half_cheetah_dir_maml": 200,
    "half_cheetah_dir_promp": 100,
    "half_cheetah_dir_sparse": 200,
    "half_cheetah_cripple": 1000,
    "ant_vel": 200,
    "ant_dir": 200,
    "ant_dir_promp": 100,
    "ant_dir_varibad": 200,
    "ant_dir_2d": 200,
    "ant_goal": 200,
    "ant_goal_maml": 200,
    "ant_goal_sparse": 200,
    "humanoid_dir": 200,
    "swimmer_vel": 200,
    "walker2d_rand_params": 200,
    "walker2d_rand_params_pearl": 200,
    "walker2d_vel": 200,
    "walker2d_vel_promp": 100,
    "walker2d_dir": 200,
    "walker2d_dir_promp": 100,
    "hopper_rand_params": 200,
    "hopper_rand_params_pearl": 200,
    "reacher_goal": 50,
    "arm_reach": 150,
    "arm_grasp": 150,
    "arm_pick_place": 150,
    "point_navigation_2d": 100,
    "point_navigation_2d_raw": 100,
    "point_navigation_2d_corner": 100,
    "point_navigation_2d_sparse": 100,
    "point_navigation_2d_sparse_pearl": 20,
    "bandit": None,
    "tabular_mdp": None,
    "gridworld_5x5": None,
}
"""Control steps of an episode; None where the last step is the problem's own end, which no time
limit makes."""

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}
"""What an environment without physics has; others render at the speed of their world."""


def gym_id(name: str) -> str:
    """Returns Gymnasium's id of an environment: half_cheetah_vel -> metarl/HalfCheetahVel-v0."""
    return f"metarl/{''.join(part.capitalize() for part in name.split('_'))}-v0"


def register() -> None:
    """Makes all of them known to `gymnasium.make` and `gymnasium.make_vec`, once."""
    for name, limit in TIME_LIMITS.items():
        if gym_id(name) not in registration.registry:
            registration.register(
                gym_id(name),
                entry_point=f"{__name__}:single_env",
                vector_entry_point=f"{__name__}:vector_env",
                max_episode_steps=limit,
                kwargs={"name": name},
            )


def single_env(**settings: Any) -> Any:
    """See envs/gym.py. Raises: ImportError if a user's package envs is in the way."""
    return import_envs("envs.gym").single_env(**settings)


def vector_env(**settings: Any) -> Any:
    """See envs/gym.py. Raises: ImportError if a user's package envs is in the way."""
    return import_envs("envs.gym").vector_env(**settings)


# Where the mode isn't its own, Gymnasium wraps an environment with this one: in a window, or a list.
single_env.metadata = METADATA  # type: ignore[attr-defined]
