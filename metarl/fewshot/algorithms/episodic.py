"""Learners whose answer is one function of the support set and the question, trained episode by
episode: nothing adapts at test time but what the support set says. Prototypical networks, matching
networks and neural processes are such functions.
"""

from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_counts
from metarl.errors import SettingError
from metarl.fewshot.algorithms.shared import Setting, TrainedModule, answer_metrics
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Examples, FewShotLearner, Needs, TaskSource
from metarl.nn.batch_norm import use_running_statistics
from metarl.types import Metrics, as_metrics


class Answer(Protocol):
    """A module that answers: logits [N, B, W] or values [N, B, O] for x [N, B, ...] after the
    support Examples [N, S, ...]."""

    def __call__(self, support: Examples, x: Tensor) -> Tensor: ...


class EpisodicAdapter:
    """Meets FewShotAdapter. Its state is the support set; before any it answers that all is equally
    likely, or zero."""

    num_updates = 1
    transductive = False

    def __init__(self, answer: nn.Module, num_outputs: int) -> None:
        self._answer = answer
        self._num_outputs = num_outputs

    def begin(self, num_tasks: int) -> Examples | None:
        return None

    def update(self, state: Examples | None, data: Examples) -> Examples | None:
        return data

    @torch.no_grad()
    def predict(self, state: Examples | None, x: Tensor) -> Tensor:
        if state is None:
            return x.new_zeros(*x.shape[:2], self._num_outputs)
        self._answer.eval()
        return cast(Answer, self._answer)(state, x)


class Episodic(FewShotLearner):
    """One iteration: draw N tasks and take an Adam step on the mean loss of the answers to their
    queries.

    Args:
      answer: meets Answer; moved to the device, its batch norms made such that keep running
        statistics.
      train_ways: of the training tasks; None: as many. Metric learners profit from more ways than
        they are tested with.
      halve_every: iterations after which Adam's rate is halved, again and again; None: never.
      any_ways: whether it tells any number of classes apart, not only as many as in training.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        *,
        answer: nn.Module,
        setting: Setting,
        train_ways: int | None,
        num_outputs: int,
        meta_batch_size: int,
        outer_lr: float,
        halve_every: int | None,
        any_ways: bool = True,
    ) -> None:
        check_counts({"meta_batch_size": meta_batch_size})
        self._setting = setting
        self._size = setting.training_size(train_ways)
        self._num_tasks = meta_batch_size
        self._num_outputs = num_outputs
        self._any_ways = any_ways
        self._objective = OBJECTIVES[setting.source.spec.kind]
        # Faster; see Conv4.forward. Torch's annotations don't know of this argument.
        placed = use_running_statistics(answer).to(setting.device)
        self._answer = placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._descent = TrainedModule(answer, lr=outer_lr, halve_every=halve_every)

    def adapter(self) -> EpisodicAdapter:
        return EpisodicAdapter(self._answer, self._num_outputs)

    def needs(self) -> Needs:
        return Needs(training=self._size, set_by=("train_ways",), any_ways=self._any_ways)

    def step(self) -> Metrics:
        episodes = self._setting.draw(self._num_tasks, self._size)
        self._answer.train()
        prediction = cast(Answer, self._answer)(episodes.support, episodes.query.x)
        self._check(prediction, episodes.query.x)
        found = answer_metrics(self._objective, prediction, episodes.query.y)
        self._descent.step(found["loss"])
        return {"tasks": self._num_tasks, **as_metrics(found)}

    def _check(self, prediction: Any, x: Tensor) -> None:
        """Raises: SettingError unless there is an answer to each question of each task."""
        of_classes = self._setting.source.spec.kind == "classification"
        outputs = self._size.ways if of_classes else self._num_outputs
        expected = [*x.shape[:2], outputs]
        if not isinstance(prediction, Tensor) or list(prediction.shape) != expected:
            is_tensor = isinstance(prediction, Tensor)
            found = list(prediction.shape) if is_tensor else f"a {type(prediction).__name__}"
            raise SettingError(
                f"{type(self._answer).__name__} answered {found} to the questions of "
                f"{len(x)} tasks; expected a tensor {expected}: tasks, questions, "
                f"{'classes' if of_classes else 'values'}"
            )

    def state_dict(self) -> dict[str, Any]:
        return self._descent.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._descent.load_state_dict(state)


def need_classes(source: TaskSource, learner: str) -> None:
    """Raises: ValueError unless the tasks are classifications."""
    if source.spec.kind != "classification":
        raise SettingError(
            f"{learner} tells classes apart; dataset {source.spec.name} is a {source.spec.kind}"
        )


def embedded(embed: nn.Module, support: Examples, x: Tensor) -> tuple[Tensor, Tensor]:
    """The features [N, S, F] of the support set and [N, B, F] of the questions, from one batch: in
    training a batch norm must see both alike."""
    together = torch.cat([support.x, x], dim=1)
    features = embed(together.flatten(0, 1)).unflatten(0, together.shape[:2])
    own, asked = features.split([support.x.shape[1], x.shape[1]], dim=1)
    return own, asked


def class_means(values: Tensor, y: Tensor) -> Tensor:
    """The means [N, W, F] of values [N, S, F] over each class of labels y [N, S]."""
    labels = functional.one_hot(y).to(values.dtype)  # [N, S, W]
    return (labels.mT @ values) / labels.sum(1).unsqueeze(-1)
