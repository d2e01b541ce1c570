"""The baselines that know no tasks: a network is trained on all training data together, then a test
task is answered by fine-tuning it on the support set, or by the nearest neighbour in its features.

Sources: the baselines of Ravi & Larochelle 2017 (Optimization as a model for few-shot learning,
ICLR), section 5.1, and of Finn et al. 2017 (arXiv:1703.03400), section 5.1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from metarl.core import params as P
from metarl.core.checks import check_counts, check_positive
from metarl.core.rules import named_rule
from metarl.fewshot.algorithms.episodic import EpisodicAdapter, need_classes
from metarl.fewshot.algorithms.nearest_neighbour import NearestNeighbour
from metarl.fewshot.algorithms.shared import Setting, TrainedModule, answer_metrics
from metarl.fewshot.deferred import DeferredTasks
from metarl.fewshot.gradient_adapter import GradientAdapter
from metarl.fewshot.images import ImageTasks
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import (
    Examples,
    FewShotAdapter,
    FewShotLearner,
    Needs,
    TaskSize,
    TaskSource,
)
from metarl.nn.batch_norm import use_running_statistics
from metarl.nn.features import WithHead
from metarl.struct import map_tensors
from metarl.types import Metrics, as_metrics


class Pretrain(FewShotLearner):
    """One iteration: an Adam step on the mean loss of a batch of training examples, whichever tasks
    they come from.

    Pictures are told apart into all classes of the training split. Where classes mean something in
    a task only, and for values, the examples of several tasks are taken as if they came from one;
    for sinusoids the best answer is then the mean over waves.

    Args:
      batch_size: examples of an iteration; rounded up to whole tasks where it is tasks that are
        drawn.
      answers_by: makes the adapter from the trained features and the head that was trained with
        them.
      See also configs/learner/pretrain.yaml.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        *,
        setting: Setting,
        answers_by: Callable[[WithHead], FewShotAdapter[Any]],
        batch_size: int,
        outer_lr: float,
        halve_every: int | None,
    ) -> None:
        check_counts({"batch_size": batch_size})
        self._setting = setting
        self._answers_by = answers_by
        self._objective = OBJECTIVES[setting.source.spec.kind]
        self._batch = _pool(setting.source, setting.size, batch_size)
        num_outputs = _num_outputs(setting.source, setting.size)
        embed = use_running_statistics(setting.embed)
        self._network = WithHead(embed, num_outputs, setting.streams.init).to(setting.device).eval()
        self._descent = TrainedModule(self._network, lr=outer_lr, halve_every=halve_every)

    def adapter(self) -> FewShotAdapter[Any]:
        return self._answers_by(self._network)

    def needs(self) -> Needs:
        # Where classes mean something in a task only, it has learned to tell that many apart.
        any_ways = _num_classes(self._setting.source) is not None
        return Needs(training=self._setting.training_size(), any_ways=any_ways)

    def step(self) -> Metrics:
        batch = map_tensors(
            lambda leaf: leaf.to(self._setting.device), self._batch(self._setting.streams.tasks)
        )
        self._network.train()
        answer = self._network(batch.x)
        self._network.eval()  # Adapters share the network.
        found = answer_metrics(self._objective, answer, batch.y)
        self._descent.step(found["loss"])
        return {
            "tasks": 1,  # that of telling all apart
            "examples": len(batch.x),
            **as_metrics(found),
        }

    def state_dict(self) -> dict[str, Any]:
        return self._descent.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._descent.load_state_dict(state)


def _num_outputs(source: TaskSource, size: TaskSize) -> int:
    """How many outputs tell the training examples apart: all training classes where there is a list
    of them."""
    classes = _num_classes(source)
    return source.spec.num_outputs(size.ways) if classes is None else classes


def _num_classes(source: TaskSource) -> int | None:
    """How many training classes there are, which the spec of our pictures says also where they
    aren't read; None where there is no list of them. What others' sources write there is theirs."""
    if not isinstance(source, ImageTasks | DeferredTasks):
        return None
    classes: int | None = source.spec.definition.get("num_classes", {}).get("train")
    return classes


def _pool(source: TaskSource, size: TaskSize, count: int) -> Callable[[torch.Generator], Examples]:
    """Returns a function that draws `count` training examples or more, [B, ...]."""
    if isinstance(source, ImageTasks):
        classes = source.classes("train")
        label = torch.arange(len(classes.counts)).repeat_interleave(classes.counts)

        def pictures(generator: torch.Generator) -> Examples:
            rows = torch.randint(len(label), (count,), generator=generator)
            chosen = classes.pictures[rows.to(classes.pictures.device)]
            return Examples(x=chosen.float() / 255, y=label[rows])

        return pictures

    num_tasks = math.ceil(count / (size.ways * (size.shots + size.queries)))

    def tasks(generator: torch.Generator) -> Examples:
        episodes = source.sample(num_tasks, size, generator)
        both = (episodes.support, episodes.query)
        return Examples(
            x=torch.cat([part.x.flatten(0, 1) for part in both]),
            y=torch.cat([part.y.flatten(0, 1) for part in both]),
        )

    return tasks


def pretrain(
    *,
    setting: Setting,
    inner_lr: float,
    num_test_steps: int,
    adapt_only: Sequence[str] | None,
    **settings: Any,
) -> Pretrain:
    """Fine-tunes by gradient steps on the support set. Args: see configs/learner/pretrain.yaml.

    A task's classes are new, so that they get a new head, zero at first; values keep the one that
    was trained.

    Raises: ValueError, naming it, for a number out of range or an `adapt_only` that names no
    parameter.
    """
    check_counts({"num_test_steps": num_test_steps})
    check_positive({"inner_lr": inner_lr})
    rule, spec = named_rule("sgd", inner_lr, adapt_only=adapt_only), setting.source.spec

    def fine_tuning(trained: WithHead) -> GradientAdapter:
        network = (
            _with_new_head(trained, setting.size.ways) if spec.kind == "classification" else trained
        )
        return GradientAdapter(
            network,
            P.of(network),
            rule,
            rule.init(P.of(network)),
            OBJECTIVES[spec.kind],
            num_updates=num_test_steps,
            transductive=False,
        )

    learner = Pretrain(setting=setting, answers_by=fine_tuning, **settings)
    learner.adapter()  # So that a wrong adapt_only is named before the training.
    return learner


def nearest_embedding(*, setting: Setting, **settings: Any) -> Pretrain:
    """Answers by the nearest neighbour in the trained features. Args: see
    configs/learner/nearest_embedding.yaml.

    Raises: ValueError for a regression.
    """
    need_classes(setting.source, "nearest_embedding")

    def nearest(trained: WithHead) -> EpisodicAdapter:
        return EpisodicAdapter(NearestNeighbour(trained.embed), setting.size.ways)

    return Pretrain(setting=setting, answers_by=nearest, **settings)


def _with_new_head(trained: WithHead, ways: int) -> WithHead:
    """Returns the network's features with a new head, which gives each class the same logit."""
    network = WithHead(trained.embed, ways).to(trained.head.weight.device).eval()
    nn.init.zeros_(network.head.weight)
    return network
