"""The name of a live tensor can't be given to another one, in any of the ways one might try."""

import copy

import pytest
import torch

from envs.mujoco.models import GymnasiumModel
from envs.sim.cpu import CpuSimulator

LIVE = ("time", "qpos", "qvel", "ctrl", "diverged")


@pytest.fixture
def sim() -> CpuSimulator:
    return CpuSimulator(GymnasiumModel(file="swimmer.xml").load(), 2, num_threads=1)


@pytest.mark.parametrize("name", LIVE)
def test_a_live_tensor_cant_be_replaced(sim: CpuSimulator, name: str) -> None:
    live = getattr(sim, name)
    message = rf"{name} of a CpuSimulator .* expected {name}.copy_\(...\)"
    with pytest.raises(AttributeError, match=message):
        setattr(sim, name, torch.zeros_like(live))
    assert getattr(sim, name) is live


def test_it_can_be_written_in_place(sim: CpuSimulator) -> None:
    ctrl = sim.ctrl
    sim.ctrl += 1.0
    sim.ctrl.mul_(3.0)
    sim.diverged |= torch.tensor([True, False])
    assert sim.ctrl is ctrl and ctrl.tolist() == [[3.0, 3.0]] * 2
    assert sim.diverged.tolist() == [True, False]


def test_all_else_can_be_set_and_a_copy_has_live_tensors_of_its_own(sim: CpuSimulator) -> None:
    sim.none_diverged = False
    again = copy.deepcopy(sim)
    again.ctrl.fill_(1.0)
    again.step(1)
    assert (again.time > 0).all() and (sim.time == 0).all() and (sim.ctrl == 0).all()
    with pytest.raises(AttributeError, match="qvel of a CpuSimulator"):
        again.qvel = sim.qvel
