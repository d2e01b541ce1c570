"""The nearest neighbour, the least that a few-shot learner must beat: an answer is the class of the
closest support example."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core import saved
from metarl.core.checks import check_counts
from metarl.fewshot.algorithms.episodic import EpisodicAdapter, embedded, need_classes
from metarl.fewshot.algorithms.protonet import squared_distances
from metarl.fewshot.algorithms.shared import Setting, answer_metrics
from metarl.fewshot.evaluate import draw
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Examples, FewShotLearner, Needs
from metarl.nn.features import Flat
from metarl.types import Metrics, as_metrics


class NearestNeighbour(nn.Module):
    """logits_w(x) = −min ‖f(x) − f(xᵢ)‖² over the support examples xᵢ of class w."""

    def __init__(self, embed: nn.Module) -> None:
        super().__init__()
        self.embed = embed

    def forward(self, support: Examples, x: Tensor) -> Tensor:
        """Returns logits [N, B, W]."""
        own, asked = embedded(self.embed, support, x)
        others = functional.one_hot(support.y).mT.unsqueeze(1) == 0  # [N, 1, W, S]
        distances = squared_distances(asked, own).unsqueeze(2)  # [N, B, 1, S]
        return -distances.masked_fill(others, torch.inf).amin(-1)


class NearestPixels(FewShotLearner):
    """The nearest neighbour on the inputs themselves. Nothing is learned: an iteration only
    measures N training tasks.

    The setting's feature network isn't used.
    Raises: ValueError for a regression or a number out of range.
    """

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
    ) -> None:
        need_classes(setting.source, "nearest_neighbour")
        check_counts({"meta_batch_size": meta_batch_size})
        spec = setting.source.spec
        self._setting = setting
        self._num_tasks = meta_batch_size
        self._objective = OBJECTIVES[spec.kind]
        self._answer = NearestNeighbour(Flat(spec.input_shape))

    def adapter(self) -> EpisodicAdapter:
        return EpisodicAdapter(self._answer, self._setting.size.ways)

    def needs(self) -> Needs:
        return Needs(training=self._setting.training_size(), any_ways=True)

    def step(self) -> Metrics:
        of = self._setting
        size = of.training_size()
        episodes = draw(
            of.source, self._num_tasks, size, of.streams.tasks, "train", device=of.device
        )
        answer = self._answer(episodes.support, episodes.query.x)
        found = answer_metrics(self._objective, answer, episodes.query.y)
        return {"tasks": self._num_tasks, **as_metrics(found)}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is nothing to load. Raises: ValueError if there is something."""
        saved.check(state, self.state_dict())
