"""Facts about ant against Gymnasium's Ant-v5, and about its tasks."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from support.gymnasium_runs import Recording, record, replay

import envs
from envs.mujoco.targets import Heading, Place, TargetVelocity
from metarl.noise import Noise

NUM_STEPS = dict.fromkeys(("ant_vel", "ant_dir", "ant_dir_2d", "ant_goal"), 500)
NUM_STEPS |= dict.fromkeys(
    ("ant_dir_promp", "ant_dir_varibad", "ant_goal_maml", "ant_goal_sparse"), 200
)
ANGLES = {
    "ant_dir": [0.0, math.pi],
    "ant_dir_promp": [0.0, math.pi],
    "ant_dir_varibad": [1.0, -1.0],
    "ant_dir_2d": [2.0, 5.5],
}
PLACES = [[0.4, 0.1], [-1.5, 2.0]]  # the first near enough to be reached and left, the second not


@pytest.fixture(scope="module")
def recording() -> Recording:
    options = {"include_cfrc_ext_in_observation": False, "terminate_when_unhealthy": False}
    return record("Ant-v5", "ant_dir", num_worlds=2, num_steps=500, forces_lag=0, **options)


def tasks(name: str) -> Any:
    if name == "ant_vel":
        return TargetVelocity(target_velocity=torch.tensor([0.3, 2.0]))
    if name in ANGLES:
        return Heading(heading=torch.tensor(ANGLES[name]))
    return Place(place=torch.tensor(PLACES))


def expected_reward(name: str, recording: Recording) -> np.ndarray:
    """[T, W] from what Ant-v5 tells about its steps."""
    info = recording.info
    place = np.stack([info["x_position"], info["y_position"]], axis=-1)
    velocity = np.diff(np.concatenate([recording.start[None, :, :2], place]), axis=0) / 0.05
    squared_action, alive = -info["reward_ctrl"] / 0.5, info["reward_survive"]
    contact_cost = 0.0005 * np.square(info["forces"].clip(-1, 1)).sum(-1)
    assert np.corrcoef(contact_cost.flatten(), -info["reward_contact"].flatten())[0, 1] > 0.8
    # Ant-v5 takes the torso's place somewhere within the last of five physics steps: alike, not
    # equal.
    assert np.abs(velocity[..., 0] - info["x_velocity"]).max() < 0.2
    if name == "ant_vel":
        return (
            1
            - np.abs(velocity[..., 0] - np.array([0.3, 2.0]))
            + 0.05 * alive
            - 0.005 * squared_action
            - contact_cost
        )
    if name == "ant_dir_promp":
        alive = 1
    if name in ANGLES:
        direction = np.array([[math.cos(angle), math.sin(angle)] for angle in ANGLES[name]])
        return (velocity * direction).sum(-1) + alive - 0.5 * squared_action - contact_cost
    away = place - np.array(PLACES)
    if name == "ant_goal":
        return -np.abs(away).sum(-1) - 0.1 * squared_action - contact_cost
    if name == "ant_goal_maml":
        return 4 - np.abs(away).sum(-1) + 0.05 * alive - 0.005 * squared_action - contact_cost
    distance = np.hypot(away[..., 0], away[..., 1])
    return np.where(distance <= 0.75, 1 - distance, -0.75) - 0.01 * squared_action


@pytest.mark.parametrize(("name", "num_steps"), NUM_STEPS.items())
def test_physics_and_reward_are_those_of_ant_v5(
    name: str, num_steps: int, recording: Recording
) -> None:
    recording = recording.first(num_steps)
    ours = replay(name, recording, tasks(name))
    assert np.array_equal(ours.qpos, recording.qpos)
    assert np.array_equal(ours.qvel, recording.qvel)
    shows_place = name.startswith("ant_goal")
    obs = (
        np.concatenate([recording.qpos, recording.qvel], axis=-1) if shows_place else recording.obs
    )
    if name == "ant_dir_promp":
        obs = np.concatenate([obs, recording.info["forces"].clip(-1, 1)], axis=-1)
    assert np.array_equal(ours.obs, obs.astype(np.float32))
    # The tolerance is float32's: rewards are some ten, their rounding 1e-6, and a heading's 1e-7
    # counts once per m/s.
    assert ours.reward == pytest.approx(expected_reward(name, recording), abs=5e-6)
    unhealthy = recording.info["reward_survive"] == 0
    if name == "ant_dir_promp":
        unhealthy = recording.qpos[..., 2] > 1
    assert 0 < unhealthy.mean() < 1
    assert np.array_equal(
        ours.terminated, unhealthy & (name not in ("ant_goal", "ant_goal_sparse"))
    )
    if name == "ant_goal_sparse":
        assert 0 < ours.terms["success"][:, 0].mean() < 1
        assert not ours.terms["success"][:, 1].any()


def test_starts_have_the_noise_of_ant_v5() -> None:
    env = envs.make("ant_goal", 1)
    rest = [0, 0, 0.75, 1, *11 * [0]]  # m; the torso upright, the joints at 0
    qpos, qvel = env.mdp.initial_state(
        torch.rand(20_000, 29, dtype=torch.float64, generator=torch.Generator())
    )
    noise = qpos - torch.tensor(rest)
    assert float(noise.abs().max()) == pytest.approx(0.1, rel=1e-3)
    # A uniform number in ±0.1 has standard deviation 0.1 / √3; of some 300,000 draws the estimate's
    # own error is 0.13 %.
    assert float(noise.std()) == pytest.approx(0.1 / 3**0.5, rel=0.01)
    assert float(qvel.std()) == pytest.approx(0.1, rel=0.01)
    assert float(qvel.abs().max()) > 0.3  # normal, not uniform


def assert_uniform(share: torch.Tensor) -> None:
    """The distance between distribution functions exceeds 1.95/√n once in a thousand
    (Kolmogorov)."""
    gap = (share.sort().values - torch.linspace(0, 1, len(share))).abs().max()
    assert float(gap) < 1.95 / len(share) ** 0.5


def test_places_are_uniform_on_the_disc_or_the_square() -> None:
    generator = torch.Generator().manual_seed(0)
    for name in ("ant_goal", "ant_goal_sparse"):
        place = envs.make(name, 1, num_train_tasks=None).prior.sample(10_000, generator).place
        assert_uniform(
            place.square().sum(-1) / 9
        )  # The area within r of the middle is the share (r / 3 m)².
        assert_uniform(torch.atan2(place[:, 1], place[:, 0]) / (2 * math.pi) + 0.5)
    place = envs.make("ant_goal_maml", 1).prior.sample(10_000, generator).place
    assert_uniform(place[:, 0] / 6 + 0.5)
    assert_uniform(place[:, 1] / 6 + 0.5)


def test_place_in_the_square_about_the_disc_is_refused_with_its_distance() -> None:
    """3, 4 and 5 are the sides of a right triangle."""
    disc, square = envs.make("ant_goal", 1).prior, envs.make("ant_goal_maml", 1).prior
    corner, edge = (
        Place(place=torch.tensor([[2.4, -3.2]]) * 0.9),
        Place(place=torch.tensor([[-1.8, 2.4]])),
    )
    with pytest.raises(
        ValueError, match=r"place is \(2.16, -2.88\), 3.6 m away; expected at most 3 m"
    ):
        disc.check(corner, 1)
    disc.check(edge, 1)
    square.check(corner, 1)


def test_headings_are_uniform_or_the_two_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    assert_uniform(
        envs.make("ant_dir_2d", 1, num_train_tasks=None).prior.sample(10_000, generator).heading
        / (2 * math.pi)
    )
    two = envs.make("ant_dir", 1).prior
    assert two.split == "none"
    assert two.sample(3, generator).heading.tolist() == pytest.approx([0.0, math.pi, 0.0])
    assert two.describe(two.test_tasks()) == ["heading 0°", "heading 180°"]
    assert envs.make("ant_dir_varibad", 1).prior.test_tasks().heading.tolist() == [
        -1.0,
        1.0,
    ]  # rad, as published


@pytest.mark.parametrize(
    ("name", "sizes"), [("ant_vel", (100, 30)), ("ant_dir_2d", (100, 30)), ("ant_goal", (150, 30))]
)
def test_splits_have_the_sizes_of_the_definition(name: str, sizes: tuple[int, int]) -> None:
    distribution = envs.make(name, 1).prior
    assert (distribution.num_train, distribution.num_test) == sizes


def test_places_have_a_text_with_signs_and_unit() -> None:
    distribution = envs.make("ant_goal", 1).prior
    assert distribution.describe(Place(place=torch.tensor([[1.234, -0.5]]))) == [
        "to (+1.23, -0.50) m"
    ]


@pytest.mark.gl
@pytest.mark.parametrize(
    ("name", "right_and_left"),
    [
        ("ant_dir_2d", Heading(heading=torch.tensor([0.0, math.pi]))),
        ("humanoid_dir", Heading(heading=torch.tensor([0.0, math.pi]))),
        ("ant_goal", Place(place=torch.tensor([[2.0, 0.0], [-2.0, 0.0]]))),
        ("ant_goal_sparse", Place(place=torch.tensor([[2.0, 0.0], [-2.0, 0.0]]))),
    ],
)
def test_picture_shows_in_orange_where_to_go(name: str, right_and_left: Any) -> None:
    """x is to the right, and the robot, in another colour, in the middle."""
    env = envs.make(name, 2)
    env.set_tasks(right_and_left)
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    for world, (side, other) in enumerate(
        [(slice(80, None), slice(0, 80)), (slice(0, 80), slice(80, None))]
    ):
        red, green, blue = np.moveaxis(env.render(world, width=160, height=120).astype(int), -1, 0)
        orange = (red > 150) & (blue < red / 4) & (green > red / 2)
        assert orange[:, side].sum() > 10
        assert orange[:, other].sum() < orange[:, side].sum() / 4
    env.close()


@pytest.mark.gl
@pytest.mark.parametrize("goal", [(3.0, 0.0), (-3.0, -3.0), (0.0, 3.0)])
def test_the_place_to_go_to_stays_in_the_picture_wherever_the_robot_is(
    goal: tuple[float, float],
) -> None:
    env = envs.make("ant_goal_maml", 1)
    env.set_tasks(Place(place=torch.tensor([goal])))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    for place in ((0.0, 0.0), (6.0, 0.0), (-6.0, 0.0), (0.0, 7.0), (0.0, -7.0)):
        env.sim.qpos[0, :2] = torch.tensor(place)
        red, green, blue = np.moveaxis(env.render(0, width=320, height=240).astype(int), -1, 0)
        assert ((red > 150) & (blue < red / 4) & (green > red / 2)).sum() > 5  # the disc
        assert ((red > green + 40) & (blue > red / 4)).sum() > 20  # the robot
    env.close()
