"""Facts about the CPU simulator, against MuJoCo itself stepping one world at a time."""

import pickle

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from envs.mujoco.models import GymnasiumModel
from envs.sim.cpu import CpuSimulator

NUM_WORLDS = 5


@pytest.fixture
def model() -> mujoco.MjModel:
    return GymnasiumModel(file="half_cheetah.xml").load()


def start(sim: CpuSimulator) -> tuple[Tensor, Tensor]:
    """Generic states, the same for every simulator; set in all worlds."""
    generator = torch.Generator().manual_seed(1)
    qpos = 0.1 * torch.randn(64, 9, dtype=torch.float64, generator=generator)[: sim.num_worlds]
    qvel = 0.3 * torch.randn(64, 9, dtype=torch.float64, generator=generator)[: sim.num_worlds]
    sim.reset(torch.ones(sim.num_worlds, dtype=torch.bool), qpos, qvel)
    return qpos, qvel


def controls(num_steps: int, num_worlds: int = NUM_WORLDS) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return (
        2 * torch.rand(num_steps, 64, 6, dtype=torch.float64, generator=generator)[:, :num_worlds]
        - 1
    )


def run(sim: CpuSimulator, ctrl: Tensor) -> Tensor:
    """[T, W, nq + nv]"""
    states = []
    for u in ctrl:
        sim.ctrl.copy_(u)
        sim.step(5)
        states.append(torch.cat([sim.qpos, sim.qvel], dim=1))
    return torch.stack(states)


