"""One random stream for each world, for callers who seed worlds one by one. A BatchedEnv's `reset` takes one generator for all."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from metarl.rl.types import BatchedEnv

_DRAWS = {torch.rand, torch.randn, torch.randint}


def reset_from_streams(env: BatchedEnv, streams: Sequence[torch.Generator | None], *, first: bool) -> Tensor:
    """Resets the worlds that have a stream, each from its own: world i starts as a single world does from stream i.

    Args:
      streams: W; None for a world that goes on as it is.
      first: no world has been reset yet; then all must have a stream.
    Returns: the present observation of all worlds [W, O].
    Raises: NotImplementedError if the environment's reset draws by anything but rand, randn or randint with W rows.
    """
    stand_in = torch.Generator()
    worlds = None if first else torch.tensor([stream is not None for stream in streams])
    with _RowByRow(stand_in, streams):
        return env.reset(stand_in, worlds)


class _RowByRow(TorchFunctionMode):
    """Draws that name the generator `stand_in` take row i from stream i instead, and 0 where there is no stream."""

    def __init__(self, stand_in: torch.Generator, streams: Sequence[torch.Generator | None]) -> None:
        super().__init__()
        self._stand_in, self._streams = stand_in, streams

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is not self._stand_in:
            return func(*args, **kwargs)
        before, size = _split_size(args, kwargs)
        if func not in _DRAWS or not size or size[0] != len(self._streams):
            raise NotImplementedError(
                f"reset draws by {func.__name__} of size {size}; a stream for each world needs rand, randn or randint with "
                f"{len(self._streams)} rows, one for each world"
            )
        return _rows(lambda stream: func(*before, (1, *size[1:]), **{**kwargs, "generator": stream}), self._streams)


def _split_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """What comes before the size among the arguments, and the size: rand(3, 2), rand((3, 2)), randint(5, (3, 2))."""
    if "size" in kwargs:
        return args, tuple(kwargs.pop("size"))
    if args and isinstance(args[-1], tuple | list):
        return args[:-1], tuple(args[-1])
    return (), args


def _rows(draw: Callable[[torch.Generator], Tensor], streams: Sequence[torch.Generator | None]) -> Tensor:
    drawn = [None if stream is None else draw(stream) for stream in streams]
    blank = torch.zeros_like(next(row for row in drawn if row is not None))
    return torch.cat([blank if row is None else row for row in drawn])
