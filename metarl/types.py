"""The vocabulary of the suite on one page: what the meta-gradient core, the learners and the
training loop pass around.

N tasks, K inner steps. A *task* is what is adapted to; `support` is what one adapts on, `query`
what one is judged on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from metarl.struct import struct

Params = dict[str, Tensor]
"""Parameters by name. Stacked over tasks, every leaf has a leading dimension [N, ...]."""

Batch = Any
"""Any pytree of tensors: the data of one task, or with a leading dimension [N, ...] of N tasks."""

LossFn = Callable[[Params, Batch], Tensor]
"""One task's parameters and batch -> a scalar []."""

Metrics = dict[str, float]
"""What an iteration reports, by name."""


def as_metrics(values: Mapping[str, Tensor | float]) -> Metrics:
    """Makes numbers of what learners report. They compute with tensors [], so that each can become
    one value a seed, [S]; only here are they read."""
    return {
        name: value.item() if isinstance(value, Tensor) else value for name, value in values.items()
    }


class InnerRule(Protocol):
    """A rule of adaptation: it maps parameters and their gradients to the updated parameters."""

    def init(self, params: Params) -> Params:
        """The rule's own learned parameters (learning rates, ...), {} if there are none."""
        ...

    def __call__(self, params: Params, grads: Params, rule_params: Params, step: int) -> Params:
        """The parameters after inner step number `step` (0, 1, ...). Elementwise, hence the same
        with leaves [N, ...]."""
        ...


State = TypeVar("State")
T = TypeVar("T")


class Adapter(Protocol[State]):
    """Lets a meta-trained learner meet new tasks. Its state is stacked parameters [N, ...], or a
    hidden state, or a posterior."""

    def begin(self, num_tasks: int) -> State:
        """The state before any data."""
        ...

    def update(self, state: State, data: Batch) -> State:
        """The state after one more batch of every task; data has leaves [N, ...]."""
        ...


@struct
class Shard:
    """Consecutive entries of an experience, as they are saved."""

    first: int
    """The number of its first entry."""
    stop: int
    """The number after its last one."""
    content: dict[str, Any]
    """Tensors, numbers, strings and containers of them; no tensor is a view of a larger one."""


@struct
class Reserve:
    """Memory that is taken all at once, whatever comes in later."""

    num_bytes: int
    device: torch.device
    what: str
    """What it is made of, in the words of the settings: `replay_capacity=1000 transitions of 96
    bytes for each of 5 tasks`."""


class Experience(Protocol):
    """What a learner has gathered and learns from. It is kept apart from the learner's state
    because it is too large to be copied, searched for NaN and saved anew again and again.

    Entries come one after the other and have the numbers 0, 1, 2, ...; what an entry is (a trial,
    an episode) is up to the experience. They never change. Where there is no more room, the oldest
    go. An entry with numbers that aren't finite raises FloatingPointError when it comes, and isn't
    added: nobody looks for them later.
    """

    def reserve(self) -> Reserve | None:
        """Returns what memory the experience is yet to take at once; None if it has it, or grows
        with what it holds."""
        ...

    def mark(self) -> int:
        """Returns the number of the next entry. What comes from here on can be forgotten, until the
        next mark."""
        ...

    def forget_since(self, mark: int) -> None:
        """Takes the entries back that came since the last mark; those that went to make room for
        them are there again.

        Raises: ValueError if `mark` isn't what `mark()` returned last.
        """
        ...

    def kept(self) -> Sequence[int]:
        """Returns the numbers of the entries that are still there, at least in part, in ascending
        order."""
        ...

    def shards(self, since: int) -> Iterator[Shard]:
        """Yields the entries that are still there, from number `since` on, in pieces that are fit
        for a file each."""
        ...

    def load(self, shards: Iterable[Shard]) -> None:
        """Replaces all entries by those of the shards, after which it is, bit for bit, what they
        were made from.

        Raises: ValueError naming what doesn't fit.
        """
        ...


class Ranks(Protocol):
    """The processes that share the work of one run: each has a part of the tasks, all have the same
    parameters and random streams. Whatever they compute together is the same in all of them."""

    num: int
    rank: int
    """The number of this process: 0, 1, ..., num - 1. Number 0 alone writes."""

    def whole(self, tree: T) -> T:
        """A pytree with leaves [n, ...] of each process -> one with leaves [num · n, ...], those of
        process 0 first."""
        ...

    def total(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sums over the processes."""
        ...

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        ...

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Where the block raises a FloatingPointError in one process, it does in all."""
        ...


class Alone:
    """Meets `Ranks`: the only process of its run."""

    num, rank = 1, 0

    def whole(self, tree: T) -> T:
        return tree

    def total(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(tensors)

    def largest(self, number: int) -> int:
        return number

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        yield


ALONE = Alone()


class MetaLearner(Protocol):
    """What the training loop drives: a gradient, memory or model learner looks the same from
    outside.

    Who inherits from it has no experience and no end of a schedule unless it says so.
    """

    experience: Experience | None = None
    """What it learns from besides the data of its present iteration."""

    @property
    def schedule_end(self) -> int | None:
        """Returns the number of steps after which its rate has fallen to 0, so that no run goes on
        in vain; None: it never does."""
        return None

    def check_trainable(self) -> None:
        """Raises: SettingError if it could act here, but not learn: a learner is also made to be
        evaluated where it wasn't trained."""
        return

    def step(self) -> Metrics:
        """One meta-iteration: sample tasks, gather data, update."""
        ...

    def adapter(self) -> Adapter[Any]: ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, strings and containers of them only: it is loaded with
        weights_only=True. Without the experience."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
