"""Batch norm that is right in second order and lets its user say whose statistics it takes.

Under torch.func's transforms it is written out in elementary operations: torch's fused `F.batch_norm(training=True)` is
silently wrong when a vmapped function is differentiated twice (2 % of Conv-4's meta-gradient). Autograd alone differentiates
that one rightly, and Conv-4 is a sixth faster with it. A task has no statistics before it is seen, so running ones are for
learners that don't adapt by gradient alone.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.adapt import inside_transform


class BatchNorm(nn.Module):
    """y = γ (x − mean) / √(var + ε) + β for each feature (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Mean and (biased) variance are those of the first `num_reference` examples, or of the whole batch if None. The whole
    batch is what the papers on gradient-based few-shot learning take, also at test time: *transductive*, since each
    answer then depends on the other questions. With the support set as reference it doesn't.
    """

    def __init__(self, num_features: int, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.epsilon = epsilon

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        """[B, C] or [B, C, H, W] -> the same shape."""
        # Torch's own refuses a single value a feature, and knows no reference.
        if num_reference is None and x.numel() > x.shape[1] and not inside_transform():
            return functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.epsilon)
        shape = (1, -1, *(1,) * (x.dim() - 2))
        dims = (0, *range(2, x.dim()))
        of = x if num_reference is None else x[:num_reference]
        mean = of.mean(dims, keepdim=True)
        variance = (of - mean).square().mean(dims, keepdim=True)
        scale = self.weight.reshape(shape) * torch.rsqrt(variance + self.epsilon)
        return (x - mean) * scale + self.bias.reshape(shape)


class RunningBatchNorm(nn.Module):
    """Batch norm as it is usual outside meta-learning by gradient: with the batch's statistics in training, and with their
    running mean in evaluation, so that no answer depends on another question. Can't be vmapped.

    `num_reference` has no effect: it is there for the sake of those that put this in place of a `BatchNorm`.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, num_features: int, *, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_variance", torch.ones(num_features))
        self.epsilon, self.momentum = epsilon, momentum

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        """[B, C] or [B, C, H, W] -> the same shape."""
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_variance,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.epsilon,
        )


def use_running_statistics(network: nn.Module) -> nn.Module:
    """`network` with a RunningBatchNorm in place of every BatchNorm within it."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, BatchNorm):
                setattr(module, name, RunningBatchNorm(len(child.weight), epsilon=child.epsilon))
    return network
