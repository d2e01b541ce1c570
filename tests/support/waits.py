"""What would make Python wait for a GPU, found without one: on the pretended device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils._pytree as pytree
from support.pretended_device import _Elsewhere
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from envs.mujoco.env import MujocoEnv

_aten = torch.ops.aten
_READS = {
    _aten.item.default: "reads a value",
    _aten._local_scalar_dense.default: "reads a value",
    _aten.is_nonzero.default: "reads a value",
    _aten.nonzero.default: "counts what is True",
    _aten.masked_select.default: "counts what is True",
    _aten.equal.default: "compares to the end",
    _aten._linalg_check_errors.default: "looks for a singular matrix",
}


class Waited(AssertionError):
    """Something inside `no_waits` would have waited for the device, or copied to or from it."""


class _NoWaits(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        leaves = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if any(isinstance(leaf, _Elsewhere) for leaf in leaves):
            self._check(function, args, leaves)
        if function is _aten._to_copy.default and kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type == "pretended"
            if there != isinstance(args[0], _Elsewhere):
                raise Waited(f"{function} copies to or from the device")
        return function(*args, **kwargs)

    def _check(self, function: Any, args: Any, leaves: list[Tensor]) -> None:
        if function in _READS:
            raise Waited(f"{function} {_READS[function]}")
        if function is _aten.copy_.default and len({isinstance(x, _Elsewhere) for x in leaves}) > 1:
            raise Waited(f"{function} copies to or from the device")
        if "index" in str(function) and isinstance(args[0], _Elsewhere) and len(args) > 1:
            indices = [x for x in pytree.tree_leaves(args[1]) if isinstance(x, Tensor)]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                raise Waited(f"{function} counts what is True")
            if any(not isinstance(index, _Elsewhere) for index in indices):
                raise Waited(f"{function} copies its index to the device")


class _NoLists(TorchFunctionMode):
    """`tolist` never comes to the operations that a dispatch mode sees."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.tolist and isinstance(args[0], _Elsewhere):
            raise Waited("tolist reads values")
        return function(*args, **(kwargs or {}))


@contextmanager
def no_waits() -> Iterator[None]:
    """Raises `Waited` at the first thing inside that would wait, or copy."""
    with _NoLists(), _NoWaits():
        yield


def moved_away(env: MujocoEnv[Any], device: torch.device) -> None:
    """Lets the tensors of an environment's simulator say that they lie on the device, as those of a
    simulator on a GPU do; MuJoCo's C engine goes on behind them."""
    sim: Any = env.sim
    step, reset, params, fields = sim.step, sim.reset, sim._params, sim._fields
    live = {name: vars(sim)[name] for name in ("time", "qpos", "qvel", "ctrl", "diverged")}
    away = {name: _Elsewhere(tensor) for name, tensor in live.items()}

    def step_here(num_substeps: int) -> None:
        vars(sim).update(live)
        step(num_substeps)
        vars(sim).update(away, none_diverged=False)  # To know would be a wait.

    def reset_here(*args: Tensor) -> None:
        vars(sim).update(live)
        reset(*(arg.here if isinstance(arg, _Elsewhere) else arg for arg in args))
        vars(sim).update(away, none_diverged=False)

    def rest_nowhere(worlds: Tensor) -> None:
        """On a GPU all worlds take their steps together."""

    vars(sim).update(away, none_diverged=False, device=device)
    vars(sim).update(step=step_here, reset=reset_here, rest=rest_nowhere)
    vars(sim).update(
        _params={name: _Elsewhere(tensor) for name, tensor in params.items()},
        _fields={name: _Elsewhere(tensor) for name, tensor in fields.items()},
    )
    env.mdp.to(device, live["qpos"].dtype)
    env._drive.to(device, live["ctrl"].dtype)
    env.device = env._episodes.device = device
    env._measured = _moved(env._measured)
    for name in ("_counted", "_nowhere", "_present"):
        setattr(env._episodes, name, _moved(getattr(env._episodes, name)))


def _moved(tree: Any) -> Any:
    return pytree.tree_map(lambda x: _Elsewhere(x) if isinstance(x, Tensor) else x, tree)
