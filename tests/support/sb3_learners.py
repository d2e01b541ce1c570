"""Learners of Stable-Baselines3 as configs/algo makes them, in small worlds."""

from typing import Any

import torch
from omegaconf import OmegaConf

from metarl.cli import build, configs
from metarl.rl.types import RLLearner
from metarl.run.seeding import Generators

CPU = torch.device("cpu")


def made(algo: str, env: str, *words: str, seed: int = 0) -> tuple[RLLearner, Any]:
    """(the learner of configs/algo/<algo>.yaml, its configuration)"""
    given = [
        f"algo={algo}",
        f"env={env}",
        f"seed={seed}",
        "device=cpu",
        "sim.num_threads=1",
        *words,
    ]
    plain, _ = configs.composed("train", given, [configs.CONFIGS])
    config = OmegaConf.create(plain)
    env_made = build.training_environment(config)
    return build.learner(config, env_made, Generators(seed), CPU), config
