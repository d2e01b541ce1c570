"""Prototypical networks: a class is the mean of its examples' embeddings, an answer the softmax of
negative distances to it.

Source: Snell et al. 2017 (arXiv:1703.05175).
"""

from typing import Any

from torch import Tensor, nn

from metarl.fewshot.algorithms.episodic import Episodic, class_means, embedded, need_classes
from metarl.fewshot.algorithms.shared import Setting
from metarl.fewshot.types import Examples


class ProtoNet(nn.Module):
    """logits_w(x) = −‖f(x) − c_w‖²,  c_w the mean of f over the support examples of class w (their
    eq. 1 and 2).

    The squared distance is the plain sum over features, as there.
    """

    def __init__(self, embed: nn.Module) -> None:
        super().__init__()
        self.embed = embed

    def forward(self, support: Examples, x: Tensor) -> Tensor:
        """Returns logits [N, B, W]."""
        own, asked = embedded(self.embed, support, x)
        return squared_distances(asked, class_means(own, support.y)).neg()


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖aᵢ − bⱼ‖² by one matrix product: [N, I, F], [N, J, F] -> [N, I, J]."""
    return a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2) - 2 * a @ b.mT


def protonet(*, setting: Setting, **settings: Any) -> Episodic:
    """The learner. Args: see configs/learner/protonet.yaml. Raises: ValueError for a regression."""
    need_classes(setting.source, "protonet")
    return Episodic(
        answer=ProtoNet(setting.embed), setting=setting, num_outputs=setting.size.ways, **settings
    )
