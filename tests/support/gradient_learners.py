"""Small MAML learners on a point environment, with every setting named."""

import torch

import envs
from metarl.nn.heads import GaussianPolicy
from metarl.noise import Noise
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import Streams
from metarl.run.seeding import Generators

CPU = torch.device("cpu")
N = 3

INNER = {
    "num_inner_steps": 2,
    "inner_lr": 0.3,
    "inner_lr_decay": 1.0,
    "inner_rule": "learned_rates",
    "adapt_only": None,
    "inner_loss": "lvc",
    "discount": 0.99,
    "gae_lambda": 1.0,
    "chunk": 2,
}
PPO = {
    "outer_lr": 1e-3,
    "num_epochs": 1,
    "clip": 0.3,
    "kl_target": None,
    "inner_kl_coefficient": 0.7,
    "inner_kl_target": None,
    "max_grad_norm": None,
}
TRPO = {
    "max_kl": 0.01,
    "cg_iterations": 10,
    "cg_damping": 1e-5,
    "line_search_ratio": 0.8,
    "line_search_steps": 15,
}


def make(
    cls,
    *,
    model=None,
    env="point_navigation_2d",
    seed=0,
    dtype=torch.float32,
    num_tasks=N,
    episodes=2,
    device=CPU,
    **settings,
):
    generators = Generators(seed)
    world = envs.make(env, num_worlds=num_tasks * episodes)
    obs_size, actions = world.observation_space.shape[0], world.action_space.shape[0]
    policy = GaussianPolicy(
        obs_size, actions, (5, 4), init_std=0.8, generator=generators("init")
    ).to(device, dtype)
    streams = Streams(
        tasks=generators("tasks"),
        reset=Noise(generators("reset")),
        policy=Noise(generators("policy", device)),
    )
    defaults = INNER | of_outer(cls) | settings
    return cls(
        setting=Setting(env=world, model=model or policy, streams=streams, device=device),
        **sizes_of(num_tasks, episodes),
        **defaults,
    )


def of_outer(cls):
    return (PPO if cls is MamlPPO else TRPO) | {"gradient_mode": "through"}


def sizes_of(num_tasks=N, episodes=2):
    return {"meta_batch_size": num_tasks, "episodes_per_task": episodes}
