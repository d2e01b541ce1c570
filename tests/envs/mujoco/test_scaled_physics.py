"""Facts about physics that differs from world to world, against Gymnasium's environments with the
same fields of their models."""

from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from support.gymnasium_runs import record, replay

import envs
from envs.mujoco.models import GymnasiumModel
from envs.mujoco.scaled_physics import PhysicsFactors
from metarl.noise import Noise

WALKER, HOPPER = ("walker2d_v5.xml", "Walker2d-v5"), ("hopper.xml", "Hopper-v5")
MODELS = {
    "walker2d_rand_params": WALKER,
    "walker2d_rand_params_pearl": ("walker2d.xml", "Walker2d-v5"),
    "hopper_rand_params": HOPPER,
    "hopper_rand_params_pearl": HOPPER,
}
every_name = pytest.mark.parametrize("name", MODELS)


def scale(model: mujoco.MjModel, own: mujoco.MjModel, tasks: PhysicsFactors, world: int) -> None:
    """Writes `own` times the world's factors into `model`."""
    mass, inertia, damping, friction = (
        getattr(tasks, field)[world].double().numpy()
        for field in ("mass", "inertia", "damping", "friction")
    )
    for body in range(1, own.nbody):
        model.body_mass[body] = own.body_mass[body] * mass[body - 1]
        model.body_inertia[body] = own.body_inertia[body] * inertia[body - 1]
    for joint in range(own.nv - 3):  # after the root's three, which have no damping
        model.dof_damping[3 + joint] = own.dof_damping[3 + joint] * damping[joint]
    for geom in range(own.ngeom):
        model.geom_friction[geom] = own.geom_friction[geom] * friction[geom]


@every_name
def test_worlds_step_as_gymnasium_does_with_its_model_changed_alike(name: str) -> None:
    file, gymnasium_id = MODELS[name]
    own, as_published = GymnasiumModel(file=file).load(), name.endswith("_pearl")
    tasks = envs.make(name, 1).prior.test_tasks(2)

    def change(model: mujoco.MjModel, world: int) -> None:
        scale(model, own, tasks, world)
        model.opt.timestep = 0.004 if as_published else 0.002

    options: dict[str, Any] = {"xml_file": file, "terminate_when_unhealthy": False}
    if name == "walker2d_rand_params_pearl":
        options["frame_skip"] = 5  # as published; all others have Gymnasium's 4
    theirs = record(gymnasium_id, name, num_worlds=2, num_steps=120, change_model=change, **options)
    ours = replay(name, theirs, tasks)
    assert np.array_equal(ours.qpos, theirs.qpos)
    assert np.array_equal(ours.qvel, theirs.qvel)
    assert np.array_equal(ours.obs, theirs.obs.astype(np.float32))
    alive, fallen = theirs.info["reward_survive"], theirs.info["reward_survive"] == 0
    reward = theirs.info["x_velocity"] + (1 if as_published else alive) + theirs.info["reward_ctrl"]
    assert ours.reward == pytest.approx(reward, abs=3e-6)  # float32
    assert fallen.any()
    assert np.array_equal(ours.terminated, fallen)


def started(name: str, tasks: PhysicsFactors) -> Any:
    env = envs.make(name, len(tasks.mass))
    env.set_tasks(tasks)
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    return env


def run(env: Any, num_steps: int) -> torch.Tensor:
    """[T, W, nq + nv] under random actions, the same at each call."""
    generator = torch.Generator().manual_seed(1)
    states = []
    for _ in range(num_steps):
        env.step(2 * torch.rand(env.num_worlds, *env.action_space.shape, generator=generator) - 1)
        states.append(torch.cat([env.sim.qpos, env.sim.qvel], dim=1))
    return torch.stack(states)


def fields_of(model: mujoco.MjModel) -> list[np.ndarray]:
    """What the tasks change, and what MuJoCo derives from it."""
    names = ("body_mass", "body_inertia", "dof_damping", "geom_friction")
    derived = ("body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0")
    return [getattr(model, field).copy() for field in names + derived]