def alone(model: mujoco.MjModel, qpos: Tensor, qvel: Tensor, ctrl: Tensor) -> Tensor:
    """[T, nq + nv] of one world, by mj_step."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos.numpy(), qvel.numpy()
    mujoco.mj_forward(model, data)
    states = []
    for u in ctrl:
        data.ctrl[:] = u.numpy()
        mujoco.mj_step(model, data, nstep=5)
        states.append(np.concatenate([data.qpos, data.qvel]))
    return torch.from_numpy(np.stack(states))


@pytest.mark.parametrize("num_threads", [1, 2, None])
def test_every_world_steps_as_if_alone(model: mujoco.MjModel, num_threads: int | None) -> None:
    sim = CpuSimulator(model, NUM_WORLDS, num_threads=num_threads)
    qpos, qvel = start(sim)
    ctrl = controls(60)
    states = run(sim, ctrl)
    for w in range(NUM_WORLDS):
        assert torch.equal(states[:, w], alone(model, qpos[w], qvel[w], ctrl[:, w]))
    assert sim.time.tolist() == pytest.approx(
        [60 * 5 * 0.01] * NUM_WORLDS, abs=1e-9
    )  # sums of 300 rounded numbers


def test_tensors_are_live(model: mujoco.MjModel) -> None:
    sim = CpuSimulator(model, NUM_WORLDS)
    qpos, time = sim.qpos, sim.time
    qpos_before, _ = start(sim)
    assert torch.equal(qpos, qpos_before)
    sim.step(1)
    assert not torch.equal(qpos, qpos_before)
    assert time.tolist() == [0.01] * NUM_WORLDS


def test_reset_world_forgets_its_past(model: mujoco.MjModel) -> None:
    sim, fresh = CpuSimulator(model, NUM_WORLDS), CpuSimulator(model, NUM_WORLDS)
    start(sim)
    run(sim, controls(20))
    start(sim)
    assert torch.equal(sim.time, torch.zeros(NUM_WORLDS, dtype=torch.float64))
    assert torch.equal(sim.ctrl, torch.zeros(NUM_WORLDS, 6, dtype=torch.float64))
    start(fresh)
    assert torch.equal(
        run(sim, controls(20)), run(fresh, controls(20))
    )  # So the solver's warm start went as well.


def test_masked_reset_leaves_other_worlds_as_they_were(model: mujoco.MjModel) -> None:
    sim, untouched = CpuSimulator(model, NUM_WORLDS), CpuSimulator(model, NUM_WORLDS)
    ctrl = controls(40)
    for one in (sim, untouched):
        start(one)
        run(one, ctrl[:20])
    worlds = torch.tensor([True, False, False, True, False])
    sim.reset(worlds, torch.full((NUM_WORLDS, 9), 0.05), torch.zeros(NUM_WORLDS, 9))
    assert torch.equal(run(sim, ctrl[20:])[:, ~worlds], run(untouched, ctrl[20:])[:, ~worlds])


@pytest.mark.parametrize("num_threads", [1, 3])
def test_worlds_that_rest_stay_as_they_are_and_the_others_do_not_notice(
    model: mujoco.MjModel, num_threads: int
) -> None:
    plain, resting = (CpuSimulator(model, NUM_WORLDS, num_threads=num_threads) for _ in range(2))
    for sim in (plain, resting):
        qpos, qvel = start(sim)
        run(sim, controls(3))
    resting.rest(torch.tensor([False, True, False, True, False]))
    resting.rest(torch.tensor([False, False, False, True, True]))
    before = torch.cat([resting.qpos, resting.qvel], dim=1)
    expected, found = run(plain, controls(4)), run(pickle.loads(pickle.dumps(resting)), controls(4))
    assert torch.equal(found[:, [0, 2]], expected[:, [0, 2]])
    assert torch.equal(found[:, [1, 3, 4]], before[[1, 3, 4]].expand(4, 3, -1))
    # All of them may rest; a reset wakes who is reset.
    resting.rest(torch.ones(NUM_WORLDS, dtype=torch.bool))
    resting.reset(torch.tensor([True, False, False, True, False]), qpos, qvel)
    found = run(resting, controls(4))
    for world in (0, 3):
        own = alone(model, qpos[world], qvel[world], controls(4)[:, world])
        assert torch.equal(found[:, world], own)
    assert torch.equal(found[:, [1, 2, 4]], before[[1, 2, 4]].expand(4, 3, -1))
    start(resting)
    assert torch.equal(
        run(resting, controls(2))[:, 1], alone(model, qpos[1], qvel[1], controls(2)[:, 1])
    )


@pytest.mark.parametrize("kind", ["nan", "huge", "control"])
def test_blown_up_world_stays_diverged_until_its_reset(model: mujoco.MjModel, kind: str) -> None:
    sim, healthy = CpuSimulator(model, NUM_WORLDS), CpuSimulator(model, NUM_WORLDS)
    ctrl = controls(3)
    qpos, qvel = start(sim)
    start(healthy)
    if kind == "control":
        ctrl[0, 2, 1] = float("nan")
    else:
        sim.qvel[2, 4] = {"nan": float("nan"), "huge": 1e30}[kind]
    others = [0, 1, 3, 4]
    for u in ctrl:
        states, healthy_states = run(sim, u[None]), run(healthy, u[None].nan_to_num())
        assert sim.diverged.tolist() == [False, False, True, False, False]
        assert torch.equal(states[:, others], healthy_states[:, others])
    sim.reset(torch.tensor([False, False, True, False, False]), qpos, qvel)
    assert not sim.diverged.any()
    sim.step(5)
    assert not sim.diverged.any()


def test_world_that_blows_up_in_the_last_substep_is_already_flagged(model: mujoco.MjModel) -> None:
    sim = CpuSimulator(model, NUM_WORLDS)
    start(sim)
    # MuJoCo takes 1e10 for a blow-up and looks at the start of a substep: 9.99e9 m + 0.01 s · 2e9
    # m/s passes it after. In the air (z = 5 m), where speed along x does nothing else.
    sim.qpos[3, 0], sim.qpos[3, 1], sim.qvel[3, 0] = 9.99e9, 5.0, 2e9
    sim.step(1)
    assert int(sim._num_warnings[3].sum()) == 0
    assert sim.diverged.tolist() == [False, False, False, True, False]


def test_per_world_mass_equals_a_model_with_that_mass(model: mujoco.MjModel) -> None:
    sim = CpuSimulator(model, NUM_WORLDS, per_world=("body_mass", "geom_friction"))
    factor = torch.tensor([1.0, 0.7, 1.3, 2.0, 0.5], dtype=torch.float64)
    for _ in range(2):  # Written twice, from the model's own values: nothing compounds.
        sim.param("body_mass").copy_(factor[:, None] * torch.tensor(model.body_mass))
        sim.param("geom_friction").copy_(factor[:, None, None] * torch.tensor(model.geom_friction))
        sim.params_changed()
    qpos, qvel = start(sim)
    ctrl = controls(30)
    states = run(sim, ctrl)
    for w in range(NUM_WORLDS):
        own = GymnasiumModel(file="half_cheetah.xml").load()
        own.body_mass[:] = float(factor[w]) * model.body_mass
        own.geom_friction[:] = float(factor[w]) * model.geom_friction
        mujoco.mj_setConst(own, mujoco.MjData(own))
        assert torch.equal(states[:, w], alone(own, qpos[w], qvel[w], ctrl[:, w]))


def test_a_copy_has_what_was_derived_from_its_own_masses_and_which_worlds_blew_up(
    model: mujoco.MjModel,
) -> None:
    sim = CpuSimulator(model, 3, per_world=["body_mass"], fields=["subtree_com"], num_threads=1)
    start(sim)
    sim.param("body_mass")[1] *= 2.0
    sim.params_changed()
    sim.qvel[2] = float("nan")
    sim.step(1)
    other = pickle.loads(pickle.dumps(sim))
    assert other.diverged.tolist() == [False, False, True] and not other.none_diverged
    for _ in range(3):
        for each in (sim, other):
            each.step(2)
        assert torch.equal(sim.qpos, other.qpos) and torch.equal(
            sim.field("subtree_com"), other.field("subtree_com")
        )
    assert other.diverged.tolist() == [False, False, True]
    sim.qpos[0] = 0.0
    assert not torch.equal(sim.qpos, other.qpos)


def test_derived_field_is_live_and_silent(
    model: mujoco.MjModel, recwarn: pytest.WarningsRecorder
) -> None:
    sim = CpuSimulator(model, NUM_WORLDS, fields=("subtree_com",))
    com = sim.field("subtree_com")
    start(sim)
    data = mujoco.MjData(model)
    data.qpos[:] = sim.qpos[2].numpy()
    mujoco.mj_forward(model, data)
    assert com.shape == (NUM_WORLDS, model.nbody, 3)
    assert torch.equal(com[2], torch.from_numpy(data.subtree_com))
    assert not recwarn.list


def test_nothing_is_written_for_the_user_to_clean_up(
    capfd: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sim = CpuSimulator(
        GymnasiumModel(file="half_cheetah.xml").load(), 2
    )  # This model has a deprecated attribute.
    sim.qvel[1] = float("nan")
    sim.step(3)
    assert bool(sim.diverged[1])
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_refused_with_their_values(model: mujoco.MjModel) -> None:
    with pytest.raises(ValueError, match="num_worlds is 0; expected at least 1"):
        CpuSimulator(model, 0)
    with pytest.raises(ValueError, match="num_threads is 0; expected at least 1"):
        CpuSimulator(model, 1, num_threads=0)
    sim = CpuSimulator(model, NUM_WORLDS, per_world=("body_mass",))
    with pytest.raises(
        ValueError, match=r"'dof_damping' isn't per world; per_world named \['body_mass'\]"
    ):
        sim.param("dof_damping")
    with pytest.raises(ValueError, match="data field 'xpos' isn't kept; fields named none"):
        sim.field("xpos")
    everywhere, qpos, qvel = (
        torch.ones(NUM_WORLDS, dtype=torch.bool),
        sim.qpos.clone(),
        sim.qvel.clone(),
    )
    with pytest.raises(ValueError, match=r"worlds is torch.bool \(3,\); expected bool \(5,\)"):
        sim.reset(everywhere[:3], qpos, qvel)
    with pytest.raises(ValueError, match=r"qpos has shape \(5, 8\); expected \(5, 9\)"):
        sim.reset(everywhere, qpos[:, 1:], qvel)
