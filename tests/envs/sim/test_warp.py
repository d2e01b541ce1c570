"""Facts about MuJoCo Warp on Warp's CPU device: beside MuJoCo's C engine, world by world, and of
what it says where it can't run. The first time its kernels are compiled, which takes minutes."""

import logging
import pickle
import sys
import weakref
from functools import cache
from types import SimpleNamespace
from typing import Any

import mujoco
import pytest
import torch
from torch import Tensor

import envs
from envs.mujoco.models import GymnasiumModel
from envs.sim import warp, warp_device
from envs.sim.backends import simulator
from envs.sim.warp import WarpSimulator
from metarl.cli.benchmarks.parity import EXCEPTIONS, TOLERANCE, parity
from metarl.errors import SettingError
from metarl.noise import Noise

WARP = envs.Machine(backend="warp", device="cpu")
NUM_WORLDS = 5
HOPPER_FIELDS = ("body_mass", "body_inertia", "dof_damping", "geom_friction")


@cache
def robot(name: str = "half_cheetah") -> mujoco.MjModel:
    return GymnasiumModel(file=f"{name}.xml").load()


def started(name: str = "half_cheetah", **settings: Any) -> WarpSimulator:
    """A simulator of a robot in generic states near the ground."""
    sim = WarpSimulator(robot(name), NUM_WORLDS, device="cpu", **settings)
    sim.reset(torch.ones(NUM_WORLDS, dtype=torch.bool), *states(sim.model))
    return sim


def states(model: mujoco.MjModel) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    noise = lambda size: torch.randn(NUM_WORLDS, size, generator=generator)
    return torch.tensor(model.qpos0).float() + 0.1 * noise(model.nq), 0.3 * noise(model.nv)


def controls(model: mujoco.MjModel, num_steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return 2 * torch.rand(num_steps, NUM_WORLDS, model.nu, generator=generator) - 1


def run(sim: WarpSimulator, ctrl: Tensor) -> Tensor:
    """[T, W, nq + nv]"""
    found = []
    for u in ctrl:
        sim.ctrl.copy_(u)
        sim.step(4)
        found.append(torch.cat([sim.qpos, sim.qvel], dim=1))
    return torch.stack(found)


# float32 has 7 digits: 1e-7 of lengths near 1 m; a step of stiff contacts makes 10 to 100 of it.
# half_cheetah integrates by Euler; ant has contact forces among its observations, and capsules
# that stand steeply on the floor; hopper has masses, damping and friction of its own in each world.
@pytest.mark.parametrize("name", ["half_cheetah_vel", "ant_dir_promp", "hopper_rand_params"])
def test_a_control_step_is_that_of_the_c_engine(name: str) -> None:
    found = parity(name, num_worlds=4, num_steps=12)
    assert found["one_step"]["qpos"] < 2e-5
    assert found["one_step"]["reward"] < 1e-5
    assert found["flags_differ"] == 0
    assert found["qpos"] < 1e-3  # and that of the step after it


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in envs.ALL if envs.has_physics(name)])
def test_every_environment_keeps_its_tolerance(name: str) -> None:
    found, (most, _) = parity(name), EXCEPTIONS.get(name, (TOLERANCE, ""))
    assert {key: found["one_step"][key] for key in most if found["one_step"][key] > most[key]} == {}
    assert found["flags_differ"] == 0


def test_each_model_field_reaches_the_physics() -> None:
    """World k has the k-th field changed, and moves as a model of its own with that field does."""
    sim = started("hopper", per_world=HOPPER_FIELDS)
    own = [GymnasiumModel(file="hopper.xml").load() for _ in range(NUM_WORLDS)]
    for world, name in enumerate(HOPPER_FIELDS, start=1):
        getattr(own[world], name)[:] *= 4.0
        sim.param(name)[world] *= 4.0
    sim.params_changed()
    qpos, qvel = (x[:1].expand(NUM_WORLDS, -1) for x in states(sim.model))
    qpos = qpos - 0.2 * torch.eye(6)[1]  # m, into the ground, so that friction is felt
    sim.reset(torch.ones(NUM_WORLDS, dtype=torch.bool), qpos, qvel)
    ctrl = controls(sim.model, 3)[:, :1].expand(-1, NUM_WORLDS, -1)
    ours = run(sim, ctrl)[-1]
    for world, one in enumerate(own):
        theirs = by_the_c_engine(one, qpos[0], qvel[0], ctrl[:, 0])
        assert torch.allclose(ours[world], theirs, atol=1e-3), world
        # Nothing of this would be seen if all worlds moved as the first.
        assert world == 0 or (ours[world] - ours[0]).abs().max() > 1e-2, world


