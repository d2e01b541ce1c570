"""One iteration of training, all of it or nothing: where it meets a number that isn't finite,
everything is as before it."""

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from metarl.errors import SettingError
from metarl.run.global_streams import GlobalStreams
from metarl.run.seeding import Generators
from metarl.run.shown import Shown
from metarl.run.timing import Stopwatch
from metarl.struct import all_finite, map_tensors, named_leaves
from metarl.types import MetaLearner, Metrics


class RunState:
    """A learner with its random streams, and how far it is."""

    def __init__(self, learner: MetaLearner, generators: Generators, shown: Shown) -> None:
        self.learner = learner
        self.shown = shown
        self._generators = generators
        self.iteration = 0
        """How many iterations are done."""
        self.count = 0
        self.stopwatch = Stopwatch()

    def iterate(self) -> Metrics:
        """Does one iteration. If it fails, everything is as before it, bit for bit.

        Raises: FloatingPointError naming the metric or the tensor that isn't finite.
        """
        with self._all_or_nothing(), self._global_streams():
            return self._checked(self.learner.step())

    def asking(self) -> Generator[Any, Any, Metrics]:
        """Does one iteration as `iterate`, of a learner that asks for its data: yields what it asks
        for, to be sent the data, or to be thrown the FloatingPointError that came instead."""
        learner: Any = self.learner
        streams, asking = self._global_streams(), learner.asking()
        with self._all_or_nothing():
            answer, error = None, None
            while True:
                try:
                    with streams:  # Others' iterations go on between its questions.
                        asked = asking.send(answer) if error is None else asking.throw(error)
                except StopIteration as end:
                    return self._checked(end.value)
                answer, error = None, None
                try:
                    answer = yield asked
                except FloatingPointError as failed:
                    error = failed

    def _global_streams(self) -> GlobalStreams:
        """The global random numbers of the next iteration."""
        return GlobalStreams(self._generators.seed, "iteration", self.iteration)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        before = _Before(self.learner, self._generators)
        try:
            yield
        except FloatingPointError:
            before.restore()
            raise

    def _checked(self, metrics: Any) -> Metrics:
        """The metrics of an iteration that is done, once all is found to be finite."""
        if not isinstance(metrics, Mapping):
            raise TypeError(
                f"an iteration of {type(self.learner).__name__} returned {metrics!r:.60}; expected "
                "its metrics, numbers by name"
            )
        metrics = {name: _number(name, value) for name, value in metrics.items()}
        if missing := self.shown.missing(metrics):
            raise TypeError(
                f"the metrics of {type(self.learner).__name__} lack {missing}; they are "
                f"{', '.join(metrics) or 'none'}"
            )
        _check_finite(metrics, self.learner.state_dict())
        self.count += int(metrics[self.shown.count])
        self.iteration += 1
        return metrics

    def content(self) -> dict[str, Any]:
        """Returns what a checkpoint holds of the run."""
        return {
            "iteration": self.iteration,
            self.shown.count: self.count,
            "seconds": self.stopwatch.seconds(),
            "learner": self.learner.state_dict(),
            "generators": self._generators.state_dict(),
        }

    def load(self, content: Mapping[str, Any]) -> list[str]:
        """Returns what there is to say of it. Raises: SettingError if the learner doesn't take its
        state back."""
        self.learner.load_state_dict(content["learner"])
        check_loaded(self.learner, content["learner"])
        anew = self._generators.load_state_dict(content["generators"])
        self.iteration = content["iteration"]
        self.count = content[self.shown.count]
        self.stopwatch = Stopwatch(content.get("seconds", 0.0))
        if not anew:
            return []
        return [
            f"random streams that were saved on another kind of device begin anew: {', '.join(anew)}"
        ]


def check_loaded(learner: MetaLearner, state: Mapping[str, Any]) -> None:
    """Raises: SettingError naming a tensor that isn't what was loaded, for a learner would go on with
    others in silence. What only one of the two has is of another version."""
    found = dict(named_leaves(learner.state_dict()))
    for name, leaf in named_leaves(state):
        there = found.get(name, leaf)
        if not isinstance(leaf, Tensor) or not isinstance(there, Tensor):
            continue
        if there.shape != leaf.shape or not torch.equal(there.detach().to(leaf), leaf):
            raise SettingError(
                f"{type(learner).__name__}.load_state_dict has left {name} as it was; expected it to "
                "take back all that state_dict gives"
            )


class _Before:
    """The learner, its experience and the random streams as they were, to go back to if an
    iteration goes wrong."""

    def __init__(self, learner: MetaLearner, generators: Generators) -> None:
        self._learner = learner
        self._generators = generators
        self._experience = learner.experience
        self._state = map_tensors(lambda leaf: leaf.detach().clone(), learner.state_dict())
        self._streams = generators.state_dict()
        self._mark = 0 if self._experience is None else self._experience.mark()

    def restore(self) -> None:
        self._learner.load_state_dict(self._state)
        self._generators.load_state_dict(self._streams)
        if self._experience is not None:
            self._experience.forget_since(self._mark)


def _number(name: str, value: Any) -> float:
    """A metric as a number of Python; learners may give one of numpy or a tensor []. Raises:
    SettingError."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, int | float):
        shape = f" of shape {list(value.shape)}" if getattr(value, "ndim", 0) else ""
        raise SettingError(f"metric {name} is a {type(value).__name__}{shape}; expected a number")
    return value


def _check_finite(metrics: Metrics, state: Mapping[str, Any]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"metric {name} is {value}")
    tensors = [(name, leaf) for name, leaf in named_leaves(state) if isinstance(leaf, Tensor)]
    if all_finite(tensor for _, tensor in tensors):
        return
    for name, tensor in tensors:
        if not tensor.isfinite().all():
            raise FloatingPointError(f"tensor {name} holds NaN or infinity")
