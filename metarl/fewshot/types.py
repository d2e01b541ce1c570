"""What supervised few-shot learning passes around: episodes of N tasks, where they come from, and
the adapter that answers.

N tasks, B examples of a task, W ways (classes of a task), S shots (support examples of a class).
"""

import hashlib
import json
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from metarl.struct import struct
from metarl.types import Adapter, MetaLearner

Split = Literal["train", "validation", "test"]


@struct
class Examples:
    """Inputs with their answers, of one task [B, ...] or of N tasks [N, B, ...]. In no order that
    tells anything."""

    x: Tensor  # [N, B, ...] float: points [N, B, D], pictures [N, B, C, H, W] in 0..1
    y: Tensor  # [N, B] int64 labels 0..W-1, or [N, B, O] float values


@struct
class Episodes:
    """N tasks: what one learns from and what one is judged on. Leaves [N, B, ...]."""

    support: Examples
    query: Examples


@struct
class TaskSize:
    """How large a task is. Regression has one way."""

    ways: int
    shots: int  # support examples of each class
    queries: int  # query examples of each class

    def __str__(self) -> str:
        return f"{self.ways}-way {self.shots}-shot" if self.ways > 1 else f"{self.shots} points"


@struct
class DataSpec:
    """Defines the problem that a number belongs to. Two results are comparable only if their
    `spec_hash` is equal."""

    name: str
    kind: Literal["classification", "regression"]
    input_shape: tuple[int, ...]  # of one example
    num_values: int  # outputs of a regression; 0 for classes
    splits: tuple[Split, ...]  # that exist
    definition: dict[str, Any]  # everything else that defines the problem (JSON values)

    @property
    def spec_hash(self) -> str:
        """12 hex digits over all fields; stable across processes and Python versions."""
        content = [
            self.name,
            self.kind,
            self.input_shape,
            self.num_values,
            self.splits,
            self.definition,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def num_outputs(self, ways: int) -> int:
        """Returns how many numbers a network must give for an example."""
        return ways if self.kind == "classification" else self.num_values


@struct
class Streams:
    """The random streams of a learner; see `metarl.run.seeding`. All on the CPU."""

    init: torch.Generator  # initial parameters
    tasks: torch.Generator  # training tasks
    noise: torch.Generator  # whatever else the learner draws


class TaskSource(Protocol):
    """A distribution over tasks, split so that nothing of a test task is ever seen in training."""

    spec: DataSpec

    def to(self, device: torch.device | str) -> "TaskSource":
        """The same tasks from data on the device; what is drawn is the same."""
        ...

    def sample(
        self, num: int, size: TaskSize, generator: torch.Generator, split: Split = "train"
    ) -> Episodes:
        """`num` tasks of a split. Equal generators draw equal tasks.

        Raises: ValueError if the split has fewer classes, or a class fewer examples, than `size`
        asks for.
        """
        ...


State = TypeVar("State")


class FewShotAdapter(Adapter[State], Protocol[State]):
    """An adapter that answers. `update` takes the support Examples [N, B, ...]; gradient learners
    take an inner step on them, others take them in, and taking them in again changes nothing."""

    num_updates: int
    """How many updates the adapter is meant for at test time."""
    transductive: bool
    """Whether an answer may depend on the other questions that are answered with it, as with a
    batch norm of the query."""

    def begin(self, num_tasks: int) -> State:
        """The state before any data; it can answer, too, if only with a guess."""
        ...

    def update(self, state: State, data: Examples) -> State: ...

    def predict(self, state: State, x: Tensor) -> Tensor:
        """Logits [N, B, W] or values [N, B, O] for x [N, B, ...]."""
        ...


@struct
class Needs:
    """What a learner asks of a dataset and of an evaluation, so that no run begins that would end
    with an error."""

    training: TaskSize
    """The size of the tasks that the learner trains on."""
    set_by: tuple[str, ...] = ()
    """The learner's own settings that this size comes from, beside the run's; errors name them."""
    sequences: TaskSize | None = None
    """The size of the tasks that the learner draws from the evaluated split for a measure of its
    own; None: it draws none."""
    any_ways: bool = False
    """Whether the learner can answer for other numbers of classes than that of its training."""


class FewShotLearner(MetaLearner, Protocol):
    """A meta-learner whose adapter answers."""

    def adapter(self) -> FewShotAdapter[Any]: ...

    def needs(self) -> Needs: ...
