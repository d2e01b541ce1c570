"""Facts about half_cheetah against Gymnasium's HalfCheetah-v5 and MuJoCo's own centre of mass."""

from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

import envs
from envs.mujoco.half_cheetah import DeadMotor
from envs.mujoco.models import GymnasiumModel
from envs.mujoco.planar import PlanarMassCentre
from envs.mujoco.targets import Direction, TargetVelocity
from metarl.noise import Noise
from metarl.report.recorded import read_recorded

NUM_WORLDS = 3


def gymnasium_cheetahs(env: Any, **options: Any) -> list[Any]:
    """Gymnasium's environment for each world, in that world's state."""
    cheetahs = [
        gymnasium.make("HalfCheetah-v5", max_episode_steps=1000, **options)
        for _ in range(NUM_WORLDS)
    ]
    for cheetah, qpos, qvel in zip(
        cheetahs, env.sim.qpos.numpy(), env.sim.qvel.numpy(), strict=True
    ):
        cheetah.reset(seed=0)
        mujoco.mj_resetData(cheetah.unwrapped.model, cheetah.unwrapped.data)
        cheetah.unwrapped.set_state(qpos, qvel)
    return cheetahs


def random_actions(num_steps: int) -> Tensor:
    """[T, W, 6], about a third of them out of range."""
    return torch.randn(num_steps, NUM_WORLDS, 6, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "name",
    [
        "half_cheetah_vel",
        "half_cheetah_dir",
        "half_cheetah_cripple",
        "half_cheetah_vel_promp",
        "half_cheetah_vel_pmr",
        "half_cheetah_vel_maml",
        "half_cheetah_dir_maml",
    ],
)
def test_physics_and_reward_are_those_of_half_cheetah_v5_for_500_steps(name: str) -> None:
    env = envs.make(name, NUM_WORLDS)
    crippled = name == "half_cheetah_cripple"
    goal = (
        DeadMotor(joint=torch.tensor([0, 3, 5])) if crippled else env.prior.test_tasks(NUM_WORLDS)
    )
    env.set_tasks(goal)
    env.reset(Noise(torch.Generator().manual_seed(4)).starts(env))
    frame_skip = 1 if name.endswith("_maml") else 5
    cheetahs = gymnasium_cheetahs(env, frame_skip=frame_skip)
    scale = float(env.action_space.high[0])
    for action in scale * random_actions(500):
        control = (action / scale).clamp(-1, 1)
        if crippled:
            control[[0, 1, 2], [0, 3, 5]] = 0.0
        step = env.step(action)
        for w, cheetah in enumerate(cheetahs):
            obs, _, _, _, info = cheetah.step(control[w].numpy())
            data = cheetah.unwrapped.data
            assert np.array_equal(env.sim.qpos[w].numpy(), data.qpos)
            assert np.array_equal(env.sim.qvel[w].numpy(), data.qvel)
            assert np.array_equal(step.next_obs[w, :17].numpy(), obs.astype(np.float32))
            velocity = info["x_velocity"]
            if name.endswith("_maml"):
                mujoco.mj_forward(cheetah.unwrapped.model, data)
                mujoco.mj_subtreeVel(cheetah.unwrapped.model, data)
                velocity = data.subtree_linvel[1, 0]
            cost = 0.05 * float(control[w].double().square().sum())
            if name.startswith("half_cheetah_vel"):
                reward = -abs(velocity - float(goal.target_velocity[w])) - cost
            elif crippled:
                reward = velocity - cost
            else:
                reward = float(goal.direction[w]) * velocity - cost
            # The tolerance is float32's: rewards are some ten, their rounding 1e-6.
            assert float(step.reward[w]) == pytest.approx(reward, abs=3e-6)
            assert float(step.terms["velocity"][w]) == pytest.approx(velocity, abs=3e-6)
            assert float(step.terms["control_cost"][w]) == pytest.approx(cost, abs=1e-6)
        assert not step.terminated.any()


