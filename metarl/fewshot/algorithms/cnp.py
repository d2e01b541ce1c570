"""Conditional neural processes: examples are encoded one by one, their codes averaged, and a
decoder answers from the mean.

Source: Garnelo et al. 2018 (arXiv:1807.01613).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_counts, check_layers
from metarl.errors import SettingError
from metarl.fewshot.algorithms.episodic import Episodic, class_means, embedded
from metarl.fewshot.algorithms.shared import Setting
from metarl.fewshot.types import Examples
from metarl.nn.mlp import MLP


class ConditionalProcess(nn.Module):
    """r = mean over the support of h(f(xᵢ), yᵢ), then g(f(x), r) (their eq. 2-4), f the feature
    network of the inputs.

    For classes there is one r for each, from its own examples. A joint decoder gives all logits
    from f(x) and the codes in the order of the labels (their section 4.3), and has to learn what to
    do with each place. Ours gives the logit of class w as g(f(x), r_w, mean r), the same g for all,
    which learns much faster and can't tell one label from another. A value is answered by its mean;
    the variance isn't modelled, as the suite's objective for values is the squared error.
    """

    def __init__(
        self,
        embed: nn.Module,
        num_features: int,
        *,
        ways: int,
        num_values: int,
        code_size: int,
        hidden_sizes: Sequence[int],
        joint_decoder: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        check_counts({"code_size": code_size})
        check_layers({"hidden_sizes": hidden_sizes})
        self.embed = embed
        self.num_values = num_values
        self.joint_decoder = joint_decoder
        self._ways = ways
        self.encode = MLP(
            (num_features + num_values, *hidden_sizes, code_size), "relu", generator=generator
        )
        if num_values:
            codes, outputs = code_size, num_values
        else:
            codes, outputs = (ways * code_size, ways) if joint_decoder else (2 * code_size, 1)
        self.decode = MLP(
            (num_features + codes, *hidden_sizes, outputs), "relu", generator=generator
        )

    def forward(self, support: Examples, x: Tensor) -> Tensor:
        """Returns logits [N, B, W] or values [N, B, O]."""
        own, asked = embedded(self.embed, support, x)
        if self.num_values:
            code = self.encode(torch.cat([own, support.y], dim=-1)).mean(1)
            return self._decoded(asked, code.unsqueeze(1))
        codes = class_means(self.encode(own), support.y)
        if self.joint_decoder:
            # A class without an example, of a task with fewer than the decoder has, has none.
            codes = functional.pad(codes, (0, 0, 0, self._ways - codes.shape[1]))
            return self._decoded(asked, codes.flatten(1).unsqueeze(1))
        beside_all = torch.cat([codes, codes.mean(1, keepdim=True).expand_as(codes)], dim=-1)
        return self._decoded(asked.unsqueeze(2), beside_all.unsqueeze(1)).squeeze(-1)

    def _decoded(self, asked: Tensor, code: Tensor) -> Tensor:
        """Decodes all pairs of features [..., F] and codes [..., C], whose other dimensions are
        broadcast."""
        leading = torch.broadcast_shapes(asked.shape[:-1], code.shape[:-1])
        return self.decode(
            torch.cat([asked.expand(*leading, -1), code.expand(*leading, -1)], dim=-1)
        )


def cnp(
    *,
    setting: Setting,
    train_ways: int | None,
    code_size: int,
    hidden_sizes: Sequence[int],
    joint_decoder: bool,
    **settings: Any,
) -> Episodic:
    """The learner. Args: see configs/learner/cnp.yaml. Raises: ValueError for a number out of
    range, and for other ways in training than in the evaluation with a joint decoder."""
    size, spec = setting.size, setting.source.spec
    trained_for = setting.training_size(train_ways).ways
    if joint_decoder and trained_for != size.ways:
        raise SettingError(
            f"joint_decoder=true: it can only answer for the ways of its training, {trained_for}, "
            f"and not for {size.ways}; "
            "expected joint_decoder=false"
        )
    answer = ConditionalProcess(
        setting.embed,
        setting.embed.num_features,
        ways=size.ways,
        num_values=spec.num_values,
        code_size=code_size,
        hidden_sizes=hidden_sizes,
        joint_decoder=joint_decoder,
        generator=setting.streams.init,
    )
    return Episodic(
        answer=answer,
        setting=setting,
        train_ways=train_ways,
        num_outputs=spec.num_outputs(size.ways),
        any_ways=not joint_decoder,
        **settings,
    )
