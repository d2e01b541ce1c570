"""What a checkpoint says of an environment is enough to make a learner, and nothing else passes for
it."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import envs
from metarl.rl.absent_env import AbsentEnv, packed
from metarl.run import archive
from metarl.struct import map_tensors


@pytest.mark.parametrize("name", ["bandit", "half_cheetah_vel", "half_cheetah_vel_pearl"])
def test_it_is_for_a_learner_as_the_one_that_was_packed(name: str, tmp_path: Any) -> None:
    env = envs.make(name, 2)
    archive.write(tmp_path / "file", "policy", archive.packed(packed(env)))
    content = archive.read(tmp_path / "file", "policy")
    absent = AbsentEnv({key: value for key, value in content.items() if key != "version"})
    assert absent.spec.spec_hash == env.spec.spec_hash and absent.spec.made_by == env.spec.made_by
    assert absent.observation_space == env.observation_space
    assert absent.action_space == env.action_space
    assert absent.prior.num_train == env.prior.num_train and absent.num_worlds == 1


def test_bounds_and_starts_are_kept() -> None:
    env = envs.make("bandit", 1)
    env.action_space = gymnasium.spaces.Discrete(3, start=2)
    env.observation_space = gymnasium.spaces.Box(np.float32([-np.inf, 0]), np.float32([1, 2]))
    absent = AbsentEnv(packed(env))
    assert absent.action_space == env.action_space
    assert absent.observation_space == env.observation_space


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"spec": None}, "spec is a NoneType; expected a dict"),
        ({"spec": {"name": 3}}, "spec.name is 3; expected a word"),
        ({"horizon": 0}, "spec.horizon is 0; expected 1 or more"),
        ({"horizon": True}, "spec.horizon is True; expected a number of steps"),
        ({"observation_space": {"n": 3, "start": 0}}, "observation space is Discrete"),
        ({"action_space": {"n": 0, "start": 0}}, "a space is neither low and high"),
        ({"action_space": {"low": [0.0], "high": [1.0]}}, "a space is neither low and high"),
        ({"action_space": 3}, "a space is neither low and high"),
        ({"num_train": 0}, "num_train is 0; expected a number of tasks"),
    ],
)
def test_what_a_file_of_somebody_else_may_say_is_refused(
    changed: dict[str, Any], said: str
) -> None:
    values = map_tensors(torch.clone, packed(envs.make("bandit", 1)))
    own = {name: value for name, value in changed.items() if name in values}
    values |= own
    if not own:
        values["spec"] |= changed
    with pytest.raises(ValueError, match=said):
        AbsentEnv(values)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="it has no action_space, spec"):
        AbsentEnv({"observation_space": {}, "num_train": None})


def test_nobody_plays_in_it() -> None:
    absent = AbsentEnv(packed(envs.make("bandit", 1)))
    for play in (lambda: absent.step(torch.zeros(1)), lambda: absent.reset(torch.zeros(1, 0))):
        with pytest.raises(RuntimeError, match="bandit isn't here"):
            play()
