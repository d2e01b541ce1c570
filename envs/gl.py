"""Chooses how MuJoCo draws without a screen. MuJoCo reads MUJOCO_GL once, when it is imported, so `envs` calls this first."""

import ctypes
import os
import sys

INSTALL = "apt-get install --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
"""What drawing without a screen needs on Debian or Ubuntu."""


def choose_gl_backend() -> None:
    """Sets MUJOCO_GL to egl or osmesa on a Linux machine without a screen, if the user hasn't and its libraries are there.

    Where one is missing the variable stays unset, because importing MuJoCo would fail, and physics needs none; `envs.render`
    then says which packages to install. PyOpenGL, through which MuJoCo takes EGL, asks for libOpenGL, too.
    """
    if "MUJOCO_GL" in os.environ or "mujoco" in sys.modules or sys.platform != "linux":
        return
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return
    for backend, *libraries in (("egl", "libEGL.so.1", "libOpenGL.so.0"), ("osmesa", "libOSMesa.so.8")):
        if all(_loads(library) for library in libraries):
            os.environ["MUJOCO_GL"] = backend
            return


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
