"""MuJoCo Warp: W worlds in float32 on a GPU, seen as torch tensors over its memory. For tests it
also runs on Warp's CPU device, graphs included."""

import copy
import gc
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mujoco
import torch
import warp as wp
from torch import Tensor

# First, for it keeps Warp from writing to stdout when the next is imported.
from envs.sim.warp_device import (
    between_torchs,
    can_capture,
    check_fits,
    free_memory,
    refused_if_too_large,
    told_if_compiling,
    torchs_stream,
    warp_device,
)

import mujoco_warp as mjw  # isort: skip

from envs.sim.buffers import buffers
from envs.sim.live import bound_once
from envs.sim.process import quiet_mujoco, tune_process
from envs.sim.types import check_reset, chosen_field, chosen_param
from envs.sim.warp_kernels import align_contacts, find_diverged, needs_alignment
from metarl.errors import BufferOverflow

_READ_BY_SET_CONST = {
    *("body_mass", "body_inertia", "body_ipos", "body_iquat", "body_pos", "body_quat"),
    *("dof_armature", "tendon_armature", "actuator_gear", "qpos0"),
}
_WRITTEN_BY_SET_CONST = {
    *("body_subtreemass", "body_invweight0", "dof_invweight0"),
    *("tendon_invweight0", "tendon_length0", "actuator_acc0"),
}
_WRITTEN_BY_GEOM_SIZE = {"geom_rbound", "geom_aabb"}

_MEMORY = {
    *("_model", "_data", "time", "qpos", "qvel", "ctrl", "diverged", "_diverged"),
    *("_acceleration", "_warm_start", "_overflow", "_params", "_fields"),
}

_BUFFERS = {
    "BROADPHASE": "contacts",
    "NARROWPHASE": "contacts",
    "NEFC": "constraint rows",
    "NJMAX_NNZ": "constraint rows",
    "CCD": "contacts between convex shapes",
    "HFIELD": "contacts with a height field",
    "CONTACT_MATCH": "contacts of a sensor",
}
"""What MuJoCo Warp's flags of an overflow are about; the others are no buffers of ours."""


