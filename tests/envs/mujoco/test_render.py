"""Facts about drawing where it can't work, and about a machine's settings that must not stop
physics."""

import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

import envs
from envs.mujoco import gl
from metarl.noise import Noise

ROOT = Path(__file__).parents[3]

PROGRAM = """
import ctypes, sys
load = ctypes.CDLL
def without_gl(name, *args, **kwargs):
    if name and any(gl in str(name) for gl in sys.argv[1].split()):
        raise OSError(f"{name}: cannot open shared object file")
    return load(name, *args, **kwargs)
ctypes.CDLL = without_gl
import torch, envs
from metarl.noise import Noise
env = envs.make("half_cheetah_vel", 1)
env.set_tasks(env.prior.test_tasks(1))
env.reset(Noise(torch.Generator()).starts(env))
print(env.step(env.references.stand_still()).reward.shape)
try:
    print(env.render(0).shape)
except RuntimeError as error:
    print(error)
"""


def said(missing: str, **variables: str) -> list[str]:
    """What a new process prints that steps and draws, with these variables set and without these
    libraries."""
    machine = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    }
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, missing]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=machine | variables
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    stepped, *drawn = done.stdout.splitlines()
    assert stepped == "torch.Size([1])"
    return drawn


def test_missing_library_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AttributeError("'NoneType' object has no\nattribute 'eglQueryString'")

    monkeypatch.setattr(mujoco, "Renderer", fails)
    monkeypatch.setattr(gl, "_loads", lambda library: True)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    env = envs.make("half_cheetah_vel", 1)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    with pytest.raises(
        RuntimeError, match=r"no attribute 'eglQueryString'.*apt-get install .*libegl1"
    ):
        env.render(0)
    with pytest.raises(ValueError, match=r"world is 1; expected 0, \.\.\., 0"):
        env.render(1)


@pytest.mark.parametrize("missing", ["EGL OSMesa libGL OpenGL", "OSMesa OpenGL"])
def test_physics_needs_no_library(missing: str) -> None:
    """As on a machine without any of them, and on one that has EGL, but not the OpenGL that
    MuJoCo's import asks for with it."""
    (line,) = said(missing)
    assert (
        "egl: lib" in line
        and "osmesa: libOSMesa can't be loaded" in line
        and "apt-get install" in line
    )


@pytest.mark.parametrize(
    ("missing", "value", "reason"),
    [
        ("OSMesa", "osmesa", "libOSMesa can't be loaded"),
        ("", "vulkan", "expected egl, osmesa, glfw or glx"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the names and libraries of Linux")
def test_a_wrong_mujoco_gl_stops_drawing_alone_and_is_named(
    missing: str, value: str, reason: str
) -> None:
    (line,) = said(missing, MUJOCO_GL=value)
    assert line.startswith(f"MuJoCo can't draw here (MUJOCO_GL='{value}': {reason})")


@pytest.mark.skipif(sys.platform != "linux", reason="the names and libraries of Linux")
def test_what_would_break_the_import_is_found_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    monkeypatch.setattr(gl, "_loads", lambda library: library == "EGL")
    assert gl._problem("EGL ") == "libOpenGL can't be loaded"
    assert gl._problem("off") == "this switches drawing off"
    assert [gl._problem(value) for value in ("", "1", "glfw")] == [None] * 3
    monkeypatch.setattr(gl, "_loads", lambda library: True)
    assert gl._problem("egl") is gl._problem("osmesa") is None
    monkeypatch.setenv("PYOPENGL_PLATFORM", "osmesa")
    assert gl._problem("egl") == "PYOPENGL_PLATFORM='osmesa' says otherwise"


@pytest.mark.gl
@pytest.mark.skipif(sys.platform != "linux", reason="the screens of Linux")
def test_a_screen_that_is_not_there_does_not_hinder_drawing() -> None:
    assert said("", DISPLAY=":77", MUJOCO_GL=" ") == ["(240, 320, 3)"]


@pytest.mark.gl
@pytest.mark.skipif(sys.platform != "linux", reason="the screens of Linux")
def test_who_asks_for_a_screen_that_is_not_there_reads_of_egl() -> None:
    *_, line = said("", MUJOCO_GL="glfw", DISPLAY=":77")
    assert "DISPLAY=':77'" in line and line.endswith("set it to egl, before MuJoCo is imported")


@pytest.mark.parametrize("name", ["half_cheetah_vel", "humanoid_dir"])
def test_far_from_the_start_there_is_a_ground_and_it_lies_still(name: str) -> None:
    env = envs.make(name, 1)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    model, data = env.sim.host_data(0)
    [ground] = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
    tile = 2 * model.geom_size[ground, 0] / 60  # so many in the picture of the whole plane
    below, beside = [], []
    for tiles in (0.0, 300.0, 300.5):
        moved = mujoco.MjData(model)
        moved.qpos[:] = data.qpos
        moved.qpos[0] += tiles * tile
        mujoco.mj_forward(model, moved)
        picture = env._renderer.picture(model, moved, width=160, height=120)
        below.append(picture[-10:].astype(float))
        beside.append(picture[-40:, -40:].astype(float))  # where no shadow falls
    env.close()
    assert min(rows.std() for rows in below) > 30
    assert np.abs(beside[1] - beside[0]).mean() < 20 < np.abs(beside[2] - beside[0]).mean()
