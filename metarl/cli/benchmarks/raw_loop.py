"""The physics of an environment alone: a loop in C without any Python, and our simulator on the same
work.

The loop (raw_loop.c) is compiled where it is first asked for, against the MuJoCo that Python has.
"""

import ctypes
import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import torch

from envs.mujoco.env import MujocoEnv
from envs.sim.cpu import CpuSimulator
from metarl.threads import on_one_thread

_ROOT = Path(__file__).parents[3]


class PhysicsWork:
    """The same starts and controls for the raw loops and for the simulator, which must end in the
    same states, bit for bit."""

    def __init__(self, env: MujocoEnv[Any], num_steps: int) -> None:
        self._sim = cpu_simulator(env)
        self._frame_skip = env.frame_skip
        self._num_steps = num_steps
        generator = torch.Generator().manual_seed(0)
        uniform = torch.rand(
            env.num_worlds, env.mdp.num_uniforms, dtype=torch.float64, generator=generator
        )
        self._qpos, self._qvel = env.mdp.initial_state(uniform)
        control = (
            2
            * torch.rand(
                self._num_steps, *self._sim.ctrl.shape, dtype=torch.float64, generator=generator
            )
            - 1
        )
        low, high = torch.tensor(self._sim.model.actuator_ctrlrange).unbind(-1)
        self._ctrl = low + (control + 1) / 2 * (high - low)
        self._raw_end = torch.zeros(
            env.num_worlds, self._qpos.shape[1] + self._qvel.shape[1], dtype=torch.float64
        )
        self._raw = _build_raw_loop()

    @on_one_thread
    def simulator(self) -> float:
        begin = time.perf_counter()
        self._sim.reset(torch.ones(self._sim.num_worlds, dtype=torch.bool), self._qpos, self._qvel)
        for ctrl in self._ctrl:
            self._sim.ctrl.copy_(ctrl)
            self._sim.step(self._frame_skip)
        return self._num_steps * self._sim.num_worlds / (time.perf_counter() - begin)

    def raw_loop(self, waits: bool = False) -> float:
        start = torch.cat([self._qpos, self._qvel], dim=1).contiguous()
        seconds = self._raw(
            ctypes.c_void_p(self._sim.model._address),
            self._sim.num_threads,
            self._sim.num_worlds,
            self._num_steps,
            self._frame_skip,
            waits,
            *(ctypes.c_void_p(array.data_ptr()) for array in (start, self._ctrl, self._raw_end)),
        )
        if seconds < 0:
            raise RuntimeError(f"the raw loop couldn't start {self._sim.num_threads} threads")
        return self._num_steps * self._sim.num_worlds / seconds

    def check_same_states(self) -> None:
        self.simulator()
        for waits in (False, True):
            self.raw_loop(waits)
            if not torch.equal(self._raw_end, torch.cat([self._sim.qpos, self._sim.qvel], dim=1)):
                raise AssertionError(
                    "a raw loop and the simulator end in different states: not the same work"
                )


def cpu_simulator(env: MujocoEnv[Any]) -> CpuSimulator:
    """The environment's simulator. Raises: TypeError for one that isn't MuJoCo's C engine."""
    if not isinstance(env.sim, CpuSimulator):
        raise TypeError(f"the physics runs on a {type(env.sim).__name__}; expected a CpuSimulator")
    return env.sim


def _build_raw_loop() -> Callable[..., float]:
    """raw_loop.c compiled against the MuJoCo that Python has, into build/, once for each source and
    version."""
    source = Path(__file__).with_name("raw_loop.c")
    folder = Path(mujoco.__file__).parent
    mark = hashlib.sha256(source.read_bytes() + mujoco.__version__.encode()).hexdigest()[:12]
    library = _ROOT / "build" / f"raw_loop-{mark}.so"
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        mujoco_library = next(folder.glob("libmujoco*"))
        command = [
            "cc",
            "-O3",
            "-shared",
            "-fPIC",
            "-pthread",
            str(source),
            "-o",
            str(library),
            f"-I{folder / 'include'}",
        ]
        command += [str(mujoco_library), f"-Wl,-rpath,{folder}"]
        subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library)).raw_loop
    function.restype = ctypes.c_double
    return function
