"""CUDA graphs without a GPU: what torch does is recorded operation by operation, with its very
tensors, and replayed into the same memory, without asking Python again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils._pytree as pytree
from support.waits import _READS, Waited, no_waits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten


class EmulatedGraphs:
    """Does what `metarl.rl.data.cuda_graphs.CudaGraphs` does. Counts what it did.

    Args: generators: those that may be drawn from; a CUDA graph knows of no others.
    """

    made: "list[EmulatedGraphs]" = []
    breaks_off_as_cuda_does = False
    """Whether what can't be recorded is a RuntimeError, after which others may go on otherwise."""

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        self._generators = generators
        self.num_warmed_up = 0
        self.num_replays = 0
        self.operations: list[int] = []
        """How many each recording has."""
        self.made.append(self)

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        self.num_warmed_up += 1
        yield

    def recorded(self, work: Callable[[], None], *, draws: bool) -> Callable[[], None]:
        recording = Recording(self._generators if draws else ())
        try:
            with no_waits(), recording:
                work()
        except Waited as error:
            if not self.breaks_off_as_cuda_does:
                raise
            raise RuntimeError("the recording has broken off") from error
        finally:
            recording.undo()
        self.operations.append(len(recording.operations))

        def replay() -> None:
            self.num_replays += 1
            recording.replay()

        return replay


class Recording(TorchDispatchMode):
    """The operations of one run. As the operations of a capture, they have come to nothing after
    `undo`."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self._generators = [(generator, generator.get_state()) for generator in generators]
        self._overwritten: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self._check(function, args, kwargs)
        for argument, value in _arguments(function, args, kwargs):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._overwritten.append((value, value.clone()))
        found = function(*args, **kwargs)
        self.operations.append((function, args, kwargs, found))
        return found

    @torch.inference_mode()  # In which some of it may have been done.
    def undo(self) -> None:
        for tensor, before in reversed(self._overwritten):
            tensor.copy_(before)
        for generator, before in self._generators:
            generator.set_state(before)

    @torch.inference_mode()
    def replay(self) -> None:
        for function, args, kwargs, found in self.operations:
            if "empty" in function.name() or _is_view(function, args, found):
                continue
            again = function(*args, **kwargs)
            pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(again), strict=True)
            for old, new in pairs:
                if isinstance(old, Tensor) and old is not new:
                    old.copy_(new)

    def _check(self, function: Any, args: Any, kwargs: Any) -> None:
        """On the CPU, where nothing waits, what would wait on a GPU."""
        if function in _READS:
            raise Waited(f"{function} {_READS[function]}")
        if function is _aten.lift_fresh.default:
            raise Waited("a constant that Python makes is copied to the device")
        if function in (_aten.index.Tensor, _aten.index_put_.default):
            indices = [x for x in args[1] if isinstance(x, Tensor)]
            if any(index.dtype is torch.bool for index in indices):
                raise Waited(f"{function} counts what is True")
        if torch.Tag.nondeterministic_seeded in function.tags:
            known = {generator._cdata for generator, _ in self._generators}
            if getattr(kwargs.get("generator"), "_cdata", None) not in known:
                raise Waited(f"{function} draws from a generator that isn't registered")


def _is_view(function: Any, args: Any, found: Any) -> bool:
    """Whether there is nothing to do again. In inference mode `to` and `reshape` come as they are,
    which may copy or not."""
    of = {_memory(leaf) for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)}
    return bool(function.is_view) and of == {_memory(args[0])}


def _memory(tensor: Tensor) -> int:
    return getattr(tensor, "here", tensor).untyped_storage().data_ptr()


def _arguments(function: Any, args: Any, kwargs: Any) -> Iterator[tuple[Any, Any]]:
    for place, argument in enumerate(function._schema.arguments):
        if place < len(args):
            yield argument, args[place]
        elif argument.name in kwargs:
            yield argument, kwargs[argument.name]