def test_mass_centre_is_that_of_mujoco() -> None:
    model = GymnasiumModel(file="half_cheetah.xml").load()
    data = mujoco.MjData(model)
    mass_centre = PlanarMassCentre(model)
    generator = np.random.default_rng(0)
    for _ in range(20):
        data.qpos[:], data.qvel[:] = generator.normal(size=9), generator.normal(size=9)
        mujoco.mj_forward(model, data)
        mujoco.mj_subtreeVel(model, data)
        qpos, qvel = torch.tensor(data.qpos)[None], torch.tensor(data.qvel)[None]
        place, velocity = mass_centre(qpos, qvel)
        # Sums of some ten float64 terms of size one.
        assert place[0].numpy() == pytest.approx(data.subtree_com[1], abs=1e-13)
        assert velocity[0].numpy() == pytest.approx(data.subtree_linvel[1], abs=1e-13)


def test_mass_centre_follows_its_simulator_in_precision() -> None:
    model = GymnasiumModel(file="half_cheetah.xml").load()
    exact, single = PlanarMassCentre(model), PlanarMassCentre(model)
    single.to(torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    qpos, qvel = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    for found, expected in zip(single(qpos.float(), qvel.float()), exact(qpos, qvel), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)  # sums of ten terms


def test_maml_variant_observes_the_mass_centre() -> None:
    env = envs.make("half_cheetah_vel_maml", NUM_WORLDS)
    env.set_tasks(env.prior.test_tasks(NUM_WORLDS))
    env.reset(Noise(torch.Generator().manual_seed(4)).starts(env))
    for action in random_actions(20):
        obs = env.step(action).next_obs
    _, data = env.sim.host_data(1)
    assert obs[1, 17:].numpy() == pytest.approx(data.subtree_com[1], abs=1e-6)  # float32


@pytest.mark.parametrize(
    ("name", "qpos_std", "qvel_std", "qpos_max"),
    # A uniform number in ±0.1 has standard deviation 0.1 / √3.
    [("half_cheetah_vel", 0.1 / 3**0.5, 0.1, 0.1), ("half_cheetah_vel_maml", 0.01, 0.1, 0.06)],
)
def test_start_noise_has_its_distribution(
    name: str, qpos_std: float, qvel_std: float, qpos_max: float
) -> None:
    env = envs.make(name, 4000)
    env.set_tasks(env.prior.test_tasks(4000))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    # 36,000 draws: the standard deviation's own error is 1/√72,000 = 0.4 %; five times that.
    assert float(env.sim.qpos.std()) == pytest.approx(qpos_std, rel=0.02)
    assert float(env.sim.qvel.std()) == pytest.approx(qvel_std, rel=0.02)
    assert float(env.sim.qpos.abs().max()) <= qpos_max
    assert abs(float(env.sim.qpos.mean())) < 0.02 * qpos_std * 5
    assert (
        float(torch.corrcoef(env.sim.qvel.T).fill_diagonal_(0).abs().max()) < 0.08
    )  # five times 1/√4000


@pytest.mark.parametrize(
    ("name", "highest"),
    [
        ("half_cheetah_vel", 3.0),
        ("half_cheetah_vel_maml", 2.0),
        ("half_cheetah_vel_promp", 3.0),
        ("half_cheetah_vel_pmr", 2.0),
        ("half_cheetah_vel_varibad", 3.0),
        ("half_cheetah_vel_wide", 7.0),
    ],
)
def test_target_velocities_are_uniform_up_to_the_highest(name: str, highest: float) -> None:
    tasks = envs.make(name, 1, num_train_tasks=None).prior
    velocity = tasks.sample(10_000, torch.Generator().manual_seed(0)).target_velocity / highest
    # The distance between the distribution functions exceeds 1.95/√n once in a thousand
    # (Kolmogorov).
    gap = (velocity.sort().values - torch.linspace(0, 1, 10_000)).abs().max()
    assert float(gap) < 0.0195


def test_default_has_100_training_tasks_and_infinite_mode_has_any_number() -> None:
    fixed = envs.make("half_cheetah_vel", 1).prior
    assert fixed.split == "fixed"
    velocity = fixed.sample(100, torch.Generator().manual_seed(0)).target_velocity
    assert len(velocity.unique()) == 100  # Each task once before any comes twice.
    again = fixed.sample(250, torch.Generator().manual_seed(1)).target_velocity
    assert set(again.tolist()) == set(velocity.tolist())
    infinite = envs.make("half_cheetah_vel", 1, num_train_tasks=None).prior
    assert infinite.split == "infinite"
    assert (
        len(infinite.sample(1000, torch.Generator().manual_seed(0)).target_velocity.unique()) > 990
    )


def test_training_never_meets_a_held_out_velocity_however_long_it_draws() -> None:
    """Without the split by cells, 300,000 draws would meet one of 1000 test velocities some twenty
    times in float32."""
    tasks = envs.make("half_cheetah_vel_promp", 1).prior
    drawn = tasks.sample(300_000, torch.Generator().manual_seed(0)).target_velocity
    held_out = tasks.test_tasks(1000).target_velocity
    assert not torch.isin(drawn, held_out).any()


def test_directions_come_in_turn_and_train_and_test_share_them() -> None:
    tasks = envs.make("half_cheetah_dir", 1).prior
    assert tasks.split == "none"
    assert tasks.sample(5, torch.Generator()).direction.tolist() == [1, -1, 1, -1, 1]
    assert tasks.describe(tasks.test_tasks()) == ["forward", "backward"]


def test_task_texts_have_units() -> None:
    tasks = envs.make("half_cheetah_vel", 1).prior
    assert tasks.describe(TargetVelocity(target_velocity=torch.tensor([1.534, 0.0]))) == [
        "target 1.53 m/s",
        "target 0.00 m/s",
    ]
    assert isinstance(envs.make("half_cheetah_dir", 1).prior.test_tasks(), Direction)


def test_sparse_variant_pays_for_speed_only_5_m_away() -> None:
    env = envs.make("half_cheetah_dir_sparse", 4)
    env.set_tasks(Direction(direction=torch.tensor([1.0, 1.0, -1.0, -1.0])))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    env.sim.qpos[:, 0] = torch.tensor([4.5, 5.5, -5.5, -4.5], dtype=torch.float64)
    env.step(torch.zeros(4, 6))  # in which the worlds jump there
    env.sim.qvel[:, 0] = 2.0
    step = env.step(torch.full((4, 6), 0.5))
    # The cost is 0.05 · 6 · 0.5² = 0.075; forward speed, some 2 m/s, is what the third is asked not
    # to have.
    assert step.terms["velocity"].min() > 1
    paid = [0.0, float(step.terms["velocity"][1]), -float(step.terms["velocity"][2]), 0.0]
    assert step.reward.tolist() == pytest.approx(
        [value - 0.075 for value in paid], abs=1e-6
    )  # float32


@pytest.mark.parametrize(
    "name",
    [
        "half_cheetah_vel_pmr",
        "half_cheetah_vel_pearl",
        "half_cheetah_vel_varibad",
        "half_cheetah_vel_wide",
        "half_cheetah_dir_sparse",
    ],
)
def test_these_variants_observe_the_torsos_origin(name: str) -> None:
    env = envs.make(name, NUM_WORLDS)
    env.set_tasks(env.prior.test_tasks(NUM_WORLDS))
    env.reset(Noise(torch.Generator().manual_seed(4)).starts(env))
    for action in random_actions(20):
        obs = env.step(action).next_obs
    _, data = env.sim.host_data(1)
    assert obs[1, 17:].numpy() == pytest.approx(data.body("torso").xpos, abs=1e-6)  # float32


def test_pearl_variant_has_the_published_velocities() -> None:
    tasks = envs.make("half_cheetah_vel_pearl", 1).prior
    published = np.random.RandomState(1337).uniform(0.0, 3.0, size=130).astype(np.float32)
    assert published[:2] == pytest.approx([0.78607, 0.47605], abs=1e-4)
    assert tasks.train_tasks().target_velocity.tolist() == published[:100].tolist()
    assert tasks.test_tasks().target_velocity.tolist() == published[100:].tolist()
    drawn = tasks.sample(100, torch.Generator().manual_seed(0)).target_velocity
    assert sorted(drawn.tolist()) == sorted(published[:100].tolist())


def test_the_published_test_of_the_maml_variant_is_that_of_the_recorded_results() -> None:
    """Sorted, as the recorded table of returns is, and rounded to its digits."""
    tasks = envs.make("half_cheetah_vel_maml", 1, test_velocities="published").prior
    file = Path(__file__).parents[3] / "results/reference/half_cheetah_vel_maml_maml_trpo.csv"
    targets = read_recorded(file).targets
    assert targets is not None
    found = tasks.test_tasks()
    assert found.target_velocity.sort().values.tolist() == pytest.approx(targets.tolist(), abs=6e-5)
    assert bool(tasks.is_held_out(found).all())
    training = tasks.sample(2000, torch.Generator().manual_seed(0))
    assert not tasks.is_held_out(training).any()
    assert tasks.test_tasks(3).target_velocity.tolist() == found.target_velocity[:3].tolist()


def test_the_published_test_is_another_problem_and_own_is_what_was() -> None:
    hashes = {
        test: envs.make("half_cheetah_vel_maml", 1, test_velocities=test).spec.spec_hash
        for test in ("own", "published")
    }
    assert hashes["own"] == envs.make("half_cheetah_vel_maml", 1).spec.spec_hash
    assert hashes["published"] != hashes["own"]
    with pytest.raises(ValueError, match="test_velocities is 'mine'; expected own or published"):
        envs.make("half_cheetah_vel_maml", 1, test_velocities="mine")


def test_dead_motors_of_training_and_test_differ() -> None:
    tasks = envs.make("half_cheetah_cripple", 1).prior
    assert sorted(tasks.sample(10, torch.Generator()).joint.tolist()) == [
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
        5,
        5,
    ]
    assert tasks.test_tasks(3).joint.tolist() == [0, 0, 0]
    assert tasks.describe(tasks.test_tasks()) == ["dead motor of the back thigh"]


def test_motor_that_fails_on_the_way_works_until_then_in_each_episode() -> None:
    env = envs.make("half_cheetah_cripple", NUM_WORLDS, fails_at_step=4)
    env.set_tasks(DeadMotor(joint=torch.tensor([0, 3, 5])))
    env.reset(Noise(torch.Generator().manual_seed(4)).starts(env))
    actions = random_actions(8).clamp(-1, 1)
    for action in actions[:2]:
        env.step(action)
    env.reset(
        Noise(torch.Generator().manual_seed(5)).starts(env), torch.tensor([False, True, False])
    )
    for t, action in enumerate(actions[2:]):
        control = action.clone()
        if t >= 2:
            control[0, 0] = control[2, 5] = 0.0
        if t >= 4:
            control[1, 3] = 0.0
        # Both start anew from the present state, for Gymnasium's environment can't take over the
        # solver's warm start.
        cheetahs = gymnasium_cheetahs(env)
        env.sim.reset(
            torch.ones(NUM_WORLDS, dtype=torch.bool), env.sim.qpos.clone(), env.sim.qvel.clone()
        )
        env.step(action)
        for w, cheetah in enumerate(cheetahs):
            cheetah.step(control[w].numpy())
            assert np.array_equal(env.sim.qpos[w].numpy(), cheetah.unwrapped.data.qpos)
    assert env.prior.describe(env.prior.test_tasks()) == [
        "dead motor of the back thigh from step 4"
    ]


def test_the_problem_tells_at_which_step_the_motor_fails() -> None:
    assert envs.make("half_cheetah_cripple", 1, fails_at_step=4).spec.changes == {"fails": 4}
    assert envs.make("half_cheetah_cripple", 1).spec.changes == {}


@pytest.mark.parametrize("value", [0, 1000, -1, True])
def test_motor_can_only_fail_within_the_episode(value: Any) -> None:
    with pytest.raises(
        ValueError, match=f"fails_at_step is {value}; expected a control step 1, ..., 999"
    ):
        envs.make("half_cheetah_cripple", 1, fails_at_step=value)
