"""Facts about drawing where it can't work."""

import subprocess
import sys
from pathlib import Path

import mujoco
import pytest
import torch

import envs

ROOT = Path(__file__).parents[2]


def test_missing_library_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setattr(mujoco, "Renderer", fails)
    env = envs.make("half_cheetah_vel", 1)
    env.set_tasks(env.tasks.test_tasks(1))
    env.reset(torch.Generator())
    with pytest.raises(RuntimeError, match=r"eglQueryString.*apt-get install .*libegl1"):
        env.render(0)
    with pytest.raises(ValueError, match=r"world is 1; expected 0, \.\.\., 0"):
        env.render(1)


@pytest.mark.parametrize("missing", ["EGL OSMesa libGL OpenGL", "OSMesa OpenGL"])
def test_physics_needs_no_library(missing: str) -> None:
    """As on a machine without any of them, and on one that has EGL, but not the OpenGL that MuJoCo's import asks for with it."""
    program = """
import ctypes, os, sys
load = ctypes.CDLL
def without_gl(name, *args, **kwargs):
    if name and any(gl in str(name) for gl in sys.argv[1].split()):
        raise OSError(f"{name}: cannot open shared object file")
    return load(name, *args, **kwargs)
ctypes.CDLL = without_gl
for variable in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
    os.environ.pop(variable, None)
import torch, envs
env = envs.make("half_cheetah_vel", 1)
env.set_tasks(env.tasks.test_tasks(1))
env.reset(torch.Generator())
print(env.step(env.stand_still_action()).reward.shape)
try:
    env.render(0)
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, missing], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1])" in done.stdout
    assert "apt-get install" in done.stdout
