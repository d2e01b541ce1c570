"""Lets MuJoCo be imported whatever can be drawn here. `envs` calls `import_mujoco` before anything
else imports MuJoCo.

MuJoCo reads MUJOCO_GL once, when it is imported, and then fails where it can't have what that
names. Physics needs no OpenGL, so here such a MUJOCO_GL is found out first and only drawing fails,
by a message of `why_not`.
"""

import ctypes
import importlib
import os
import sys

INSTALL = "apt-get install --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
"""The command that installs on Debian or Ubuntu what drawing without a screen needs."""

_LIBRARIES = {"egl": ("EGL", "OpenGL"), "osmesa": ("OSMesa",)}
"""The libraries that MuJoCo's import needs on Linux, for values of MUJOCO_GL that draw without a
screen. The first of them that is there is taken."""

_ANY, _NONE = (
    ("", "enable", "enabled", "on", "true", "1"),
    ("disable", "disabled", "off", "false", "0"),
)
_NAMED = {"linux": ("egl", "osmesa", "glfw", "glx"), "darwin": ("cgl", "glfw")}


def import_mujoco() -> None:
    """Imports MuJoCo, able to draw if that is possible.

    On Linux a MUJOCO_GL that names nothing becomes egl or osmesa, if its libraries are there. A
    screen isn't asked for one: DISPLAY may be left from a session that has ended, and both of them
    draw at least as well without.
    """
    if "mujoco" in sys.modules:
        return
    given = os.environ.get("MUJOCO_GL", "")
    if sys.platform == "linux" and _plain(given) in _ANY:
        usable = [backend for backend in _LIBRARIES if _problem(backend) is None]
        if usable:
            os.environ["MUJOCO_GL"] = usable[0]
        importlib.import_module("mujoco")
    elif _problem(given) is None:
        importlib.import_module("mujoco")
    else:
        os.environ["MUJOCO_GL"] = "off"
        try:
            importlib.import_module("mujoco")
        finally:
            os.environ["MUJOCO_GL"] = given


def check_drawing() -> None:
    """Raises: RuntimeError where MuJoCo draws on a screen and there is none, as after somebody else's
    import of it without MUJOCO_GL."""
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and _plain(os.environ.get("MUJOCO_GL", "")) in _ANY and not screen:
        raise RuntimeError(why_not(RuntimeError("there is no screen")))


def why_not(error: Exception) -> str:
    """Says in one line why MuJoCo can't draw, having failed by this error, and what to do about
    it."""
    given = os.environ.get("MUJOCO_GL", "")
    problems = {backend: _problem(backend) for backend in _LIBRARIES}
    if sys.platform == "linux" and _plain(given) in _ANY and all(problems.values()):
        reason = "; ".join(f"{backend}: {problem}" for backend, problem in problems.items())
    else:
        reason = _problem(given) or " ".join(str(error).split())
    place = f"MUJOCO_GL={given!r}" + (
        f", DISPLAY={os.environ['DISPLAY']!r}" if os.environ.get("DISPLAY") else ""
    )
    if sys.platform == "linux" and _plain(given) != "egl" and problems["egl"] is None:
        # Where nothing is named, our import of MuJoCo would have chosen it.
        remedy = (
            "EGL is there, but MuJoCo was imported before envs, which chooses it: import envs (import "
            "metarl isn't enough) or make an environment of ours first, or set MUJOCO_GL=egl"
            if _plain(given) in _ANY
            else "EGL is there: leave MUJOCO_GL unset or set it to egl, before MuJoCo is imported"
        )
    elif sys.platform != "linux":
        remedy = "Leave MUJOCO_GL unset: the system's own library draws"
    else:
        remedy = f"On Debian or Ubuntu: {INSTALL}"
    return f"MuJoCo can't draw here ({place}: {reason}). {remedy}"


def _problem(given: str) -> str | None:
    """Says why MuJoCo's import would fail with this MUJOCO_GL, or leave drawing out; None if it
    wouldn't."""
    value, named = _plain(given), _NAMED.get(sys.platform, ("glfw", "wgl"))
    if value in _NONE:
        return "this switches drawing off"
    if value not in (*_ANY, *named):
        return f"expected {', '.join(named[:-1])} or {named[-1]}"
    platform = os.environ.get("PYOPENGL_PLATFORM", "").lower()
    if value in _LIBRARIES and platform not in ("", value):
        return f"PYOPENGL_PLATFORM={platform!r} says otherwise"
    missing = [f"lib{library}" for library in _LIBRARIES.get(value, ()) if not _loads(library)]
    return f"{' and '.join(missing)} can't be loaded" if missing else None


def _plain(value: str) -> str:
    """Returns the value as MuJoCo reads it."""
    return value.strip().lower()


def _loads(library: str) -> bool:
    """Tells whether the library is found where PyOpenGL looks, through which MuJoCo takes it."""
    for name in (f"lib{library}.so", *(f"lib{library}.so.{version}" for version in range(10))):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