def by_the_c_engine(model: mujoco.MjModel, qpos: Tensor, qvel: Tensor, ctrl: Tensor) -> Tensor:
    """[nq + nv] after 4 physics steps with each of `ctrl`."""
    mujoco.mj_setConst(model, mujoco.MjData(model))
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos.double(), qvel.double()
    mujoco.mj_forward(model, data)
    for u in ctrl:
        data.ctrl[:] = u.double()
        mujoco.mj_step(model, data, nstep=4)
    return torch.tensor([*data.qpos, *data.qvel]).float()


def test_masked_reset_leaves_other_worlds_as_they_were() -> None:
    sim, untouched = (started(fields=["xpos"]) for _ in range(2))
    ctrl = controls(sim.model, 6)
    for one in (sim, untouched):
        run(one, ctrl[:3])
    worlds = torch.tensor([True, False, False, True, False])
    sim.reset(worlds, *states(sim.model))
    assert torch.equal(sim.field("xpos")[~worlds], untouched.field("xpos")[~worlds])
    assert sim.time.eq(0).tolist() == worlds.tolist()
    assert torch.equal(run(sim, ctrl[3:])[:, ~worlds], run(untouched, ctrl[3:])[:, ~worlds])


def test_reset_world_forgets_its_past() -> None:
    sim, fresh = started(), started()
    ctrl = controls(sim.model, 6)
    run(sim, ctrl[:3])
    sim.reset(torch.ones(NUM_WORLDS, dtype=torch.bool), *states(sim.model))
    assert torch.equal(run(sim, ctrl[3:]), run(fresh, ctrl[3:]))


@pytest.mark.parametrize("kind", ["nan", "huge", "control"])
def test_blown_up_world_stays_diverged_until_its_reset_and_alone(kind: str) -> None:
    sim, healthy = started(), started()
    ctrl = controls(sim.model, 3)
    if kind == "control":
        ctrl[:, 2, 1] = float("nan")
    else:
        sim.qvel[2, 4] = {"nan": float("nan"), "huge": 1e30}[kind]
    others = [0, 1, 3, 4]
    assert torch.equal(run(sim, ctrl)[:, others], run(healthy, ctrl.nan_to_num())[:, others])
    assert sim.diverged.tolist() == [False, False, True, False, False]
    sim.reset(torch.tensor([False, False, True, False, False]), *states(sim.model))
    assert not sim.diverged.any()
    run(sim, controls(sim.model, 1))
    assert not sim.diverged.any()


def test_a_nan_world_shows_as_an_ended_episode() -> None:
    env = envs.make("half_cheetah_vel", 3, machine=WARP)
    env.set_tasks(env.prior.test_tasks(3))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    env.sim.qvel[1] = float("nan")
    step = env.step(torch.zeros(3, 6))
    assert step.terminated.tolist() == step.diverged.tolist() == [False, True, False]
    assert step.reward[1] == 0 and step.next_obs.isfinite().all()


def test_graphs_compute_what_single_kernels_compute() -> None:
    graphs, kernels = started(), started(graphs=False)
    ctrl = controls(graphs.model, 4)
    assert torch.equal(run(graphs, ctrl), run(kernels, ctrl))


def test_closed_it_gives_its_memory_back_though_someone_holds_it() -> None:
    sim = started()
    held = weakref.ref(sim._data)
    sim.close()
    assert held() is None
    sim.close()  # Once more changes nothing.


def test_a_copy_goes_on_as_the_original_and_by_itself() -> None:
    sim = started("hopper", per_world=HOPPER_FIELDS, fields=["xpos"])
    sim.param("body_mass")[1] *= 2
    sim.params_changed()
    sim.qvel[4] = float("nan")
    ctrl = controls(sim.model, 4)
    run(sim, ctrl[:2])
    other = pickle.loads(pickle.dumps(sim))
    assert other.diverged.tolist() == [False] * 4 + [True]
    assert torch.equal(run(sim, ctrl[2:])[:, :4], run(other, ctrl[2:])[:, :4])
    assert torch.equal(sim.field("xpos")[:4], other.field("xpos")[:4])
    sim.qpos[0] = 0.0
    assert not torch.equal(sim.qpos[0], other.qpos[0])