@bound_once("time", "qpos", "qvel", "ctrl", "diverged")
class WarpSimulator:
    """A `Simulator` in float32. A world's numbers don't depend on the other worlds; on a GPU they
    differ in the last bits from run to run.

    It follows the C engine up to float32's rounding, with two differences: a world that blows up
    stays so until its reset, and the PGS solver, which MuJoCo Warp doesn't have, becomes Newton.

    Args:
      model, per_world, fields, current_fields: see `CpuSimulator`.
      device: cuda, cuda:1, ..., or cpu for tests.
      max_contacts: of a world at once; None: as many as its shapes can have.
      graphs: False runs kernel by kernel, which is slower and gives the same numbers.
    Raises: SettingError if MuJoCo Warp can't run there, or hasn't memory for so many worlds.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        *,
        per_world: Sequence[str] = (),
        fields: Sequence[str] = (),
        current_fields: bool = False,
        device: torch.device | str = "cuda",
        max_contacts: int | None = None,
        graphs: bool = True,
    ) -> None:
        if num_worlds < 1:
            raise ValueError(f"num_worlds is {num_worlds}; expected at least 1")
        tune_process()
        quiet_mujoco()
        self._settings = {
            "model": model,
            "num_worlds": num_worlds,
            "per_world": tuple(per_world),
            "fields": tuple(fields),
            "current_fields": current_fields,
            "device": device,
            "max_contacts": max_contacts,
            "graphs": graphs,
        }
        self.model, self.replaced_solver = _with_newton(model)
        if self.replaced_solver is not None:
            logging.getLogger("metarl").info("MuJoCo Warp: %s", self.replaced_solver)
        self.num_worlds = num_worlds
        self.timestep = float(model.opt.timestep)
        self._warp = warp_device(device)
        self._current_fields = current_fields
        self._use_graphs = graphs and can_capture(self._warp)
        self.buffers = buffers(model, max_contacts)
        expanded = _expanded(per_world)
        self._derives = expanded != set(per_world)
        self._allocate(expanded)
        d = self._data
        self.time, self.qpos, self.qvel, self.ctrl = map(
            wp.to_torch, (d.time, d.qpos, d.qvel, d.ctrl)
        )
        self.device = self.qpos.device
        self.diverged = wp.to_torch(self._diverged)
        self.none_diverged = False  # To know would be a wait.
        self._acceleration, self._warm_start = map(wp.to_torch, (d.qacc, d.qacc_warmstart))
        self._overflow = wp.to_torch(d.overflow)
        self._params = {name: wp.to_torch(getattr(self._model, name)) for name in per_world}
        self._fields = {name: wp.to_torch(getattr(d, name)) for name in fields}
        self._graphs: dict[Hashable, Any] = {}
        self._run("forward", self._forward)

    def step(self, num_substeps: int) -> None:
        def substeps() -> None:
            for _ in range(num_substeps):
                mjw.step(self._model, self._data)
            if self._current_fields:
                self._forward()
            find_diverged(self._data, self._diverged)

        self._run(num_substeps, substeps)

    def rest(self, worlds: Tensor) -> None:
        """All worlds take their steps together."""

    def reset(self, worlds: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Works on all worlds and keeps what isn't asked for, so that nothing waits."""
        check_reset(self, worlds, qpos, qvel)
        rows = worlds[:, None]
        torch.where(rows, qpos.to(self.qpos), self.qpos, out=self.qpos)
        torch.where(rows, qvel.to(self.qvel), self.qvel, out=self.qvel)
        self.ctrl.masked_fill_(rows, 0.0)
        self.time.masked_fill_(worlds, 0.0)
        self._warm_start.masked_fill_(rows, 0.0)
        self.diverged.logical_and_(~worlds)
        with self._fields_kept(~worlds):
            self._run("forward", self._forward)
        # The C engine's forward fills it, too, and the next step's solver begins there.
        torch.where(rows, self._acceleration, self._warm_start, out=self._warm_start)

    def param(self, name: str) -> Tensor:
        return chosen_param(self._params, name)

    def params_changed(self) -> None:
        if self._derives:
            # It works in the data's own arrays.
            with self._fields_kept(torch.ones_like(self.diverged)):
                self._run("set_const", lambda: mjw.set_const(self._model, self._data))

    def field(self, name: str) -> Tensor:
        return chosen_field(self._fields, name)

    def check(self) -> None:
        worlds = self._overflow.tolist()
        self._overflow.zero_()
        for flag, buffer in _BUFFERS.items():
            bit = int(mjw.OverflowType[flag])
            if num := sum(bool(bits & bit) for bits in worlds):
                raise BufferOverflow(
                    f"{num} of {self.num_worlds} worlds had more {buffer} than MuJoCo Warp's "
                    f"buffers hold ({self.buffers.contacts} contacts, of them "
                    f"{self.buffers.convex_contacts} between convex shapes, {self.buffers.rows} "
                    "constraint rows a world), so what happened there is wrong; expected a larger "
                    "max_contacts"
                )

    def host_data(self, world: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = copy.copy(self.model)
        for name, values in self._params.items():
            own = getattr(model, name)
            own[:] = values[world].cpu().numpy().reshape(own.shape)
        data = mujoco.MjData(model)
        if self._derives:
            mujoco.mj_setConst(model, data)
        data.time = self.time[world].item()
        for name in ("qpos", "qvel", "ctrl"):
            getattr(data, name)[:] = getattr(self, name)[world].cpu().numpy()
        mujoco.mj_forward(model, data)
        return model, data

    def close(self) -> None:
        """Gives the memory back, also where someone still holds the object. Raises what `check`
        does."""
        self._graphs.clear()
        try:
            if "_data" in vars(self):
                self.check()
        finally:
            for name in _MEMORY & vars(self).keys():
                delattr(self, name)

    def __getstate__(self) -> dict[str, Any]:
        """Is called by copy.deepcopy and pickle. The copy goes on as this would, in memory of its
        own."""
        names = _expanded(self._params)
        return {
            "settings": self._settings,
            "data": {name: array.numpy() for name, array in self._arrays().items()},
            "model": {name: getattr(self._model, name).numpy() for name in names},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["settings"])  # type: ignore[misc]
        for name, array in self._arrays().items():
            array.assign(state["data"][name])
        for name, values in state["model"].items():
            getattr(self._model, name).assign(values)

    def _allocate(self, expanded: set[str]) -> None:
        """Puts the model and W worlds on the device."""
        contacts, rows = self.buffers.contacts, self.buffers.rows
        sizes = {
            "nconmax": contacts,
            "njmax": rows,
            "nccdmax": self.buffers.convex_contacts,
        }
        if self._warp.is_cuda:
            size, free = _bytes_a_world(self.model, sizes), free_memory(self._warp)
            check_fits(self.num_worlds, size, free, self._warp.name)
        too_large = refused_if_too_large(self.num_worlds, self._warp.name)
        with too_large, wp.ScopedDevice(self._warp):
            batch_sizes = dict.fromkeys(expanded, self.num_worlds)
            self._model = mjw.put_model(self.model, batch_sizes=batch_sizes)
            self._model.opt.warn_overflow = 0  # It would print from the device; see `check`.
            if needs_alignment(self.model):
                self._model.callback.contactfilter = align_contacts
            self._data = mjw.make_data(self.model, nworld=self.num_worlds, **sizes)
            self._diverged = wp.zeros(self.num_worlds, dtype=bool)

    def _forward(self) -> None:
        mjw.forward(self._model, self._data)

    def _run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Does `work` as one graph, which is captured at its first use."""
        too_large = refused_if_too_large(self.num_worlds, self._warp.name)
        with too_large, wp.ScopedDevice(self._warp):
            stream = torchs_stream(self._warp)
            if not self._use_graphs:
                with wp.ScopedStream(stream):
                    work()
                return
            if key not in self._graphs:
                with (
                    between_torchs(self._warp),
                    self._unmoved(),
                    told_if_compiling(self._warp.name),
                ):
                    work()  # Once before, so that its kernels are there.
                    with _no_garbage_collection(), wp.ScopedCapture() as capture:
                        work()
                self._graphs[key] = capture.graph
            wp.capture_launch(self._graphs[key], stream)

    @contextmanager
    def _unmoved(self) -> Iterator[None]:
        """Puts every array of the worlds back as it was."""
        before = {name: wp.clone(array) for name, array in self._arrays().items()}
        yield
        for name, array in self._arrays().items():
            wp.copy(array, before[name])

    @contextmanager
    def _fields_kept(self, worlds: Tensor) -> Iterator[None]:
        """Puts the derived fields of `worlds` [W] bool back as they were: they are of the last
        substep, and stay so until the next."""
        before = {name: field.clone() for name, field in self._fields.items()}
        yield
        for name, field in self._fields.items():
            rows = worlds.reshape(-1, *[1] * (field.ndim - 1))
            torch.where(rows, before[name], field, out=field)

    def _arrays(self) -> dict[str, wp.array]:
        found = {
            name: array
            for name, array in vars(self._data).items()
            if isinstance(array, wp.array) and array.size
        }
        return {**found, "diverged": self._diverged}


def _with_newton(model: mujoco.MjModel) -> tuple[mujoco.MjModel, str | None]:
    """Returns the model with a solver that MuJoCo Warp has, and a note if that is another one."""
    if model.opt.solver != mujoco.mjtSolver.mjSOL_PGS:
        return model, None
    model = copy.copy(model)
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    return model, "Newton instead of PGS"


def _expanded(per_world: Sequence[str] | dict[str, Any]) -> set[str]:
    """The fields that differ between worlds, with those that MuJoCo derives from them: all worlds
    would write into one row of these."""
    found = set(per_world)
    if found & _READ_BY_SET_CONST:
        found |= _WRITTEN_BY_SET_CONST
    if "geom_size" in found:
        found |= _WRITTEN_BY_GEOM_SIZE
    return found


def _bytes_a_world(model: mujoco.MjModel, sizes: dict[str, int]) -> int:
    """What one more world takes, found by making few of them in the CPU's memory. Its own arrays,
    unlike those of its parts, lie there twice while a graph is captured, see `_unmoved`."""
    with wp.ScopedDevice("cpu"):
        one, two = (mjw.make_data(model, nworld=n, **sizes) for n in (1, 2))
    return sum(size(two) - size(one) for size in (_num_bytes, _own_bytes))


def _num_bytes(data: Any) -> int:
    """Returns the bytes of all arrays of a dataclass of MuJoCo Warp, those of its parts
    included."""
    parts = [part for part in vars(data).values() if hasattr(part, "__dataclass_fields__")]
    return _own_bytes(data) + sum(map(_num_bytes, parts))


def _own_bytes(data: Any) -> int:
    return sum(int(part.capacity) for part in vars(data).values() if isinstance(part, wp.array))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keeps graphs that nobody holds any more alive: one that goes while another is captured would
    be recorded into it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
