"""What this suite sets in the process that it runs in: MuJoCo's profiling callback, malloc's
thresholds, MuJoCo's log.

None of it changes a number. METARL_TUNE_PROCESS=0 leaves the first two as they are.
"""

import ctypes
import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import mujoco

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h


@functools.cache
def tune_process() -> None:
    """Makes physics and large tensors fast; says once in the log what it did.

    - `import mujoco` installs a C callback that reads the clock several times per physics step,
      which costs HalfCheetah 14 % and Reacher 27 %. Cleared, only `MjData.timer` is lost:
      trajectories stay the same bit for bit.
    - glibc maps every block above 32 MiB anew and the kernel zeroes its pages at each use, which
      makes large tensors up to four times slower. Such blocks are kept instead.
    """
    _tune(
        {
            "cleared MuJoCo's timer callback": clear_mujoco_timer,
            "malloc keeps blocks up to 1 GiB": keep_large_blocks,
        }
    )


@functools.cache
def tune_memory() -> None:
    """The part of `tune_process` that helps large tensors, for who simulates nothing."""
    _tune({"malloc keeps blocks up to 1 GiB": keep_large_blocks})


def _tune(steps: Mapping[str, Callable[[], bool]]) -> None:
    """Takes the steps unless the user forbids it, and says which of them did something."""
    log = logging.getLogger("metarl")
    asked = os.environ.get("METARL_TUNE_PROCESS", "1")
    if asked not in ("0", "1"):
        log.warning("METARL_TUNE_PROCESS=%s: expected 0 or 1; taken as 1", asked)
    if asked == "0":
        log.info("METARL_TUNE_PROCESS=0: the process is left as it is")
        return
    done = [words for words, step in steps.items() if step()]
    log.info(
        "tuned the process: %s (METARL_TUNE_PROCESS=0 leaves it alone)",
        ", ".join(done) or "nothing to do",
    )


@functools.cache
def quiet_mujoco() -> None:
    """Stops MuJoCo from writing MUJOCO_LOG.TXT into the working directory and warnings to the
    terminal.

    Nothing is hidden: a world that blows up is reported as `diverged`, and a model that can't be
    loaded still raises.
    """
    config = mujoco.MjLogConfig.get()
    config.logto_file = False
    config.logto_console = False
    mujoco.MjLogConfig.set(config)


def mujoco_timer() -> ctypes.c_void_p:
    """The C variable `mjcb_time`; its `value` is None when no callback is installed."""
    folder = Path(mujoco.__file__).parent
    libraries = sorted(
        [
            *folder.glob("libmujoco*.so*"),
            *folder.glob("libmujoco*.dylib"),
            *folder.glob("mujoco*.dll"),
        ]
    )
    if not libraries:
        raise FileNotFoundError(f"no MuJoCo library in {folder}")
    return ctypes.c_void_p.in_dll(ctypes.CDLL(str(libraries[0])), "mjcb_time")


def clear_mujoco_timer() -> bool:
    """Removes the profiling callback. `mujoco.set_mjcb_time(None)` doesn't: it only knows callbacks
    set from Python."""
    timer = mujoco_timer()
    was_set = timer.value is not None
    timer.value = None
    return was_set


def keep_large_blocks() -> bool:
    """Raises malloc's thresholds for mapping and for giving memory back. False where the C library
    isn't glibc."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = {_M_MMAP_THRESHOLD: 1 << 30, _M_TRIM_THRESHOLD: 2**31 - 1, _M_ARENA_MAX: 1}
    return all(bool(libc.mallopt(name, value)) for name, value in settings.items())
