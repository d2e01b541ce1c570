"""Facts about walker2d and hopper against Gymnasium's Walker2d-v5 and Hopper-v5."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from support.gymnasium_runs import Recording, record, replay

import envs
from envs.mujoco.scaled_physics import PhysicsFactors
from envs.mujoco.targets import Direction, TargetVelocity
from metarl.noise import Noise

PROMP = {"xml_file": "walker2d.xml", "frame_skip": 8}  # with the older feet


def factors_of_one(name: str) -> PhysicsFactors:
    one = envs.make(name, 1).prior.test_tasks(2)
    return PhysicsFactors(**{field: torch.ones_like(value) for field, value in vars(one).items()})


def tasks(name: str) -> Any:
    if "rand_params" in name:
        return factors_of_one(name)
    if "vel" in name:
        return TargetVelocity(target_velocity=torch.tensor([0.5, 3.0]))
    return Direction(direction=torch.tensor([1.0, -1.0]))


@cache
def recording(gymnasium_id: str, num_steps: int, **options: Any) -> Recording:
    """One for all environments with these physics, for their starts are the same."""
    name = "hopper_rand_params" if gymnasium_id.startswith("Hopper") else "walker2d_dir"
    options = {"terminate_when_unhealthy": False, **options}
    return record(gymnasium_id, name, num_worlds=2, num_steps=num_steps, **options)


def expected_reward(name: str, recording: Recording) -> np.ndarray:
    """[T, W] from what Gymnasium tells about its steps."""
    velocity, cost = recording.info["x_velocity"], -recording.info["reward_ctrl"]
    alive = np.ones_like(cost) if name.endswith("_promp") else recording.info["reward_survive"]
    if "vel" in name:
        return -np.abs(velocity - np.array([0.5, 3.0])) + 15 * alive - cost
    if "dir" in name:
        return velocity * np.array([1.0, -1.0]) + alive - cost
    return velocity + alive - cost


@pytest.mark.parametrize(
    ("name", "gymnasium_id", "num_steps", "options"),
    [
        ("walker2d_rand_params", "Walker2d-v5", 500, {}),
        ("walker2d_vel", "Walker2d-v5", 500, {}),
        ("walker2d_dir", "Walker2d-v5", 500, {}),
        ("walker2d_vel_promp", "Walker2d-v5", 60, PROMP),
        ("walker2d_dir_promp", "Walker2d-v5", 60, PROMP),
        ("hopper_rand_params", "Hopper-v5", 500, {}),
    ],
)
def test_physics_and_reward_are_those_of_gymnasium(
    name: str, gymnasium_id: str, num_steps: int, options: dict[str, Any]
) -> None:
    theirs = recording(gymnasium_id, num_steps, **options)
    ours = replay(name, theirs, tasks(name))
    assert np.array_equal(ours.qpos, theirs.qpos)
    assert np.array_equal(ours.qvel, theirs.qvel)
    assert np.array_equal(ours.obs, theirs.obs.astype(np.float32))
    # The tolerance is float32's: rewards are some twenty, their rounding 1e-6.
    assert ours.reward == pytest.approx(expected_reward(name, theirs), abs=3e-6)
    assert ours.terms["velocity"] == pytest.approx(theirs.info["x_velocity"], abs=3e-6)
    fallen = theirs.info["reward_survive"] == 0
    assert 0 < fallen.mean() < 1
    assert np.array_equal(ours.terminated, fallen)


REST = {"walker2d_dir": [0, 1.25, *7 * [0]], "hopper_rand_params": [0, 1.25, *4 * [0]]}  # m, rad


@pytest.mark.parametrize("name", REST)
def test_starts_have_the_noise_of_gymnasium(name: str) -> None:
    env = envs.make(name, 2000)
    env.set_tasks(env.prior.test_tasks(2000))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    for noise in (env.sim.qpos - torch.tensor(REST[name]), env.sim.qvel):
        assert float(noise.abs().max()) <= 0.005
        # A uniform number in ±0.005 has standard deviation 0.005 / √3; of 12,000 draws the
        # estimate's own error is 0.4 %.
        assert float(noise.std()) == pytest.approx(0.005 / 3**0.5, rel=0.02)
        # Five times 1/√2000.
        assert float(torch.corrcoef(noise.T).fill_diagonal_(0).abs().max()) < 0.11


# Per case: where in (qpos, qvel), the value that still stands, and the one that has fallen.
BOUNDS = [
    ("walker2d_dir", 1, 0.81, 0.8),
    ("walker2d_dir", 1, 1.99, 2.0),
    ("walker2d_dir", 2, 0.99, 1.0),
    ("walker2d_dir", 2, -0.99, -1.0),
    ("hopper_rand_params", 1, 0.71, 0.7),
    ("hopper_rand_params", 2, 0.19, 0.2),
    ("hopper_rand_params", 2, -0.19, -0.2),
    ("hopper_rand_params", 3, 99.9, 100.0),
    ("hopper_rand_params", 6, -99.9, -100.0),  # velocity along x
    ("hopper_rand_params", 11, 99.9, 100.0),
]


@pytest.mark.parametrize(("name", "element", "standing", "fallen"), BOUNDS)
def test_robot_has_fallen_at_the_bound_itself(
    name: str, element: int, standing: float, fallen: float
) -> None:
    env = envs.make(name, 2)
    env.sim.qpos.copy_(torch.tensor(REST[name]))
    env.sim.qpos[:, 0] = 200.0  # m; however far it went
    state, index = (
        (env.sim.qpos, element) if element < env.sim.qpos.shape[1] else (env.sim.qvel, element % 6)
    )
    state[:, index] = torch.tensor([standing, fallen], dtype=torch.float64)
    assert env.mdp.terminated(env.sim).tolist() == [False, True]


def test_targets_and_their_splits_are_those_of_the_definition() -> None:
    velocity = envs.make("walker2d_vel", 1).prior
    assert (velocity.num_train, velocity.num_test, velocity.bounds["target_velocity"]) == (
        100,
        30,
        (0.0, 10.0),
    )
    drawn = (
        envs.make("walker2d_vel_promp", 1)
        .prior.sample(10_000, torch.Generator().manual_seed(0))
        .target_velocity
    )
    # The distance between the distribution functions exceeds 1.95/√n once in a thousand
    # (Kolmogorov).
    assert float((drawn.sort().values / 10 - torch.linspace(0, 1, 10_000)).abs().max()) < 0.0195
    for name in ("walker2d_dir", "walker2d_dir_promp"):
        assert envs.make(name, 1).prior.sample(3, torch.Generator()).direction.tolist() == [
            1,
            -1,
            1,
        ]