def test_a_world_can_be_looked_at_by_the_c_engine() -> None:
    sim = started("hopper", per_world=HOPPER_FIELDS)
    sim.param("body_mass")[3] *= 2
    sim.params_changed()
    run(sim, controls(sim.model, 2))
    model, data = sim.host_data(3)
    assert torch.equal(torch.from_numpy(data.qpos).float(), sim.qpos[3])
    assert model.body_mass == pytest.approx(2 * sim.model.body_mass)
    assert model.body_subtreemass[1] == pytest.approx(2 * sim.model.body_subtreemass[1])


def test_an_overflow_is_reported_once_with_the_buffer_and_its_size() -> None:
    sim = started(max_contacts=1)
    sim.qpos[:, 1] -= 0.5  # m, into the ground with both feet
    run(sim, controls(sim.model, 1))
    with pytest.raises(
        SettingError, match=r"worlds had more contacts than .*\(1 contacts, .* 10 .*max_c"
    ):
        sim.check()
    sim.check()


def test_a_solver_that_is_not_there_is_replaced_and_said_so() -> None:
    model = GymnasiumModel(file="half_cheetah.xml").load()
    assert started().replaced_solver is None
    model.opt.solver = mujoco.mjtSolver.mjSOL_PGS
    assert WarpSimulator(model, 2, device="cpu").replaced_solver == "Newton instead of PGS"
    assert model.opt.solver == mujoco.mjtSolver.mjSOL_PGS


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "envs.sim.warp")
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    with pytest.raises(SettingError, match=r"needs MuJoCo Warp: pip install 'metarl\[warp\]'"):
        simulator(WARP, robot(), 1)


