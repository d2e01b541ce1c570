"""MuJoCo on CPU: W worlds on MuJoCo's own thread pool (`mujoco.batch`), seen as torch tensors over
its memory."""

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.batch import MODEL_FIELDS, Batch
from torch import Tensor

from envs.machine import check_num_threads
from envs.sim.live import bound_once
from envs.sim.process import quiet_mujoco, tune_process
from envs.sim.types import check_reset, chosen_field, chosen_param
from metarl.threads import num_cores

# BADQPOS, BADQVEL, BADQACC, BADCTRL: MuJoCo resets a world with one of these by itself, and only
# the counter tells. A slice, because an index tensor would copy, on as many threads as torch has.
DIVERGED = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)


@bound_once("time", "qpos", "qvel", "ctrl", "diverged")
class CpuSimulator:
    """A `Simulator` in float64, bit-identical to stepping each world alone with `mj_step`, for any
    number of threads.

    Args:
      model: copied; later changes to it have no effect here.
      per_world: the model fields that may differ between worlds, for instance body_mass; see
        `param`.
      fields: the derived data fields to keep, for instance subtree_com; see `field`.
      current_fields: they are of the state at the end of each step, at the price of evaluating the
        dynamics once more.
      num_threads: all CPUs this process may use by default.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        *,
        per_world: Sequence[str] = (),
        fields: Sequence[str] = (),
        current_fields: bool = False,
        num_threads: int | None = None,
    ) -> None:
        if num_worlds < 1:
            raise ValueError(f"num_worlds is {num_worlds}; expected at least 1")
        check_num_threads(num_threads)
        tune_process()
        quiet_mujoco()
        self._settings = {
            "model": model,
            "num_worlds": num_worlds,
            "per_world": tuple(per_world),
            "fields": tuple(fields),
            "current_fields": current_fields,
            "num_threads": num_threads,
        }
        self.model = model
        self.num_worlds = num_worlds
        self.num_threads = min(num_threads or num_cores(), num_worlds)
        self.timestep = float(model.opt.timestep)
        self.device = torch.device("cpu")
        self._batch = Batch(model, num_worlds, nthread=self.num_threads)
        self.time = torch.from_numpy(self._batch.bind("time"))
        self.qpos = torch.from_numpy(self._batch.bind("qpos"))
        self.qvel = torch.from_numpy(self._batch.bind("qvel"))
        self.ctrl = torch.from_numpy(self._batch.bind("ctrl"))
        self.diverged = torch.zeros(num_worlds, dtype=torch.bool)
        self.none_diverged = True
        self._rests = np.zeros(num_worlds, dtype=bool)
        self._awake: np.ndarray | None = None  # the numbers of the worlds to step, None for all
        # [W, kinds], since each world's reset
        self._num_warnings = torch.from_numpy(self._batch.warning[:, DIVERGED, 1])
        # [W, nq + nv]
        self._moving = torch.from_numpy(self._batch.state[:, _place_in_state(model)])
        self._params = {name: torch.from_numpy(self._batch.expand(name)) for name in per_world}
        self._after_step = (
            mujoco.mjtStage.mjSTAGE_ACC if current_fields else mujoco.mjtStage.mjSTAGE_NONE
        ).value
        # From the beginning, for a field holds nothing before the call that follows its first use.
        self._fields = {name: _tensor_to_read(self._batch.bind(name)) for name in fields}

    def step(self, num_substeps: int) -> None:
        if self._awake is None or len(self._awake):
            self._batch.step(self._awake, nstep=num_substeps, stage=self._after_step)
        # The last substep's result is checked by MuJoCo only at the start of the next. NaN compares
        # as False. First over all worlds at once, by a norm that no element exceeds, for every step
        # pays for this; in torch, as all that follows: the physics has emptied the caches, and a
        # second library would have to be fetched, too.
        if self._num_warnings.any() or not torch.linalg.vector_norm(self._moving) < mujoco.mjMAXVAL:
            self.diverged |= (self._num_warnings > 0).any(1) | ~(
                self._moving.abs().amax(1) < mujoco.mjMAXVAL
            )
            self.none_diverged = False

    def rest(self, worlds: Tensor) -> None:
        if bool(worlds.any()):
            self._let_rest(self._rests | worlds.numpy())

    def _let_rest(self, rests: np.ndarray) -> None:
        self._rests = rests
        self._awake = np.flatnonzero(~rests) if rests.any() else None

    def reset(self, worlds: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        check_reset(self, worlds, qpos, qvel)
        if not bool(worlds.any()):
            return
        mask = worlds.numpy()
        self._let_rest(self._rests & ~mask)
        self._batch.reset(mask, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.qpos[worlds] = qpos[worlds].to(self.qpos.dtype)
        self.qvel[worlds] = qvel[worlds].to(self.qvel.dtype)
        # Gymnasium's set_state does the same; it fills the solver's warm start, on which the next
        # step depends.
        self._batch.forward(mask)
        self.diverged &= ~worlds
        self.none_diverged = not bool(self.diverged.any())

    def param(self, name: str) -> Tensor:
        return chosen_param(self._params, name)

    def params_changed(self) -> None:
        self._batch.set_const()

    def field(self, name: str) -> Tensor:
        return chosen_field(self._fields, name)

    def check(self) -> None:
        """Nothing is left to look for: MuJoCo's memory grows where it must."""

    def host_data(self, world: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = self._batch.get_model(world) if self._params else self.model
        data = self._batch.get_data(world)
        mujoco.mj_forward(model, data)
        return model, data

    def close(self) -> None:
        """Nothing to release by hand: threads and memory go with the object."""

    def __getstate__(self) -> dict[str, Any]:
        """Is called by copy.deepcopy and pickle. The copy goes on as this would, bit for bit, in
        memory and threads of its own."""
        expanded = {name: self._batch.expanded(name) for name in MODEL_FIELDS}
        return {
            "settings": self._settings,
            "state": self._batch.state.copy(),
            "warnings": self._batch.warning.copy(),
            # Also what MuJoCo derived from `per_world`.
            "model_fields": {
                name: values.copy() for name, values in expanded.items() if values is not None
            },
            "fields": {name: value.clone() for name, value in self._fields.items()},
            "diverged": self.diverged.clone(),
            "rests": self._rests.copy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["settings"])  # type: ignore[misc]
        self._batch.state[:], self._batch.warning[:] = state["state"], state["warnings"]
        for name, values in state["model_fields"].items():
            self._batch.expand(name)[:] = values
        for name, value in state["fields"].items():
            self._fields[name].copy_(value)
        self.diverged.copy_(state["diverged"])
        self.none_diverged = not bool(self.diverged.any())
        self._let_rest(state["rests"])


def _place_in_state(model: mujoco.MjModel) -> slice:
    """Returns the part of a row of MuJoCo's state that holds qpos and qvel; the time comes
    first."""
    size = functools.partial(mujoco.mj_stateSize, model)
    start = size(mujoco.mjtState.mjSTATE_TIME)
    return slice(start, start + size(mujoco.mjtState.mjSTATE_QPOS | mujoco.mjtState.mjSTATE_QVEL))


def _tensor_to_read(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # Batch marks derived fields read-only; torch can't, and warns. Writing to one would be
        # lost, not harmful.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(array)
