"""Trained agents in a program that has asked torch, or Hydra, for something else."""

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import gymnasium
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import metarl
from metarl.cli.configs import CONFIGS

NAME = "half_cheetah_dir/maml_ppo"


@contextmanager
def default_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def backwards() -> gymnasium.Env:
    env = gymnasium.make("metarl/HalfCheetahDir-v0", task={"direction": -1.0})
    return gymnasium.wrappers.TimeLimit(env, 5)


def adapted_return(env: gymnasium.Env) -> np.ndarray:
    """Of an agent that has adapted to it for two episodes."""
    return metarl.load(NAME).adapt(env, 2).play(env, 1, seed=1)


@pytest.mark.parametrize(
    "around",
    [
        *(torch.inference_mode, torch.no_grad, default_float64),
        lambda: torch.autocast("cpu", torch.bfloat16),
    ],
)
def test_adapting_is_the_same_whatever_torch_was_asked_for(backwards, around):
    expected = adapted_return(backwards)
    with around():
        assert adapted_return(backwards) == pytest.approx(expected, rel=1e-4)
    unadapted = metarl.load(NAME).unadapted.play(backwards, 1, seed=1)
    assert unadapted != pytest.approx(expected, rel=1e-2)
    assert torch.get_default_dtype() == torch.float32


def test_random_numbers_of_the_program_go_on_as_they_were(backwards):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    digits = metarl.load("omniglot/protonet")
    digits.fit(torch.rand(2, 1, 28, 28, generator=torch.Generator()), [0, 1])
    adapted_return(backwards)
    assert torch.equal(torch.rand(3), expected)


def test_a_program_of_hydra_goes_on():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        theirs = GlobalHydra.instance().hydra
        metarl.load("bandit/rl2_ppo")
        assert GlobalHydra.instance().hydra is theirs
        assert compose("train").seed == 0
    assert not GlobalHydra.instance().is_initialized()


def test_several_threads_load_at_once():
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(metarl.load, ["bandit/rl2_ppo"] * 3))
    assert {agent.spec.name for agent in found} == {"bandit"}
    assert "iteration " in repr(found[0])


def test_a_forgotten_reward_is_told_once():
    policy = metarl.load("half_cheetah_vel/rl2_ppo").unadapted
    policy(np.zeros(policy.observation_space.shape))
    with pytest.warns(UserWarning, match="learns from the reward of its last action"):
        policy(np.zeros(policy.observation_space.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy(np.zeros(policy.observation_space.shape))
        other = metarl.load("half_cheetah_vel/memoryless_ppo").unadapted
        for _ in range(2):
            other(np.zeros(other.observation_space.shape))
