"""Conditional neural processes: examples are encoded one by one, their codes averaged, and a decoder answers from the mean.

Source: Garnelo et al. 2018 (arXiv:1807.01613).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.fewshot.algorithms.episodic import Episodic, embedded
from metarl.fewshot.types import Examples, Streams, TaskSize, TaskSource
from metarl.nn.batch_norm import use_running_statistics
from metarl.nn.mlp import MLP


class ConditionalProcess(nn.Module):
    """r = mean over the support of h(f(xᵢ), yᵢ), then g(f(x), r) (their eq. 2-4), f the feature network of the inputs.

    For classes there is one r for each, from its own examples, and g gives the logit of each class from f(x) and all
    codes in the order of the labels (their section 4.3). A value is answered by its mean; the variance isn't modelled, as
    the suite's objective for values is the squared error.
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
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.embed, self.ways, self.num_values = embed, ways, num_values
        self.encode = MLP((num_features + num_values, *hidden_sizes, code_size), "relu", generator=generator)
        codes, outputs = (code_size, num_values) if num_values else (ways * code_size, ways)
        self.decode = MLP((num_features + codes, *hidden_sizes, outputs), "relu", generator=generator)

    def forward(self, support: Examples, x: Tensor) -> Tensor:
        """[N, B, W] or [N, B, O]."""
        own, asked = embedded(self.embed, support, x)
        code = self._code(own, support.y)
        return self.decode(torch.cat([asked, code.unsqueeze(1).expand(-1, asked.shape[1], -1)], dim=-1))

    def _code(self, own: Tensor, y: Tensor) -> Tensor:
        """[N, codes]."""
        if self.num_values:
            return self.encode(torch.cat([own, y], dim=-1)).mean(1)
        labels = functional.one_hot(y, self.ways).to(own.dtype)
        return ((labels.mT @ self.encode(own)) / labels.sum(1).unsqueeze(-1)).flatten(1)


def cnp(
    *,
    source: TaskSource,
    size: TaskSize,
    embed: Any,
    streams: Streams,
    code_size: int,
    hidden_sizes: Sequence[int],
    **settings: Any,
) -> Episodic:
    """The learner. Args: see configs/learner/cnp.yaml. Raises: ValueError for a number out of range."""
    answer = ConditionalProcess(
        use_running_statistics(embed),
        embed.num_features,
        ways=size.ways,
        num_values=source.spec.num_values,
        code_size=code_size,
        hidden_sizes=hidden_sizes,
        generator=streams.init,
    )
    num_outputs = source.spec.num_outputs(size.ways)
    return Episodic(answer=answer, source=source, size=size, num_outputs=num_outputs, streams=streams, **settings)
