"""A user's own environment: any Gymnasium environment and what differs between tasks make a task
distribution.

    env = own_environment(
        "Hopper-v5",
        num_worlds=80,
        tasks={
            "load": model_field("body_mass", "body_inertia", scale=(0.5, 2.0)),
            "gravity": model_field("opt.gravity", index=2, between=(-12.0, -7.0)),
        },
        horizon=200,
    )

The learners, the evaluator, `envs.gym.SingleEnv` and `envs.sb3.SB3VecEnv` take it as they take
ours. For the command line, leave num_worlds out: `hopper_load = functools.partial(own_environment,
"Hopper-v5", ...)` in a module my_envs.py on Python's path, and in a folder of your own configs
env/hopper_load.yaml with the line `name: my_envs:hopper_load`:

    python scripts/train.py --config-dir my_configs env=hopper_load algo=maml_ppo

What it costs: the reward is the user's Python, so every world is a Gymnasium environment that is
stepped by itself. A step of Hopper, HalfCheetah or Reacher takes 3 to 4 times the processor time
that it takes in `MujocoEnv` (64 worlds), and one core does it all. `processes=True` gives each
world a process of its own, which pays for few worlds with heavy physics, and `python=` another
interpreter, for environments that can't be installed here. docs/own_environment.md is the guide.

Read in this order: tasks.py (what differs), world.py (one environment under a task), worlds.py
(where they run), spaces.py (actions as learners have them), trial.py (what is found out before a
training), identity.py (what the spec says of a source), best_returns.py (an optimum that the user
knows), pictures.py, environment.py (all of it as a BatchedEnv).
"""

from envs.own.environment import OwnEnv, own_environment
from envs.own.tasks import attribute, model_field, reset_option

__all__ = ["OwnEnv", "attribute", "model_field", "own_environment", "reset_option"]
