"""Chooses how MuJoCo draws without a screen. MuJoCo reads MUJOCO_GL once, when it is imported, so `envs` calls this first."""

import ctypes
import os
import sys


def choose_gl_backend() -> None:
    """Sets MUJOCO_GL to egl or osmesa on a Linux machine without a screen, if the user hasn't and the library is there.

    Without either library the variable stays unset, because importing MuJoCo with one that is missing fails, and physics
    needs none; `envs.render` then says which package to install.
    """
    if "MUJOCO_GL" in os.environ or "mujoco" in sys.modules or sys.platform != "linux":
        return
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return
    for backend, library in (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8")):
        if _loads(library):
            os.environ["MUJOCO_GL"] = backend
            return


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
