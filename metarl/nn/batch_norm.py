"""Batch norm that is right in second order and lets its user say whose statistics it takes.

Written out in elementary operations: torch's fused `F.batch_norm(training=True)` is silently wrong when a vmapped function is
differentiated twice (2 % of Conv-4's meta-gradient). There are no running statistics: a task has none before it is seen.
"""

import torch
from torch import Tensor, nn


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
        shape = (1, -1, *(1,) * (x.dim() - 2))
        dims = (0, *range(2, x.dim()))
        of = x if num_reference is None else x[:num_reference]
        mean = of.mean(dims, keepdim=True)
        variance = (of - mean).square().mean(dims, keepdim=True)
        scale = self.weight.reshape(shape) * torch.rsqrt(variance + self.epsilon)
        return (x - mean) * scale + self.bias.reshape(shape)