def test_a_device_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="device is meta; MuJoCo Warp runs on cuda"):
        WarpSimulator(robot(), 1, device="meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match="device is cuda, but torch finds no CUDA device here"):
        WarpSimulator(robot(), 1, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(warp_device.wp, "is_cuda_available", lambda: False)
    with pytest.raises(SettingError, match=r"driver is too old; expected 580 or newer, or backend"):
        WarpSimulator(robot(), 1, device="cuda")


def test_warp_has_of_a_gpu_what_torch_keeps_for_later_too(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Device(warp_device.wp.Device):
        def __init__(self) -> None:
            pass  # It is no device.

        @property
        def free_memory(self) -> int:
            return 2**30 if done == ["waited", "given back"] else 2**20

    monkeypatch.setattr(warp_device.wp, "device_to_torch", lambda device: "cuda:0")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append("waited"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("given back"))
    assert warp_device.free_memory(Device()) == 2**30


def test_too_many_worlds_are_refused_with_the_number_that_fits() -> None:
    warp_device.check_fits(900, 2**20, 2**30, "H100")
    with pytest.raises(
        SettingError,
        match=r"num_worlds is 1000, each of 1024 KiB: more than the"
        r" 1.0 GiB that are free on H100; expected at most 921",
    ):
        warp_device.check_fits(1000, 2**20, 2**30, "H100")


def test_a_world_takes_what_its_arrays_do_and_what_a_capture_keeps_of_them() -> None:
    sims = [WarpSimulator(robot(), num, device="cpu") for num in (1, 2)]
    kept = [
        sum(array.capacity for name, array in sim._arrays().items() if name != "diverged")
        for sim in sims
    ]
    buffers = sims[0].buffers
    sizes = {"nconmax": buffers.contacts, "njmax": buffers.rows, "nccdmax": buffers.convex_contacts}
    one, two = (warp._num_bytes(sim._data) for sim in sims)
    assert kept[1] > kept[0]
    assert warp._bytes_a_world(sims[0].model, sizes) == two - one + kept[1] - kept[0]


def test_memory_that_is_too_small_after_all_is_said_in_our_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*args: Any, **sizes: Any) -> None:
        raise RuntimeError("Failed to allocate 5000 bytes on device 'cuda:0'")

    monkeypatch.setattr("envs.sim.warp.mjw.make_data", full)
    with pytest.raises(SettingError, match=r"num_worlds is 7: the memory of .* too small .*fewer"):
        WarpSimulator(robot(), 7, device="cpu")


def test_a_device_without_memory_pools_goes_without_graphs_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warp_device.wp, "is_mempool_enabled", lambda device: False)
    with caplog.at_level(logging.WARNING, "metarl"):
        assert not warp_device.can_capture(SimpleNamespace(is_cuda=True, name="vGPU"))
    assert "vGPU has no memory pools" in caplog.text
    assert warp_device.can_capture(SimpleNamespace(is_cuda=False, name="cpu"))


def test_compiling_says_what_it_does_and_where_kernels_are_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    modules = iter(range(1000))
    monkeypatch.setattr(warp_device, "_num_modules", lambda: next(modules))
    monkeypatch.setattr(warp_device, "_PATIENCE", 0.01)
    with caplog.at_level(logging.WARNING, "metarl"), warp_device.told_if_compiling("H100"):
        while not caplog.messages:
            pass
    first, last = caplog.messages
    assert "compiling MuJoCo Warp's kernels for H100" in first and "kept in" in first
    assert last.startswith("compiled in ")


def test_bad_arguments_are_refused_with_their_values() -> None:
    with pytest.raises(ValueError, match="num_worlds is 0; expected at least 1"):
        WarpSimulator(robot(), 0, device="cpu")
    sim = started(per_world=["body_mass"])
    with pytest.raises(ValueError, match=r"'dof_damping' isn't per world; per_world named \["):
        sim.param("dof_damping")
    with pytest.raises(ValueError, match="data field 'xpos' isn't kept; fields named none"):
        sim.field("xpos")
    with pytest.raises(ValueError, match=r"worlds is torch.bool \(3,\); expected bool \(5,\)"):
        sim.reset(torch.ones(3, dtype=torch.bool), sim.qpos, sim.qvel)
    with pytest.raises(AttributeError, match="qpos of a WarpSimulator can't be another tensor"):
        sim.qpos = torch.zeros(NUM_WORLDS, 9)
    with pytest.raises(ValueError, match="max_contacts is 0; expected at least 1, or None"):
        envs.Machine(backend="warp", max_contacts=0)


def test_worlds_without_mujoco_are_refused() -> None:
    with pytest.raises(SettingError, match="backend is 'warp', and bandit is no MuJoCo env"):
        envs.make("bandit", 1, machine=WARP)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["half_cheetah_vel", "hopper_rand_params", "arm_reach"])
def test_control_steps_on_a_gpu_wait_for_nothing(name: str) -> None:
    env = envs.make(name, 64, machine=envs.Machine(backend="warp", device="cuda"))
    env.set_tasks(env.prior.test_tasks(64))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    action = torch.zeros(64, *env.action_space.shape, device="cuda")
    env.step(action)  # captures the graph
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            step = env.step(action)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert step.next_obs.isfinite().all() and not step.diverged.any()


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [True, False])
def test_physics_on_a_gpu_comes_in_order_with_torch_in_every_stream(graphs: bool) -> None:
    sim = WarpSimulator(robot(), 4096, device="cuda", graphs=graphs)
    busy = torch.randn(4096, 4096, device="cuda")
    for stream in (torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            sim.reset(torch.ones_like(sim.diverged), torch.zeros_like(sim.qpos), 0 * sim.qvel)
            for number in range(1, 4):
                for _ in range(20):  # The device is behind when physics is launched.
                    busy = (busy @ busy).clamp(-1, 1)
                sim.ctrl.fill_(float("nan") if number == 3 else 0.1)
                sim.step(1)
                found = sim.time.clone()
                sim.time.zero_()
                assert torch.allclose(found, torch.full_like(found, sim.timestep))
            assert sim.diverged.all()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["half_cheetah_vel", "ant_dir_promp", "hopper_rand_params"])
def test_a_control_step_on_a_gpu_is_that_of_the_c_engine(name: str) -> None:
    found = parity(name, device="cuda", num_worlds=64, num_steps=12)
    assert found["one_step"]["qpos"] < 1e-5
    assert found["one_step"]["reward"] < 2e-5
