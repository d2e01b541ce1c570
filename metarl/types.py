"""The vocabulary of the suite on one page: what the meta-gradient core, the learners and the training loop pass around.

N tasks, K inner steps. A *task* is what is adapted to; `support` is what one adapts on, `query` what one is judged on.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

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
    """Makes numbers of what learners report. They compute with tensors [], so that each can become one value a seed, [S]; only
    here are they read."""
    return {name: value.item() if isinstance(value, Tensor) else value for name, value in values.items()}


@struct
class TaskData:
    """What one meta-update consumes."""

    support: tuple[Batch, ...]
    """One batch per inner step (K of them), leaves [N, ...]. Few-shot has the same batch K times."""
    query: Batch
    """Leaves [N, ...]."""


class InnerRule(Protocol):
    """How one adapts: the map from parameters and their gradients to the updated parameters."""

    def init(self, params: Params) -> Params:
        """The rule's own learned parameters (learning rates, ...), {} if there are none."""
        ...

    def __call__(self, params: Params, grads: Params, rule_params: Params, step: int) -> Params:
        """The parameters after inner step number `step` (0, 1, ...). Elementwise, hence the same with leaves [N, ...]."""
        ...


State = TypeVar("State")


class Adapter(Protocol[State]):
    """How a meta-trained learner meets new tasks. Its state is stacked parameters [N, ...], or a hidden state, or a posterior."""

    def begin(self, num_tasks: int) -> State:
        """The state before any data."""
        ...

    def update(self, state: State, data: Batch) -> State:
        """The state after one more batch of every task; data has leaves [N, ...]."""
        ...


class MetaLearner(Protocol):
    """What the training loop drives: a gradient, memory or model learner looks the same from outside.

    One whose rate falls to 0 says in an attribute `schedule_end` after how many steps, so that no run goes on in vain.
    """

    def step(self) -> Metrics:
        """One meta-iteration: sample tasks, gather data, update."""
        ...

    def adapter(self) -> Adapter[Any]: ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, strings and containers of them only: it is loaded with weights_only=True."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