@every_name
def test_fields_never_compound_and_change_only_where_a_world_is_reset(name: str) -> None:
    distribution = envs.make(name, 1).prior
    tasks, others = (
        distribution.test_tasks(3),
        distribution.sample(3, torch.Generator().manual_seed(0)),
    )
    env = started(name, tasks)
    undisturbed = started(name, tasks)
    assert torch.equal(run(env, 3), run(undisturbed, 3))

    worlds = torch.tensor([False, True, False])
    env.set_tasks(others)
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env), worlds)
    for world, given in enumerate((tasks, others, tasks)):
        own = GymnasiumModel(file=MODELS[name][0]).load()
        scale(own, GymnasiumModel(file=MODELS[name][0]).load(), given, world)
        mujoco.mj_setConst(own, mujoco.MjData(own))
        for found, expected in zip(
            fields_of(env.sim.host_data(world)[0]), fields_of(own), strict=True
        ):
            assert np.array_equal(found, expected)
    assert torch.equal(run(env, 20)[:, ~worlds], run(undisturbed, 20)[:, ~worlds])

    for given in (tasks, others, tasks, tasks):
        env.set_tasks(given)
        env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    assert torch.equal(run(env, 20), run(started(name, tasks), 20))


@every_name
def test_factors_are_log_uniform_and_independent(name: str) -> None:
    tasks = envs.make(name, 1, num_train_tasks=None).prior.sample(
        10_000, torch.Generator().manual_seed(0)
    )
    exponents = torch.cat(
        [
            getattr(tasks, field).flatten(1).double().log() / np.log(base)
            for field, base in {
                "mass": 1.5,
                "inertia": 1.5,
                "damping": 1.3,
                "friction": 1.5,
            }.items()
        ],
        dim=1,
    )
    gap = (
        (exponents.sort(dim=0).values / 6 + 0.5 - torch.linspace(0, 1, 10_000)[:, None])
        .abs()
        .amax(0)
    )
    # The distance between the distribution functions exceeds 2.4/√n once in a hundred thousand
    # (Kolmogorov).
    assert float(gap.max()) < 0.024
    assert 2.999 < float(exponents.abs().max()) < 3.00001  # float32
    # Five times 1/√10,000.
    assert float(torch.corrcoef(exponents.T).fill_diagonal_(0).abs().max()) < 0.05


@pytest.mark.parametrize(
    ("name", "bodies", "geoms"), [("walker2d_rand_params", 7, 8), ("hopper_rand_params", 4, 5)]
)
def test_tasks_have_a_factor_for_each_part_and_pearls_for_each_axis(
    name: str, bodies: int, geoms: int
) -> None:
    shapes = {
        "mass": (bodies,),
        "inertia": (bodies,),
        "damping": (bodies - 1,),
        "friction": (geoms, 3),
    }
    for variant, inertia in (("", (bodies,)), ("_pearl", (bodies, 3))):
        distribution = envs.make(name + variant, 1).prior
        found = {
            field: tuple(value.shape[1:])
            for field, value in vars(distribution.test_tasks(1)).items()
        }
        assert found == {**shapes, "inertia": inertia}
        assert (distribution.num_train, distribution.num_test) == (40, 10)


@every_name
def test_bodies_could_exist_but_those_of_pearl(name: str) -> None:
    """No principal inertia of a body exceeds the sum of the other two."""
    inertia = started(name, envs.make(name, 1).prior.test_tasks(10)).sim.param("body_inertia")[
        :, 1:
    ]
    exists = (2 * inertia.amax(-1) <= inertia.sum(-1) * (1 + 1e-12)).all()
    assert bool(exists) == (not name.endswith("_pearl"))


def test_tasks_with_another_number_of_factors_are_refused() -> None:
    tasks = envs.make("walker2d_rand_params_pearl", 1).prior.test_tasks(2)
    with pytest.raises(ValueError, match=r"inertia is .* \(2, 7, 3\); expected .* \(2, 7\)"):
        envs.make("walker2d_rand_params", 2).set_tasks(tasks)


def test_task_text_has_geometric_means() -> None:
    distribution = envs.make("hopper_rand_params", 1).prior
    tasks = PhysicsFactors(
        mass=torch.tensor([[0.5, 0.5, 2.0, 2.0]]),  # 1
        inertia=torch.full((1, 4), 1.5),
        damping=torch.tensor([[1.0, 1.0, 1.728]]),  # 1.2³
        friction=torch.full((1, 5, 3), 0.8),
    )
    assert distribution.describe(tasks) == ["mass ×1.00, damping ×1.20, friction ×0.80"]
