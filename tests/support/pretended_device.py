"""A device that isn't there: its tensors lie in the CPU's memory, say that they are elsewhere, and
refuse to meet the CPU's own.

With it a machine without a GPU finds the tensors that a learner forgot to move. What is computed
are the CPU's numbers.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

_MAY_MIX = (  # moves, and indices, which CUDA, too, takes from the CPU
    torch.ops.aten._to_copy.default,
    torch.ops.aten.copy_.default,
    torch.ops.aten.index.Tensor,
)
_JOIN = (torch.ops.aten.stack, torch.ops.aten.cat)
_READS = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Inside, tensors can be made on the device or moved to it."""
    device = _registered()
    with _Dispatch(), _Functions():
        yield device


@cache
def _registered() -> torch.device:
    # For back-ends that are written in Python; torch calls it experimental.
    backend_registration._setup_privateuseone_for_python_backend("pretended")
    return torch.device("pretended", 0)


class ItsGenerator(torch.Generator):
    """A generator that draws the CPU's numbers, and has states that no CPU's generator takes: of 16
    bytes, as CUDA's."""

    _states: ClassVar[dict[bytes, Tensor]] = {}

    def get_state(self) -> Tensor:
        state = super().get_state()
        name = hashlib.sha256(state.numpy().tobytes()).digest()[:16]
        self._states[name] = state
        return torch.frombuffer(bytearray(name), dtype=torch.uint8)

    def set_state(self, new_state: Tensor) -> torch.Generator:
        if len(new_state) != 16:
            raise RuntimeError("RNG state is wrong size")
        return super().set_state(self._states[new_state.numpy().tobytes()])


class _Elsewhere(Tensor):
    """A tensor of the device; `here` is where it really lies."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor) -> "_Elsewhere":
        places = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        made = Tensor._make_wrapper_subclass(
            cls, here.size(), dtype=here.dtype, device=_registered(), **places
        )
        made.here = here
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Is saved as a tensor of the CPU; files are read back as such."""
        return self.here.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What torch can't do for a device of one's own: recurrent cells, whose fused kernels belong to
    the CPU and to CUDA, and reading a list."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        replaced = _REPLACED.get(function)
        return function(*args, **(kwargs or {})) if replaced is None else replaced(*args)


def _run(function: Any, args: Any, kwargs: Any) -> Any:
    elsewhere: list[_Elsewhere] = []
    strangers: list[Tensor] = []
    numbers: list[Tensor] = []  # of no dimension, which CUDA takes beside others in arithmetic

    def here(x: Any) -> Any:  # torch's own pytrees take five times as long
        if isinstance(x, _Elsewhere):
            elsewhere.append(x)
            return x.here
        if isinstance(x, Tensor):
            (strangers if x.dim() > 0 else numbers).append(x)
        return type(x)(map(here, x)) if isinstance(x, list | tuple) else x

    written = [args[0]] if args and function._schema.is_mutable else []
    written += [kwargs[name] for name in ("out",) if name in kwargs]
    args, kwargs = here(args), {name: here(x) for name, x in kwargs.items()}
    if function.overloadpacket in _JOIN or any(x is number for x in written for number in numbers):
        strangers += numbers
    if elsewhere and strangers and function not in _MAY_MIX:
        shapes = [tuple(tensor.shape) for tensor in strangers]
        raise RuntimeError(f"{function}: tensors {shapes} on the cpu meet others on the device")
    given = kwargs.get("device")
    on_device = bool(elsewhere) if given is None else torch.device(given).type == "pretended"
    found = function(*args, **({**kwargs, "device": "cpu"} if given is not None else kwargs))
    if not on_device or function in _READS:
        return found
    # What is written in place stays the very tensor that it was.
    known = {id(tensor.here): tensor for tensor in elsewhere}
    known |= {id(tensor): tensor for tensor in strangers}

    def there(x: Any) -> Any:
        if isinstance(x, Tensor):
            return known[id(x)] if id(x) in known else _Elsewhere(x)
        return type(x)(map(there, x)) if isinstance(x, list | tuple) else x

    return there(found)


def _gru_cell(x: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
    of_input, of_state, bias_input, bias_state = weights
    i, h = (
        functional.linear(x, of_input, bias_input).chunk(3, -1),
        functional.linear(hidden, of_state, bias_state).chunk(3, -1),
    )
    keep = (i[1] + h[1]).sigmoid()
    new = (i[2] + (i[0] + h[0]).sigmoid() * h[2]).tanh()
    return (hidden - new) * keep + new


def _lstm_cell(x: Tensor, state: tuple[Tensor, Tensor], *weights: Tensor) -> tuple[Tensor, Tensor]:
    of_input, of_state, bias_input, bias_state = weights
    gates = functional.linear(x, of_input, bias_input) + functional.linear(
        state[0], of_state, bias_state
    )
    entered, kept, new, shown = gates.chunk(4, -1)
    cell = kept.sigmoid() * state[1] + entered.sigmoid() * new.tanh()
    return shown.sigmoid() * cell.tanh(), cell


def _gru(x: Tensor, hidden: Tensor, weights: list[Tensor], *_: Any) -> tuple[Tensor, Tensor]:
    state, outputs = hidden[0], []
    for row in x.unbind(0):
        state = _gru_cell(row, state, *weights)
        outputs.append(state)
    return torch.stack(outputs), state[None]


def _lstm(
    x: Tensor, hidden: tuple[Tensor, Tensor], weights: list[Tensor], *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    state, outputs = (hidden[0][0], hidden[1][0]), []
    for row in x.unbind(0):
        state = _lstm_cell(row, state, *weights)
        outputs.append(state[0])
    return torch.stack(outputs), state[0][None], state[1][None]


def _list(tensor: Tensor) -> Any:
    return (tensor.here if isinstance(tensor, _Elsewhere) else tensor).tolist()


_REPLACED = {
    torch.Tensor.tolist: _list,
    torch.gru_cell: _gru_cell,
    torch.lstm_cell: _lstm_cell,
    torch._VF.gru: _gru,
    torch._VF.lstm: _lstm,
}
